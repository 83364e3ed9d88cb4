"""The base class of agents."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from sparl.agents.action_head import ActionHead
from sparl.networks.network import Network, Trace
from sparl.networks.spec import NetworkSpec, Place, mlp
from sparl.networks.target import Target
from sparl.random_streams import Normals
from sparl.replay.batch import Batch
from sparl.types import Array, State

ACTOR = "actor"  # name of the network that chooses the actions, in every agent


class Part(Protocol):
    """A component of an agent that has a state."""

    def state(self) -> State:
        """Return all values that change during training and affect later results."""

    def restore(self, state: State) -> None:
        """Restore a state; a network must have been restored before its learner and target."""


class Learner(Part, Protocol):
    """The optimiser of one network, which may also update its topology.

    Attributes:
        network: the network.
        topology_updates: dataclasses that describe the topology updates, each of which becomes a
            row of topology.csv; the recorder clears the list.
    """

    network: Network
    topology_updates: list[Any]

    def step(self, trace: Trace, output_gradient: Array, agent_update: int) -> None:
        """Update the network once.

        Args:
            trace: trace of the forward pass that computed the outputs.
            output_gradient: gradient of the loss with respect to the outputs, float32, with the
                shape of the outputs.
            agent_update: number of the agent's update, counted from 1.
        """

    def most_connections(self) -> dict[Place, int]:
        """Return the maximum connection count of each layer whose connection count may change."""

    def longest(self) -> dict[str, int]:
        """Return the maximum length of each state array whose length may change."""

    def check(self, state: State, updates: int) -> None:
        """Check the counters of a state against the number of the agent's updates.

        Raises:
            ValueError: if a counter contradicts the number of updates.
        """


class Agent(ABC):
    """An algorithm, with its networks, its settings, and the rules by which it acts and learns.

    The rest of the package reads the attributes of an agent's class and never tests for a specific
    class. To add an agent, write a file with a subclass, and add the subclass to
    `sparl.agents.AGENTS` and to the presets.

    Args:
        learners: the learner of each network in `network_specs`, by name.
        targets: the target of each network whose spec has one, by name.
        settings: hyperparameters, of type `settings_type`.
        exploration_rng: random stream of the exploratory actions.
        target_rng: random stream of the updates.

    Attributes:
        updates: number of updates so far.
    """

    settings_type: ClassVar[type[Any]]
    """A frozen dataclass. For each of its fields, `Config` has a field with the same name, which
    declares the default, the range and the meaning."""
    head: ClassVar[ActionHead]
    """Maps the outputs of the network "actor" to actions."""
    metrics: ClassVar[tuple[str, ...]]
    """The names of the values that `update` returns, which are columns of metrics.csv."""
    main_metrics: ClassVar[tuple[str, ...]] = ()
    """The metrics that a terminal shows first if there is no room for all metrics."""
    reads_path: ClassVar[bool] = False
    """Whether `update` reads every state within an n-step window, not only the last one."""

    def __init__(
        self,
        learners: Mapping[str, Learner],
        targets: Mapping[str, Target],
        settings: Any,
        exploration_rng: Generator,
        target_rng: Generator,
    ) -> None:
        self.learners = dict(learners)
        self.targets = dict(targets)
        self.settings = settings
        self.exploration_rng = Normals(exploration_rng)
        self.target_rng = Normals(target_rng)
        self.updates = 0
        self.actor: Network = learners[ACTOR].network

    @classmethod
    @abstractmethod
    def network_specs(
        cls, settings: Any, hidden: Sequence[int], n_obs: int, n_act: int
    ) -> dict[str, NetworkSpec]:
        """Return the dense specification of each network, by name; "actor" is the policy.

        Args:
            settings: hyperparameters of the agent.
            hidden: units of each hidden layer.
            n_obs: length of an observation.
            n_act: length of an action.
        """

    @classmethod
    @abstractmethod
    def multiply_adds(
        cls, settings: Any, specs: Mapping[str, NetworkSpec], n_act: int, n_step: int
    ) -> float:
        """Count the multiply-adds of one update, per sample of the batch.

        Biases, activations, Adam, target updates and topology updates are not counted.

        Args:
            settings: hyperparameters of the agent.
            specs: the agent's networks, by name, with their numbers of connections.
            n_act: length of an action.
            n_step: number of steps in the targets.
        """

    @classmethod
    def results_version(cls, settings: Any) -> int:
        """Return the version of the results that these settings lead to; see `sparl.identity`."""
        return 1

    @abstractmethod
    def act(self, observation: ArrayLike) -> tuple[Array, Array]:
        """Return an exploratory and a noise-free action in [-1, 1], float32 [n_act] each.

        Args:
            observation: [n_obs], of any real dtype; it is converted to float32.

        Raises:
            ValueError: if the observation has the wrong shape.
        """

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, float]:
        """Update the networks and targets once, using a batch.

        Args:
            batch: B transitions with observations of length n_obs and actions of length n_act, as
                float32; with paths if `reads_path` and n > 1.

        Returns:
            The values of `metrics` that this update computed, by name; all must be finite.

        Raises:
            ValueError: if the observations or actions have the wrong length.
        """

    @property
    def n_obs(self) -> int:
        """Length of an observation."""
        return self.actor.layout.spec.n_in

    @property
    def n_act(self) -> int:
        """Length of an action."""
        return self.actor.layout.spec.n_out // self.head.outputs_per_action

    def policy(self, observation: ArrayLike) -> Array:
        """Return noise-free actions in [-1, 1], float32 [B, n_act].

        Args:
            observation: [B, n_obs], of any real dtype; it is converted to float32.

        Raises:
            ValueError: if the observations have the wrong shape.
        """
        return self.head(self.actor(np.ascontiguousarray(observation, np.float32)), self.n_act)

    def check_batch(self, batch: Batch) -> None:
        """Raise ValueError unless observations and actions have the agent's lengths."""
        for name, array, length in (
            ("observation", batch.observation, self.n_obs),
            ("action", batch.action, self.n_act),
        ):
            if array.shape[1] != length:
                raise ValueError(
                    f"update: batch.{name} has length {array.shape[1]} but must have {length}"
                )

    def batch_of_one(self, observation: ArrayLike) -> Array:
        """Convert an observation, [n_obs] of any real dtype, to float32 [1, n_obs].

        Raises:
            ValueError: if the observation has the wrong shape.
        """
        batch = np.asarray(observation, np.float32)[np.newaxis]
        if batch.shape != (1, self.n_obs):
            raise ValueError(
                f"act: the observation has shape {batch.shape[1:]} but must have shape "
                f"({self.n_obs},)"
            )
        return np.ascontiguousarray(batch)

    def parts(self) -> dict[str, Part]:
        """Return all components, by name; each network precedes its learner and target."""
        return {
            **{name: learner.network for name, learner in self.learners.items()},
            **{f"{name}_learner": learner for name, learner in self.learners.items()},
            **{f"{name}_target": target for name, target in self.targets.items()},
            "exploration_rng": self.exploration_rng,
            "target_rng": self.target_rng,
        }

    def networks(self) -> dict[str, State]:
        """Return a copy of the connections and the parameters of all networks and targets, by name.

        The method blocks until pending updates have finished.

        Returns:
            For each network, the arrays of layer j of member i (0 if there is a single member):
            memberI.layerJ.positions, int64 [N], where position p is the connection from input
            p % n_in to output p // n_in; memberI.layerJ.weight, float32 [N]; and
            memberI.layerJ.bias, float32 [n_out].
        """
        return {
            **{name: learner.network.state() for name, learner in self.learners.items()},
            **{f"{name}_target": target.existing() for name, target in self.targets.items()},
        }

    def not_finite(self) -> list[str]:
        """Return the names of the arrays in `networks` that contain a value that is not finite."""
        return [
            f"{network}.{name}"
            for network, arrays in self.networks().items()
            for name, values in arrays.items()
            if not np.isfinite(values).all()
        ]

    def specs(self) -> dict[str, NetworkSpec]:
        """Return the specification of each network that `networks` returns, by name."""
        specs = {name: learner.network.layout.spec for name, learner in self.learners.items()}
        return specs | {f"{name}_target": specs[name] for name in self.targets}

    def state(self) -> dict[str, State]:
        """Return all values that change during training and affect later results, by component."""
        state: dict[str, State] = {"agent": {"updates": self.updates}}
        return state | {name: part.state() for name, part in self.parts().items()}

    def restore(self, state: dict[str, State]) -> None:
        """Restore a state; the networks must have the same shapes as when it was saved."""
        self.updates = int(state["agent"]["updates"])
        for name, part in self.parts().items():
            part.restore(state[name])

    def longest(self) -> dict[str, int]:
        """Return the maximum length of each state array whose length may change, by path."""
        of_parts: dict[str, dict[str, int]] = {}
        for name, learner in self.learners.items():
            most = learner.most_connections()
            of_parts |= {
                name: learner.network.layout.longest(most), f"{name}_learner": learner.longest(),
            }  # fmt: skip
            if name in self.targets:
                of_parts[f"{name}_target"] = self.targets[name].longest(most)
        return {
            f"{part}/{array}": length
            for part, longest in of_parts.items()
            for array, length in longest.items()
        }

    def check(self, state: dict[str, State], updates: int) -> None:
        """Check the counters of a state against the number of updates.

        Raises:
            ValueError: if a counter contradicts the number of updates.
        """
        found = state["agent"]["updates"]
        if found != updates:
            raise ValueError(f"the agent has made {found} updates but must have made {updates}")
        for name, learner in self.learners.items():
            try:
                learner.check(state[f"{name}_learner"], updates)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


def critics_spec(hidden: Sequence[int], n_obs: int, n_act: int, members: int) -> NetworkSpec:
    """Return an ensemble of critics Q(s, a) that have targets.

    The ensemble maps [B, n_obs + n_act] to [E, B, 1].
    """
    return NetworkSpec(
        mlp((n_obs + n_act, *hidden, 1)), members, ensemble=True, target=True,
        first_gradient_input=n_obs,
    )  # fmt: skip


def smallest(q: Array) -> Array:
    """Return the minimum over the members of an ensemble, float32 [B, 1], for q [E, B, 1].

    An entry of the result is NaN if the corresponding output of any member is NaN.
    """
    result: Array = functools.reduce(np.minimum, q)
    return result
