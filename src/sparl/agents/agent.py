"""What agents are made of and have in common."""

from __future__ import annotations

import functools
from typing import ClassVar, Protocol

import numpy as np

from sparl.networks.mlp import Array, Network, State, Trace
from sparl.random_streams import Normals


class Learner(Protocol):
    """Optimises one network, and evolves its topology if it has been told to."""

    network: Network

    def step(self, trace: Trace, output_gradient: Array, agent_update: int) -> None:
        """Learn from dL/d output of the traced pass; agent_update counts from 1."""

    def longest(self, path: str) -> dict[str, int]:
        """The largest length of each array of the state whose length may change, by path."""

    def state(self) -> State:
        """Everything but the network itself."""

    def restore(self, state: State) -> None:
        """Take over a state; the network has taken over its own before."""


class Agent:
    """What agents have in common: a state made of their parts'.

    Attributes:
        updates: how many there were.
        target_rng: of the random numbers in the updates.
        parts: names of the attributes that hold a state; networks before what belongs to them.
    """

    updates: int
    target_rng: Normals
    parts: ClassVar[tuple[str, ...]]

    def networks(self) -> dict[str, State]:
        """All networks by name: existing connections and their values."""
        networks = {}
        for name in self.parts:
            part = getattr(self, name)
            if isinstance(part, Network):
                networks[name] = part.state()
            elif hasattr(part, "existing"):
                networks[name] = part.existing()
        return networks

    def state(self) -> dict[str, State]:
        """Everything that an update or an action depends on, by part."""
        state: dict[str, State] = {"agent": {"updates": self.updates}}
        for name in self.parts:
            state[name] = getattr(self, name).state()
        return state

    def longest(self) -> dict[str, int]:
        """Return the largest length of each array of the state whose length may change, by path."""
        longest: dict[str, int] = {}
        for name in ("actor", "critics"):
            longest |= getattr(self, f"{name}_learner").longest(f"{name}_learner/")
            for path, array in getattr(self, name).state().items():
                if path.endswith((".positions", ".weight")):  # and as many leftovers
                    longest[f"{name}_target/{path}"] = 2 * len(np.asarray(array))
        return longest

    def restore(self, state: dict[str, State]) -> None:
        """Take over a state of an agent of the same shapes."""
        self.updates = int(state["agent"]["updates"])
        for name in self.parts:
            getattr(self, name).restore(state[name])


def smallest(q: Array) -> Array:
    """The smallest of an ensemble's outputs, float32 [B, 1] for [E, B, 1]; NaN where one is."""
    result: Array = functools.reduce(np.minimum, q)
    return result
