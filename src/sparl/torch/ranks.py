"""Give every rank of DistributedDataParallel the connections of the first rank."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def wrapper_of(weights: Iterable[torch.Tensor]) -> DistributedDataParallel | None:
    """Return the DistributedDataParallel that synchronises one of these weights, or None.

    Wrappers with a single rank are ignored. A module has no reference to its wrapper, so this
    function searches all live objects, which takes tens of milliseconds. It skips the search unless
    a process group with several ranks is initialised.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    if distributed.get_world_size() == 1:
        return None
    wanted = {id(weight) for weight in weights}
    for candidate in gc.get_objects():
        if (
            issubclass(type(candidate), DistributedDataParallel)
            and distributed.get_world_size(candidate.process_group) > 1
            and any(id(parameter) in wanted for parameter in candidate.parameters())
        ):
            return candidate
    return None


def of_first_rank(value: T, wrapper: DistributedDataParallel) -> T:
    """Return the value that the first rank passes; all ranks must call this function."""
    group = wrapper.process_group
    shared = [value]
    distributed.broadcast_object_list(shared, distributed.get_global_rank(group, 0), group)
    return shared[0]
