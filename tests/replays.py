"""Save and restore the whole content of a replay buffer, which checkpoints do in parts."""

from __future__ import annotations

from sparl.replay.ring_buffer import RingBuffer
from sparl.types import State


def saved(replay: RingBuffer) -> State:
    """Return the stored transitions, oldest first."""
    first = replay.first
    return {**replay.transitions(first, first + replay.size), "first": first}


def restore(replay: RingBuffer, state: State) -> None:
    """Replace the content of a replay buffer by saved transitions of the same shapes."""
    replay.clear(int(state["first"]))
    replay.append(state)
