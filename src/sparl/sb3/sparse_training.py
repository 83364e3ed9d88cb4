"""SparseTraining: a callback for sparse training of Stable-Baselines3's TD3, DDPG and SAC."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback

from sparl.console import PlainConsole
from sparl.errors import UsageError
from sparl.methods import preset
from sparl.old_names import TOPOLOGY_STATE, current
from sparl.topology.schedule import Schedule
from sparl.torch.attachment import (
    METHOD_PRESETS,
    Attachment,
    MethodName,
    check_method,
    plan_attachment,
)
from sparl.torch.dynamic_sparsity import DynamicSparsity

NETWORKS = ("actor", "critic")
MIN_TOPOLOGY_UPDATES = 20  # approximate minimum in a default schedule


class SparseTraining(BaseCallback):
    """Make the actor and the critics of TD3, DDPG or SAC sparse at the start of training.

    RigL grows connections by the gradients of each network's own loss: before Stable-Baselines3
    differentiates the critics' loss, it clears the gradients that the actor's loss caused in the
    critics. Target networks use the target rule of the method. The model stores the topology as
    plain numbers, so that model.save includes it, and a loaded model can be trained further with
    the same callback. When training ends, the callback detaches from the model. Training the model
    without the callback would make it dense.

    With reset_num_timesteps=False, the callback continues the model's schedule, which may come from
    an earlier call of learn, an interrupted training run or a checkpoint. A schedule that you pass
    covers all calls. A default schedule covers only the first call. For DS, each later call extends
    the schedule. SET and RigL anneal the fraction of connections that change to 0 during the first
    call, so later calls keep the connections and issue a warning. With reset_num_timesteps=True, a
    new schedule starts from the existing connections.

    For each network, the callback logs sparse/<network>_density, sparse/<network>_topology_updates,
    sparse/<network>_moved (the number of new connections in the last topology update) and, if there
    is a schedule, sparse/<network>_progress (the fraction of the schedule that is complete).

    Args:
        method: static, DS, SET or RigL; see sparl.torch.DynamicSparsity.
        density: density of each network's Linear layers, in (0, 1]; or a mapping of densities with
            the keys "actor" and "critic".
        schedule: when connections change, counted in updates of the agent (clock "agent") or of
            the network (clock "network"). With clock "agent" and a policy delay of d, each update
            of the actor counts as d. None means the schedule of sparl's preset for the length of
            this training, with a topology update every 1,000 updates of the agent (DS) or every
            10,000 updates of the network (SET, RigL), or more often in short training runs, so that
            there are at least about twenty topology updates; for static, it means no schedule.
        seed: seed of all random choices of the topology.
        verbose: 0 suppresses the tables of layers.

    Raises:
        UsageError: at creation, if the method or the keys of the densities are unknown. At the
            start of training, before anything is changed: if the algorithm is not supported, actor
            and critic share a Linear layer, the model was trained with another method or density,
            a default schedule is not possible because the number of updates depends on the length
            of episodes, or DynamicSparsity raises UsageError.
    """

    def __init__(
        self,
        method: MethodName,
        density: float | Mapping[str, float] = 0.1,
        *,
        schedule: Schedule | None = None,
        seed: int = 0,
        verbose: int = 1,
    ) -> None:
        super().__init__(verbose)
        check_method(method)
        densities = density if isinstance(density, Mapping) else dict.fromkeys(NETWORKS, density)
        if set(densities) != set(NETWORKS):
            raise UsageError(
                f"SparseTraining: density has the keys {', '.join(densities)} but must have the "
                "keys actor and critic"
            )
        self.method: MethodName = method
        self.densities = {name: float(densities[name]) for name in NETWORKS}
        self.schedule = schedule
        self.seed = seed
        self.sparsity: dict[str, DynamicSparsity] = {}
        self._handles: list[Any] = []
        # The network's number of updates after the calls of learn that a default schedule covers.
        self._ends: dict[str, int | None] = {}

    def _on_training_start(self) -> None:
        model = self.model
        if not isinstance(model, TD3 | DDPG | SAC):
            raise UsageError(
                f"SparseTraining: the model is a {type(model).__name__} but must be TD3, DDPG or "
                "SAC"
            )
        saved = self._saved(model)
        schedules = self._schedules(model, saved)
        arguments = {
            name: {
                "modules": getattr(model, name),
                "optimizer": getattr(model, name).optimizer,
                "method": self.method,
                "density": self.densities[name],
                "schedule": schedules[name],
                "target": getattr(model, f"{name}_target", None),
                "state": saved.get(name),
            }
            for name in NETWORKS
        }
        found = [DynamicSparsity.of(arguments[name]["optimizer"]) for name in NETWORKS]
        left = [sparsity for sparsity in found if sparsity]  # hooks of an interrupted training run
        # Both networks are checked before either is changed.
        _check_not_shared(*(plan_attachment(**arguments[name], replaced=left) for name in NETWORKS))
        for sparsity in left:
            sparsity.remove()
        for offset, name in enumerate(NETWORKS):
            self.sparsity[name] = DynamicSparsity(
                **arguments[name], seed=2 * self.seed + offset, quiet=True
            )
            if self.verbose:
                PlainConsole().print(f"{name}\n{self.sparsity[name].table()}")
        model.sparse_topology = {"method": self.method, "density": self.densities}
        for name, sparsity in self.sparsity.items():
            self._keep(name)
            hook = _keeping_hook(self, name)
            self._handles.append(sparsity.optimizer.register_step_post_hook(hook))

    def _saved(self, model: Any) -> dict[str, Any]:
        """Return the model's topology from an earlier training run, if any.

        With reset_num_timesteps=True, or without a schedule to continue, the count of updates
        restarts at 0.

        Raises:
            UsageError: if the topology was trained with a different method or density.
        """
        saved: dict[str, Any] = getattr(model, "sparse_topology", {})
        requested = {"method": self.method, "density": self.densities}
        for key, value in requested.items():
            if saved and saved[key] != value:
                raise UsageError(
                    f"SparseTraining: {key} is {value} but must be {saved[key]}, as in the earlier "
                    "training of the model"
                )
        if not saved:
            return {}
        continues = not self.locals.get("reset_num_timesteps", True) and (
            "schedule" in saved["critic"] and saved["critic"]["updates"] > 0
        )
        restart = {} if continues else {"updates": 0, "topology_updates": 0, "schedule": None}
        return {name: {**current(saved[name], TOPOLOGY_STATE), **restart} for name in NETWORKS}

    def _schedules(self, model: Any, saved: Mapping[str, Any]) -> dict[str, Schedule | None]:
        """Return the schedule of each network, counted in updates of that network."""
        self._ends = dict.fromkeys(NETWORKS)
        if self.method == "static":
            return dict.fromkeys(NETWORKS, self.schedule)
        delay = {"critic": 1, "actor": getattr(model, "policy_delay", 1)}
        found: dict[str, Schedule | None] = {}
        for name, every in delay.items():
            kept = saved.get(name, {})
            if self.schedule is not None:
                found[name] = _in_own_updates(self.schedule, every)
            elif kept.get("schedule") is not None:
                found[name] = self._continued(name, kept, model, every)
            else:
                to_come = updates_to_come(model)
                found[name] = _in_own_updates(self._default(to_come, every), every)
                self._ends[name] = to_come // every
        return found

    def _continued(self, name: str, kept: Mapping[str, Any], model: Any, delay: int) -> Schedule:
        """Return a network's saved schedule; extend it if it is a default one and not annealed."""
        schedule = Schedule(**kept["schedule"])
        end = self._ends[name] = kept.get("end")
        if end is None:
            return schedule
        if schedule.annealed:
            if kept["updates"] >= schedule.last:
                warnings.warn(
                    f"SparseTraining: the schedule of {self.method} covered an earlier call of "
                    "learn and has ended, so connections no longer change; pass a schedule that "
                    "covers all calls, schedule=Schedule(...), or start a new one with "
                    "reset_num_timesteps=True",
                    stacklevel=2,
                )
            return schedule
        later = max(0, kept["updates"] + updates_to_come(model) // delay - end)
        self._ends[name] = end + later
        return replace(schedule, last=schedule.last + later)

    def _default(self, to_come: int, delay: int) -> Schedule:
        """Return the preset's schedule for this training run, counted in updates on its clock."""
        config = preset(METHOD_PRESETS[self.method], "")
        own = delay if config.rewire_clock == "network" else 1
        every = max(1, min(config.rewire_every_updates, to_come // own // MIN_TOPOLOGY_UPDATES))
        return Schedule(
            first=config.rewire_first_update or every,
            every=every,
            last=round((1 - config.freeze_fraction) * to_come) // own,
            fraction=config.rewire_fraction,
            clock=config.rewire_clock,
            annealed=config.rewire_schedule == "cosine",
        )

    def _on_rollout_start(self) -> None:
        for name, sparsity in self.sparsity.items():
            sparsity.settle_targets()  # before any callback can save the model
            total = sparsity.schedule.total
            self.logger.record(f"sparse/{name}_density", sparsity.density)
            self.logger.record(f"sparse/{name}_topology_updates", sparsity.topology_updates)
            self.logger.record(f"sparse/{name}_moved", sparsity.moved)
            if total:
                done = sparsity.schedule.due_until(sparsity.updates)
                self.logger.record(f"sparse/{name}_progress", done / total)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        for sparsity in self.sparsity.values():
            sparsity.remove()
        while self._handles:
            self._handles.pop().remove()

    def _keep(self, name: str) -> None:
        """Store a network's current topology in the model, as values that JSON can represent."""
        sparsity = self.sparsity[name]
        kept = self.model.sparse_topology
        if name in kept and kept[name]["topology_updates"] == sparsity.topology_updates:
            kept[name]["updates"] = sparsity.updates
            return
        state = sparsity.state_dict()
        positions = {layer: p.tolist() for layer, p in state["positions"].items()}
        schedule = asdict(sparsity.schedule)
        kept[name] = {
            **state, "positions": positions, "schedule": schedule, "end": self._ends[name],
        }  # fmt: skip


def _keeping_hook(callback: SparseTraining, name: str) -> Any:
    def keep(optimizer: Any, args: object, kwargs: object) -> None:
        # If this callback's training was interrupted, another callback may be attached now.
        if DynamicSparsity.of(optimizer) is callback.sparsity[name]:
            callback._keep(name)

    return keep


def _check_not_shared(actor: Attachment, critic: Attachment) -> None:
    """Check that actor and critic have no Linear layer in common.

    The target of a shared layer would stay dense, or two optimizers would train the layer.

    Raises:
        UsageError: if actor and critic share a Linear layer.
    """
    of_actor = {id(layer.linear) for layer in actor.layers}
    for row in critic.rows:
        if id(row.module) in of_actor:
            raise UsageError(
                f"SparseTraining: actor and critic share the layer {row.name}; create the model "
                "with policy_kwargs={'share_features_extractor': False}"
            )


def _in_own_updates(schedule: Schedule, delay: int) -> Schedule:
    """Convert a schedule from agent updates to network updates, one per `delay` agent updates."""
    if schedule.clock == "network":
        return schedule
    return replace(
        schedule,
        first=-(-schedule.first // delay),
        every=-(-schedule.every // delay),
        last=schedule.last // delay,
    )


def updates_to_come(model: Any) -> int:
    """Return the number of agent updates until the end of this call of learn.

    Raises:
        UsageError: if the number depends on the length of episodes.
    """
    steps: int = model._total_timesteps - max(model.num_timesteps, model.learning_starts)
    if model.gradient_steps < 0:
        return max(0, steps)
    if model.train_freq.unit.value != "step":
        raise UsageError(
            "SparseTraining: train_freq is in episodes, so the number of updates is not known in "
            "advance; pass schedule=Schedule(...)"
        )
    every: int = model.train_freq.frequency * model.n_envs
    return max(0, steps // every * int(model.gradient_steps))
