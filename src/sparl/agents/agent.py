"""What an agent is made of and what it offers."""

from __future__ import annotations

from typing import Protocol

from sparl.networks.mlp import Array, Network, State, Trace
from sparl.replay.batch import Batch


class Learner(Protocol):
    """Optimises one network, and evolves its topology if it has been told to."""

    network: Network

    def step(self, trace: Trace, output_gradient: Array, agent_update: int) -> None:
        """Learn from dL/d output of the traced pass; agent_update counts from 1."""

    def state(self) -> State:
        """Everything but the network itself."""

    def restore(self, state: State) -> None:
        """Take over a state; the network has taken over its own before."""


class Agent(Protocol):
    """Acts and updates."""

    updates: int

    def policy(self, observation: Array) -> Array:
        """Noise-free actions in [-1, 1], [B, n_act], for [B, n_obs]."""

    def act(self, observation: Array) -> tuple[Array, Array]:
        """For [n_obs]: the action to take and the noise-free one, [n_act] each."""

    def update(self, batch: Batch) -> dict[str, float]:
        """One update; returns what to record."""

    def networks(self) -> dict[str, State]:
        """All networks by name: existing connections and their values."""

    def state(self) -> dict[str, State]:
        """Everything, by part."""

    def restore(self, state: dict[str, State]) -> None:
        """Take over a state."""
