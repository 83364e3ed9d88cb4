"""Where topology meets networks: learners that evolve, and the agent built from them.

The only module that imports both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.random import Generator

from sparl.agents.sac import SAC, SACSettings
from sparl.agents.td3 import TD3, TD3Settings
from sparl.configuration import Config
from sparl.methods import Architecture
from sparl.networks.adam import Adam
from sparl.networks.initialize import (
    fan_in_bound,
    orthogonal,
    orthogonal_matrix,
    uniform_fan_in,
    xavier_bound,
    xavier_uniform,
)
from sparl.networks.mlp import Array, Layout, Network, Output, Place, State, Trace
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget, Target
from sparl.random_streams import generator_state, restore_generator, stream
from sparl.sparse.pattern import Pattern
from sparl.topology.density import Shape
from sparl.topology.initial import largest_of_matrix, largest_of_uniform, random_pattern
from sparl.topology.layer_view import FactoredGradient, LayerView
from sparl.topology.propose import Proposal, TopologyMethod, propose
from sparl.topology.rules import GRADIENT
from sparl.topology.schedule import NEVER, Schedule

_MOST = 1 << 53  # of a number in the record of a topology update; float64 holds integers up to it
_MOST_EVOLUTIONS = 1 << 20  # that are not yet recorded
INITIAL_WEIGHTS = {"uniform": uniform_fan_in, "xavier": xavier_uniform, "orthogonal": orthogonal}


@dataclass(frozen=True)
class Evolution:
    """One layer's part of one topology update.

    Attributes:
        agent_update: when, on the agent's clock.
        place: member and layer.
        connections: N, before and after.
        fraction: share of them that was asked for.
        moved: connections dropped, and as many grown.
        dropped_live: of the dropped, those whose weight was not 0.
        dropped_dead: of the dropped, those whose weight was exactly 0.
        returned: of the dropped, those grown again at once.
        initial_overlap: share of the connections that existed at the start.
    """

    agent_update: int
    place: Place
    connections: int
    fraction: float
    moved: int
    dropped_live: int
    dropped_dead: int
    returned: int
    initial_overlap: float


class EvolvingLearner:
    """Optimises one network and updates its topology when its schedule says so.

    Order: the optimiser's step, then the topology update (Sokar et al., algorithm 1), or the
    topology update instead of the step (RLx2), where a connection moves at all. A topology update
    that is due while the network does not learn (the policy delay) happens at its next step.

    Args:
        network: what learns.
        adam: its optimiser.
        method: how connections are chosen.
        schedule: when, and how many.
        rng: the topology's stream.
        skips_step: no optimiser step on an update where topology changes.
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
    ) -> None:
        self.network = network
        self.adam = adam
        self.schedule = schedule
        self.rng = rng
        self.skips_step = skips_step
        self.own_updates = 0
        self.evolutions: list[Evolution] = []  # not yet recorded; whoever records them empties it
        self._method = method
        self._due_seen = 0
        self._initial = [list(member) for member in network.layout.patterns]

    @property
    def method(self) -> TopologyMethod:
        """How connections are chosen; fixed, since the run records it by its rules' names."""
        return self._method

    def step(self, trace: Trace, output_gradient: Array, agent_update: int) -> None:
        """Learn from dL/d output of the traced pass; agent_update counts from 1."""
        self.own_updates += 1
        now = agent_update if self.schedule.clock == "agent" else self.own_updates
        due = self.schedule.due_until(now)
        topology_update = due > self._due_seen
        self._due_seen = due
        if not topology_update:
            self.adam.step(self.network, trace, output_gradient)
            return
        fraction = self.schedule.fraction_at(now)
        gradients = self._gradients(trace, output_gradient)  # before the step changes the weights
        if self.skips_step:
            proposals = self._propose(fraction, gradients)
            if not proposals:
                self.adam.step(self.network, trace, output_gradient)
        else:
            self.adam.step(self.network, trace, output_gradient)
            proposals = self._propose(fraction, gradients)
        self._rewire(proposals, agent_update, fraction)

    def _gradients(self, trace: Trace, output_gradient: Array) -> dict[Place, FactoredGradient]:
        """The dense gradients of the loss just taken, if a rule needs them."""
        if GRADIENT not in self.method.needs:
            return {}
        network = self.network
        return {
            place: FactoredGradient(*network.gradient_factors(trace, output_gradient, place))
            for place, _ in network.layout
        }

    def _propose(
        self, fraction: float, gradients: Mapping[Place, FactoredGradient]
    ) -> dict[Place, Proposal]:
        """The change of each layer in which a connection moves."""
        proposals = {}
        network = self.network
        for place, pattern in network.layout:
            weights = network.layout.read(network.parameters, place)
            view = LayerView(pattern, weights, gradients.get(place))
            proposal = propose(self.method, view, fraction, self.rng)
            if proposal is not None:
                proposals[place] = proposal
        return proposals

    def _rewire(
        self, proposals: Mapping[Place, Proposal], agent_update: int, fraction: float
    ) -> None:
        """Carry out the changes, and record them."""
        if not proposals:
            return
        for place, proposal in proposals.items():
            rewiring = proposal.rewiring
            self.evolutions.append(
                Evolution(
                    agent_update,
                    place,
                    rewiring.new.connections,
                    fraction,
                    proposal.dropped,
                    proposal.dropped_live,
                    proposal.dropped_dead,
                    proposal.dropped - rewiring.grown.size,
                    rewiring.new.overlap(self._initial[place[0]][place[1]]),
                )
            )
        rewirings = {place: proposal.rewiring for place, proposal in proposals.items()}
        old, new = self.network.layout, self.network.layout.rewired(rewirings)
        self.network.parameters = old.carry(self.network.parameters, new, rewirings)
        self.network.layout = new
        self.adam.rewire(new, rewirings)

    def state(self) -> State:
        """Moments, counters, the topology's stream and the initial patterns."""
        state: State = {f"adam.{k}": v for k, v in self.adam.state().items()}
        state |= {f"rng.{k}": v for k, v in generator_state(self.rng).items()}
        state |= {"own_updates": self.own_updates, "due_seen": self._due_seen}
        rows = [(e.agent_update, *e.place, *astuple(e)[2:]) for e in self.evolutions]
        state["evolutions"] = np.array(rows, np.float64).reshape(-1, 10)
        for (member, layer), _ in self.network.layout:
            initial = self._initial[member][layer]
            state[f"initial.member{member}.layer{layer}"] = initial.positions
        return state

    def longest(self, path: str) -> dict[str, int]:
        """Return the largest length of each array of the state whose length may change, by path."""
        return {f"{path}evolutions": _MOST_EVOLUTIONS}

    def restore(self, state: State) -> None:
        """Take over a state; the network has taken over its own before."""
        parts: dict[str, State] = {"adam": {}, "rng": {}, "initial": {}}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            if rest:
                parts[part][rest] = value
        self.adam.restore(parts["adam"], self.network.layout)
        restore_generator(self.rng, parts["rng"])
        self.own_updates = int(state["own_updates"])
        self._due_seen = int(state["due_seen"])
        rows = np.asarray(state["evolutions"])
        if not ((rows >= 0) & (rows <= _MOST)).all():
            raise ValueError(f"evolutions holds numbers outside [0, {_MOST:,}]")
        self.evolutions = [
            Evolution(int(at), (int(m), int(k)), int(n), f, int(moved), int(live), int(dead),
                      int(back), overlap)
            for at, m, k, n, f, moved, live, dead, back, overlap
            in rows.tolist()
        ]  # fmt: skip
        for (member, layer), pattern in self.network.layout:
            positions = np.asarray(parts["initial"][f"member{member}.layer{layer}"], np.int64)
            self._initial[member][layer] = Pattern(pattern.n_in, pattern.n_out, positions.copy())


