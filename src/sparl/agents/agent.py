"""The base class of agents."""

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
    """The optimiser of one network, which may also update its topology."""

    network: Network

    def step(self, trace: Trace, output_gradient: Array, agent_update: int) -> None:
        """Update the network once.

        Args:
            trace: trace of the forward pass that computed the outputs.
            output_gradient: gradient of the loss with respect to the outputs.
            agent_update: number of the agent's update, counted from 1.
        """

    def state(self) -> State:
        """Return everything that later results depend on, except the network itself."""

    def restore(self, state: State) -> None:
        """Restore a state; the network must already have been restored."""

    def most_connections(self) -> dict[Place, int]:
        """Return the maximum connection count of each layer whose connection count may change."""

    def longest(self) -> dict[str, int]:
        """Return the maximum length of each state array whose length may change."""

    def check(self, state: State, updates: int) -> None:
        """Check the counters of a state against the number of the agent's updates.

        Raises:
            ValueError: if a counter contradicts the number of updates.
        """


class _Part(Protocol):
    """A component of an agent that has a state."""

    def state(self) -> State:
        """Return everything that later results depend on."""

    def restore(self, state: State) -> None:
        """Restore a state."""


class Agent(ABC):
    """An algorithm, with its networks, its settings, and the rules by which it acts and learns.

    The rest of the package reads the attributes of an agent's class and never tests for a specific
    class. To add an agent, write a file with a subclass, and add the subclass to
    `sparl.agents.AGENTS` and to the presets.

    Args:
        learners: the learner of each network in `network_roles`, by name.
        targets: the target of each network whose role has one, by name.
        settings: hyperparameters, of type `settings_type`.
        exploration_rng: random stream of the exploratory actions.
        target_rng: random stream of the updates.

    Attributes:
        updates: number of updates so far.
    """

    settings_type: ClassVar[type[Any]]
    """A frozen dataclass; `Config` has a field of the same name for each of these fields."""
    head: ClassVar[ActionHead]
    """The function from the outputs of the network "actor" to actions."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """The names that `update` returns in addition to critic_loss, actor_loss and q."""
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
        self.actor: Network = learners["actor"].network

    @classmethod
    @abstractmethod
    def network_roles(cls, settings: Any, n_obs: int, n_act: int) -> dict[str, NetworkRole]:
        """Return the role of each network by name; the policy is called "actor"."""

    @classmethod
    @abstractmethod
    def multiply_adds(
        cls, settings: Any, sizes: Mapping[str, NetworkSize], n_act: int, n_step: int
    ) -> float:
        """Count the multiply-adds of one update, per sample of the batch.

        Biases, activations, Adam, target updates and topology updates are not counted.

        Args:
            settings: hyperparameters of the agent.
            sizes: sizes of the agent's networks, by name.
            n_act: length of an action.
            n_step: number of steps of the targets.
        """

    @abstractmethod
    def act(self, observation: Array) -> tuple[Array, Array]:
        """Return the exploratory and the noise-free action in a state [n_obs], [n_act] each."""

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, float]:
        """Update the networks and targets once, using a batch.

        Returns:
            critic_loss, q, actor_loss if the actor was updated, and `metrics`, by name.
        """

    @property
    def n_act(self) -> int:
        """Length of an action."""
        return self.actor.layout.n_out // self.head.outputs_per_action

    def policy(self, observation: Array) -> Array:
        """Return noise-free actions, float32 [B, n_act], for observations, float32 [B, n_obs].

        The entries of an action are in [-1, 1].
        """
        return self.head(self.actor(observation), self.n_act)

    def parts(self) -> dict[str, _Part]:
        """Return all components, by name; each network precedes its learner and target."""
        return {
            **{name: learner.network for name, learner in self.learners.items()},
            **{f"{name}_learner": learner for name, learner in self.learners.items()},
            **{f"{name}_target": target for name, target in self.targets.items()},
            "exploration_rng": self.exploration_rng,
            "target_rng": self.target_rng,
        }

    def networks(self) -> dict[str, State]:
        """Return the existing connections and the parameters of all networks, by name."""
        return {
            **{name: learner.network.state() for name, learner in self.learners.items()},
            **{f"{name}_target": target.existing() for name, target in self.targets.items()},
        }

    def state(self) -> dict[str, State]:
        """Return everything that an update or an action depends on, by component."""
        state: dict[str, State] = {"agent": {"updates": self.updates}}
        return state | {name: part.state() for name, part in self.parts().items()}

    def restore(self, state: dict[str, State]) -> None:
        """Restore a state; the networks must have the same shapes as when it was saved."""
        self.updates = int(state["agent"]["updates"])
        for name, part in self.parts().items():
            part.restore(state[name])

    def longest(self) -> dict[str, int]:
        """Return the maximum length of each state array whose length may change, by path."""
        longest: dict[str, int] = {}
        for name, learner in self.learners.items():
            longest |= {f"{name}_learner/{array}": n for array, n in learner.longest().items()}
            most = learner.most_connections()
            for place, pattern in learner.network.layout:
                for array in ("positions", "weight"):
                    path = "member{}.layer{}.{}".format(*place, array)
                    if place in most:
                        longest[f"{name}/{path}"] = most[place]
                    if name in self.targets:  # a target may keep dropped connections
                        longest[f"{name}_target/{path}"] = 2 * most.get(place, pattern.connections)
        return longest

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


def smallest(q: Array) -> Array:
    """Return the minimum over the members of an ensemble, float32 [B, 1], for q [E, B, 1].

    An entry of the result is NaN if the output of any member is NaN.
    """
    result: Array = functools.reduce(np.minimum, q)
    return result
