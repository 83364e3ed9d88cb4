"""SparseLearner: optimises one network and updates its topology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.networks.adam import Adam
from sparl.networks.network import Network, Trace
from sparl.networks.spec import Place, layer_key
from sparl.random_streams import generator_state, restore_generator
from sparl.sparse.pattern import Pattern
from sparl.topology.layer_view import FactoredGradient, LayerView
from sparl.topology.propose import Proposal, TopologyMethod, propose
from sparl.topology.rules import GRADIENT
from sparl.topology.schedule import Schedule
from sparl.types import Array, State


@dataclass(frozen=True)
class TopologyUpdate:
    """The change that a topology update made to one layer: one row of topology.csv.

    Attributes:
        agent_update: number of the agent's update, counted from 1.
        member: index of the member in the ensemble.
        layer: index of the layer in the member.
        connections: number of connections of the layer after the update.
        fraction: the fraction of the layer's connections to move, according to the schedule.
        moved: number of dropped connections; the same number is grown if the layer keeps its size.
        dropped_live: number of dropped connections whose weight was not 0.
        dropped_dead: number of dropped connections whose weight was exactly 0.
        returned: number of dropped connections that grew again in the same update.
        initial_overlap: fraction of the connections that already existed at the start of the run.
    """

    agent_update: int
    member: int
    layer: int
    connections: int
    fraction: float
    moved: int
    dropped_live: int
    dropped_dead: int
    returned: int
    initial_overlap: float


_COLUMNS = {field.name: field.type for field in fields(TopologyUpdate)}
_PREFIX = "topology_updates."
_MOST_UPDATES = 1 << 20  # maximum length of SparseLearner.topology_updates in a state


class SparseLearner:
    """Optimises one network and updates its topology on a schedule.

    The topology update follows the optimiser's step (Sokar et al., algorithm 1), or replaces the
    step if any connection moves (RLx2). A topology update that is due while the network is not
    updated (policy delay) happens at the network's next update.

    Args:
        network: the network.
        adam: the optimiser of the network.
        method: the rules that choose connections.
        schedule: times of the topology updates, and the fraction of connections to move.
        rng: random stream of the topology.
        skips_step: whether a topology update replaces the optimiser's step.
        update_period: updates of the agent per update of this network.

    Attributes:
        topology_updates: updates that have not been recorded yet; the recorder clears the list.
    """

    def __init__(
        self,
        network: Network,
        adam: Adam,
        method: TopologyMethod,
        schedule: Schedule,
        rng: Generator,
        *,
        skips_step: bool = False,
        update_period: int = 1,
    ) -> None:
        self.network = network
        self.adam = adam
        self.schedule = schedule
        self.rng = rng
        self.skips_step = skips_step
        self.update_period = update_period
        self.own_updates = 0
        self.topology_updates: list[TopologyUpdate] = []
        self.method = method
        self._due_seen = 0
        self._initial = dict(network.layout)

    def step(self, trace: Trace, output_gradient: Array, agent_update: int) -> None:
        """Update the network once; see sparl.agents.agent.Learner."""
        self.own_updates += 1
        now = agent_update if self.schedule.clock == "agent" else self.own_updates
        due = self.schedule.due_until(now)
        topology_update = due > self._due_seen
        self._due_seen = due
        if not topology_update:
            self.adam.step(self.network, trace, output_gradient)
            return
        gradients = self._gradients(trace, output_gradient)  # before the step changes the weights
        if self.skips_step:
            proposals = self._propose(now, gradients)
            if not proposals:
                self.adam.step(self.network, trace, output_gradient)
        else:
            self.adam.step(self.network, trace, output_gradient)
            proposals = self._propose(now, gradients)
        self._rewire(proposals, agent_update)

    def _gradients(self, trace: Trace, output_gradient: Array) -> dict[Place, FactoredGradient]:
        """Return the factors of each layer's dense gradient, or {} if no rule needs gradients."""
        if GRADIENT not in self.method.needs:
            return {}
        network = self.network
        return {
            place: FactoredGradient(*network.gradient_factors(trace, output_gradient, place))
            for place, _ in network.layout
        }

    def _propose(
        self, now: int, gradients: Mapping[Place, FactoredGradient]
    ) -> dict[Place, Proposal]:
        """Propose a change for each layer in which at least one connection moves.

        Args:
            now: number of the update on the schedule's clock.
            gradients: factors of the layers' dense gradients, if a rule needs them.
        """
        proposals = {}
        network = self.network
        for place, pattern in network.layout:
            weights = network.layout.read(network.parameters, place)
            view = LayerView(pattern, weights, gradients.get(place))
            progress = self.schedule.of_layer(now, self._initial[place].connections, pattern)
            connections, fraction = self.method.density(progress)
            proposal = propose(self.method, view, fraction, self.rng, connections)
            if proposal is not None:
                proposals[place] = proposal
        return proposals

    def _rewire(self, proposals: Mapping[Place, Proposal], agent_update: int) -> None:
        """Apply the proposed changes and record them."""
        if not proposals:
            return
        for place, proposal in proposals.items():
            rewiring = proposal.rewiring
            self.topology_updates.append(
                TopologyUpdate(
                    agent_update,
                    *place,
                    rewiring.new.connections,
                    proposal.fraction,
                    proposal.dropped,
                    proposal.dropped_live,
                    proposal.dropped_dead,
                    proposal.returned,
                    rewiring.new.overlap(self._initial[place]),
                )
            )
        rewirings = {place: proposal.rewiring for place, proposal in proposals.items()}
        new = self.network.layout.rewired(rewirings)
        self.network.rewire(new, rewirings)
        self.adam.rewire(new, rewirings)

    def state(self) -> State:
        """Return the moments, counters, state of the random stream and initial patterns.

        The topology updates that have not been recorded yet are also included.
        """
        state: State = {f"adam.{k}": v for k, v in self.adam.state().items()}
        state |= {f"rng.{k}": v for k, v in generator_state(self.rng).items()}
        state |= {"own_updates": self.own_updates, "due_seen": self._due_seen}
        state |= {f"{_PREFIX}{k}": v for k, v in _columns(self.topology_updates).items()}
        for place, _ in self.network.layout:
            state[f"initial.{layer_key(place)}"] = self._initial[place].positions
        return state

    def restore(self, state: State) -> None:
        """Restore a state; the network must already have been restored.

        Raises:
            KeyError: if an entry is missing.
            ValueError: if an array has the wrong size or contains invalid values.
        """
        parts: dict[str, State] = {"adam": {}, "rng": {}, "initial": {}, "topology_updates": {}}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            if rest:
                parts[part][rest] = value
        self._check_moments(parts["adam"])
        self.adam.restore(parts["adam"], self.network.layout)
        restore_generator(self.rng, parts["rng"])
        self.own_updates = int(state["own_updates"])
        self._due_seen = int(state["due_seen"])
        self.topology_updates = _from_columns(parts["topology_updates"])
        for place, pattern in self.network.layout:
            positions = np.asarray(parts["initial"][layer_key(place)], np.int64)
            self._initial[place] = Pattern(pattern.n_in, pattern.n_out, positions.copy())

    def _check_moments(self, moments: State) -> None:
        """Check that every connection of the network has a first and a second moment.

        Raises:
            ValueError: if the number of moments differs from the number of connections.
        """
        for place, pattern in self.network.layout:
            for name in ("m", "v"):
                key = f"{name}.{layer_key(place)}.weight"
                if np.shape(moments[key]) != (pattern.connections,):
                    raise ValueError(
                        f"adam.{key} has {np.size(moments[key])} moments but must have one for "
                        f"each of the {pattern.connections} connections"
                    )

    def most_connections(self) -> dict[Place, int]:
        """Return the maximum connection count of each layer whose connection count may change."""
        if not self.method.changes_density or not self.schedule.every:
            return {}
        return {place: pattern.size for place, pattern in self.network.layout}

    def longest(self) -> dict[str, int]:
        """Return the maximum length of each state array whose length may change."""
        longest = {f"{_PREFIX}{name}": _MOST_UPDATES for name in _COLUMNS}
        for place, most in self.most_connections().items():
            longest |= {f"adam.{name}.{layer_key(place)}.weight": most for name in ("m", "v")}
        return longest

    def check(self, state: State, updates: int) -> None:
        """Check the counters of a state against the number of the agent's updates.

        Raises:
            ValueError: if a counter contradicts the number of updates.
        """
        own, steps, due = (int(state[k]) for k in ("own_updates", "adam.steps", "due_seen"))
        if own != updates // self.update_period or steps > own or due > updates:
            raise ValueError(
                f"the learner made {own} updates, {steps} Adam steps and {due} topology updates, "
                f"which is inconsistent with {updates} updates of the agent"
            )


def _columns(updates: Sequence[TopologyUpdate]) -> dict[str, NDArray[np.generic]]:
    """Return an array for each field of the updates, int64 or float64 [updates]."""
    rows = [astuple(update) for update in updates]
    return {
        name: np.array([row[i] for row in rows], np.int64 if kind == "int" else np.float64)
        for i, (name, kind) in enumerate(_COLUMNS.items())
    }


def _from_columns(columns: State) -> list[TopologyUpdate]:
    """Rebuild the topology updates from the arrays that `_columns` returned.

    Raises:
        KeyError: if a column is missing.
        ValueError: if a number is negative, a fraction exceeds 1, or the columns differ in length.
    """
    arrays = {name: np.asarray(columns[name]) for name in _COLUMNS}
    for name, values in arrays.items():
        most = 1 if values.dtype.kind == "f" else np.iinfo(np.int64).max
        if not ((values >= 0) & (values <= most)).all():
            raise ValueError(f"{_PREFIX}{name} has values outside [0, {most}]")
    rows = zip(*(values.tolist() for values in arrays.values()), strict=True)
    return [TopologyUpdate(*row) for row in rows]