def schedule(config: Config, network: str) -> Schedule:
    """The evolutions of a network. DS: updates 2, 1002, 2002, ... until the topology is frozen.

    No evolution happens in the last freeze_fraction of the horizon; updates begin after the
    warm-up, and on its own clock the actor counts every policy_delay-th of them.
    """
    every = config.rewire_every_updates
    if every == 0 or config.rewire not in ("both", network):
        return NEVER
    last_env_step = config.horizon - round(config.freeze_fraction * config.horizon)
    last = (last_env_step - config.warmup_env_steps) * config.updates_per_env_step
    if config.rewire_clock == "network" and network == "actor":
        last //= config.actor_every
    return Schedule(
        first=config.rewire_first_update or every,
        every=every,
        last=last,
        fraction=config.rewire_fraction,
        clock=config.rewire_clock,
        annealed=config.rewire_schedule == "cosine",
    )


def build_agent(config: Config, architecture: Architecture) -> TD3 | SAC:
    """The agent of a run: networks, optimisers, targets and evolution, all from config.seed."""
    n_obs = architecture.actor[0][0][0]  # no input gradient is wanted for observations
    output: Output = "tanh" if config.agent == "TD3" else "linear"
    actor = _network(config, "actor", [architecture.actor], output, n_obs)
    critics = _network(
        config, "critics", [architecture.critic] * architecture.critics, "linear", n_obs
    )
    learners = _learner(config, "actor", actor), _learner(config, "critics", critics)
    streams = stream(config.seed, "exploration"), stream(config.seed, "target noise")
    if config.agent == "SAC":
        soft = SACSettings(
            tau=config.tau,
            hard_target_every=config.hard_target_every,
            alpha=config.alpha,
            learn_alpha=config.learn_alpha,
            learning_rate=config.learning_rate,
            log_std=config.log_std,
            collect=config.collect,
        )
        return SAC(*learners, _target(config, critics), soft, *streams)
    settings = TD3Settings(
        tau=config.tau,
        policy_delay=config.policy_delay,
        exploration_noise=config.exploration_noise,
        target_noise=config.target_noise,
        noise_clip=config.noise_clip,
    )
    return TD3(*learners, _target(config, actor), _target(config, critics), settings, *streams)


