"""What agents declare and have in common."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.random import Generator

from sparl.agents.action_head import ActionHead
from sparl.agents.network_role import NetworkRole, NetworkSize
from sparl.networks.layout import Place
from sparl.networks.network import Network, Trace
from sparl.networks.target import Target
from sparl.random_streams import Normals
from sparl.replay.batch import Batch
from sparl.types import Array, State


class Learner(Protocol):
    """Optimises one network, and changes its topology if it has been told to."""

    network: Network

    def step(self, trace: Trace, output_gradient: Array, agent_update: int) -> None:
        """Learn from dL/d output of the traced pass; agent_update counts from 1."""

    def state(self) -> State:
        """Everything but the network itself."""

    def restore(self, state: State) -> None:
        """Take over a state; the network has taken over its own before."""

    def most_connections(self) -> dict[Place, int]:
        """Return the most connections of each layer whose number may change."""

    def longest(self) -> dict[str, int]:
        """Return the largest length of each array of the state whose length may change."""

    def check(self, state: State, updates: int) -> None:
        """Check the counters of a state after so many updates of the agent.

        Raises:
            ValueError: a counter contradicts the number of updates.
        """


class _Part(Protocol):
    """An object of an agent that has a state."""

    def state(self) -> State:
        """Everything that it depends on."""

    def restore(self, state: State) -> None:
        """Take over a state."""


class Agent(ABC):
    """An algorithm: what it declares about itself, how it acts and how it updates.

    The rest of the package asks an agent's class what it needs and never which class it is. A
    new agent is a file with a subclass, its entry in `sparl.agents.AGENTS`, and its presets.

    Args:
        learners: of each network that `network_roles` names.
        targets: of each network whose role has a target.
        settings: of `settings_type`.
        exploration_rng: stream of the actions taken.
        target_rng: stream of the random numbers in the updates.

    Attributes:
        updates: how many there were.
    """

    settings_type: ClassVar[type[Any]]
    """A frozen dataclass; each of its fields is a field of a configuration, by name."""
    head: ClassVar[ActionHead]
    """How actions follow from the outputs of the network "actor"."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """What `update` returns besides critic_loss, actor_loss and q."""
    reads_path: ClassVar[bool] = False
    """Whether `update` reads the states within an n-step window, not only its last one."""

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
        self.actor: Network = learners["actor"].network

    @classmethod
    @abstractmethod
    def network_roles(cls, settings: Any, n_obs: int, n_act: int) -> dict[str, NetworkRole]:
        """Return what the algorithm asks of its networks, by name; "actor" is the policy's."""

    @classmethod
    @abstractmethod
    def multiply_adds(
        cls, settings: Any, sizes: Mapping[str, NetworkSize], n_act: int, n_step: int
    ) -> float:
        """Count the multiply-adds of one update, per sample of the batch.

        Biases, activations, Adam, target updates and topology updates are not counted.

        Args:
            settings: of the agent.
            sizes: of its networks.
            n_act: length of an action.
            n_step: steps of the targets.
        """

    @abstractmethod
    def act(self, observation: Array) -> tuple[Array, Array]:
        """Return the action to take in a state [n_obs], and the noise-free one, [n_act] each."""

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, float]:
        """Update everything once from a batch.

        Returns:
            critic_loss, q, where due actor_loss, and `metrics`, by name.
        """

    @property
    def n_act(self) -> int:
        """Length of an action."""
        return self.actor.layout.n_out // self.head.outputs_per_action

    def policy(self, observation: Array) -> Array:
        """Return noise-free actions, float32 [B, n_act] in [-1, 1], for float32 [B, n_obs]."""
        return self.head(self.actor(observation), self.n_act)

    def parts(self) -> dict[str, _Part]:
        """Return all that has a state, by name; a network comes before what belongs to it."""
        return {
            **{name: learner.network for name, learner in self.learners.items()},
            **{f"{name}_learner": learner for name, learner in self.learners.items()},
            **{f"{name}_target": target for name, target in self.targets.items()},
            "exploration_rng": self.exploration_rng,
            "target_rng": self.target_rng,
        }

    def networks(self) -> dict[str, State]:
        """Return the existing connections of all networks, and their values, by name."""
        return {
            **{name: learner.network.state() for name, learner in self.learners.items()},
            **{f"{name}_target": target.existing() for name, target in self.targets.items()},
        }

    def state(self) -> dict[str, State]:
        """Return everything that an update or an action depends on, by part."""
        state: dict[str, State] = {"agent": {"updates": self.updates}}
        return state | {name: part.state() for name, part in self.parts().items()}

    def restore(self, state: dict[str, State]) -> None:
        """Take over a state of an agent of the same shapes."""
        self.updates = int(state["agent"]["updates"])
        for name, part in self.parts().items():
            part.restore(state[name])

    def longest(self) -> dict[str, int]:
        """Return the largest length of each array of the state whose length may change, by path."""
        longest: dict[str, int] = {}
        for name, learner in self.learners.items():
            longest |= {f"{name}_learner/{array}": n for array, n in learner.longest().items()}
            most = learner.most_connections()
            for place, pattern in learner.network.layout:
                for array in ("positions", "weight"):
                    path = "member{}.layer{}.{}".format(*place, array)
                    if place in most:
                        longest[f"{name}/{path}"] = most[place]
                    if name in self.targets:  # connections that the network dropped may be left
                        longest[f"{name}_target/{path}"] = 2 * most.get(place, pattern.connections)
        return longest

    def check(self, state: dict[str, State], updates: int) -> None:
        """Check the counters of a state after so many updates.

        Raises:
            ValueError: a counter contradicts the number of updates.
        """
        found = state["agent"]["updates"]
        if found != updates:
            raise ValueError(f"the agent has {found} updates, must have {updates}")
        for name, learner in self.learners.items():
            try:
                learner.check(state[f"{name}_learner"], updates)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


def smallest(q: Array) -> Array:
    """The smallest of an ensemble's outputs, float32 [B, 1] for [E, B, 1]; NaN where one is."""
    result: Array = functools.reduce(np.minimum, q)
    return result