def _network(
    config: Config,
    name: str,
    members: Sequence[Sequence[tuple[Shape, int]]],
    output: Output,
    first_gradient_input: int,
) -> Network:
    topology_rng = stream(config.seed, f"{name} topology")
    weights_rng = stream(config.seed, f"{name} weights")
    largest: dict[Place, Array] = {}
    patterns: list[list[Pattern]] = [[] for _ in members]
    for member, layers in enumerate(members):
        for layer, ((n_in, n_out), count) in enumerate(layers):
            if config.initial_topology == "random" or count == n_in * n_out:
                pattern = random_pattern(n_in, n_out, count, topology_rng)
            else:
                pattern, largest[member, layer] = _largest(config, n_in, n_out, count, weights_rng)
            patterns[member].append(pattern)
    layout = Layout(patterns, output, first_gradient_input)
    parameters = INITIAL_WEIGHTS[config.initial_weights](layout, weights_rng)
    for place, weights in largest.items():
        layout.write(parameters, place, weights)
    return Network(layout, parameters, ensemble=name == "critics")


def _largest(
    config: Config, n_in: int, n_out: int, count: int, rng: Generator
) -> tuple[Pattern, Array]:
    """The largest of a layer's initial weights: where they are, and they themselves."""
    if config.initial_weights == "orthogonal":
        matrix = orthogonal_matrix(n_in, n_out, rng)
        pattern = largest_of_matrix(matrix, count)
        return pattern, matrix.reshape(-1)[pattern.positions]
    rule = fan_in_bound if config.initial_weights == "uniform" else xavier_bound
    return largest_of_uniform(n_in, n_out, count, rule(n_in, n_out), rng)


def _learner(config: Config, name: str, network: Network) -> EvolvingLearner:
    return EvolvingLearner(
        network,
        Adam(network.layout, config.learning_rate, config.weight_decay, config.grown_moments),
        TopologyMethod.named(config.drop, config.grow),
        schedule(config, name),
        stream(config.seed, f"{name} evolution"),
        skips_step=config.rewire_skips_step,
    )


def _target(config: Config, network: Network) -> Target:
    if config.target_pattern == "own":
        return OwnPatternTarget(network)
    return SharedPatternTarget(network)
