"""A trained agent, which can be used without the run that trained it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparl.agents import head_of
from sparl.agents.observation_normalizer import Normalizer
from sparl.errors import UsageError, damage_reported
from sparl.networks.network import Network
from sparl.training.action_scale import ActionScale
from sparl.training.tensors import Arrays
from sparl.training.trained_network import TrainedNetwork, networks_html, networks_of
from sparl.types import Array
from sparl.wording import visible

DEVICE_UPDATES = "device_updates"  # key of a manifest: updates on the device that trained the agent
_ACTION_DTYPES = ("float16", "float32", "float64", np.dtype(np.longdouble).name)


class TrainedAgent:
    """A trained agent, ready to act.

    Attributes:
        manifest: the content of agent.json.
        env_step: the environment step at which the agent was saved; 0 if it was trained on a
            device, which does not count its steps.
        actor: the policy's network.
        head: converts the outputs of the network to actions.
        normalizer: converts observations to the inputs of the network.
        networks: all networks in the agent's file, by name, such as actor and critics.
        n_obs: length of an observation.
        n_act: length of an action.
    """

    def __init__(
        self, manifest: dict[str, Any], actor: Network, normalizer: Normalizer, arrays: Arrays
    ) -> None:
        self.manifest = manifest
        self._arrays = arrays
        self.env_step = _count(manifest, "env_step")
        on_device = DEVICE_UPDATES in manifest
        self._device_updates = _count(manifest, DEVICE_UPDATES) if on_device else None
        self.actor = actor
        self.normalizer = normalizer
        policy = manifest["policy"]
        self._scale = ActionScale(
            np.asarray(policy["action_low"], np.float64),
            np.asarray(policy["action_high"], np.float64),
            _action_dtype(policy),
        )
        low, high = self._scale.low, self._scale.high
        if low.ndim != 1 or low.shape != high.shape or not np.isfinite([low, high]).all():
            raise ValueError(
                "action_low and action_high must be lists of finite numbers with equal lengths"
            )
        if not (low < high).all():
            raise ValueError("each element of action_low must be less than that of action_high")
        spec = actor.layout.spec
        self.n_obs, self.n_act = spec.n_in, self._scale.low.size
        self.head = head_of(policy["actions"])
        if policy["output_activation"] != self.head.output:
            raise ValueError(
                f"output_activation is {policy['output_activation']} but must be "
                f"{self.head.output} for the actions {self.head.formula}"
            )
        if spec.n_out != self.n_act * self.head.outputs_per_action:
            raise ValueError(
                f"the actor has {spec.n_out} outputs but must have {self.head.outputs_per_action} "
                f"for each of the {self.n_act} elements of an action"
            )

    @functools.cached_property
    def networks(self) -> dict[str, TrainedNetwork]:
        """All networks in the agent's file, by name.

        Raises:
            DataError: if a network is damaged.
        """
        with damage_reported("the networks of the agent cannot be read"):
            return networks_of(self.manifest, self._arrays)

    @property
    def when(self) -> str:
        """When the agent was saved, for example "step 1,000,000" or "update 5,000 on a device"."""
        if self._device_updates is not None:
            return f"update {self._device_updates:,} on a device"
        return f"step {self.env_step:,}"

    def __repr__(self) -> str:
        sizes = f"observations of length {self.n_obs}, actions of length {self.n_act}"
        connections = sum(pattern.connections for _, pattern in self.actor.layout)
        return f"<TrainedAgent {self._title()}: {sizes}, actor with {connections:,} connections>"

    def _repr_html_(self) -> str:
        return networks_html(self._title(), self.networks)

    def _title(self) -> str:
        """Return the method, the environment and `when`; the first two shortened and escaped."""
        method, env = (visible(str(self.manifest.get(name))[:80]) for name in ("method", "env"))
        return f"{method} on {env}, {self.when}"

    def policy(self, observation: Array) -> Array:
        """Return actions in [-1, 1] (float32 [B, n_act]) for observations (float32 [B, n_obs])."""
        return self.head(self.actor(self.normalizer(observation)), self.n_act)

    def predict(
        self, observation: NDArray[Any] | Sequence[float], deterministic: bool = True
    ) -> NDArray[Any]:
        """Return noise-free actions in the environment's units, within its action bounds.

        Args:
            observation: one observation [n_obs] or a batch [B, n_obs], of any real dtype.
            deterministic: must be True; exists so that code for Stable-Baselines3 works unchanged.

        Returns:
            Actions [n_act] or [B, n_act] with the dtype of the environment's actions.

        Raises:
            ValueError: if the observation has the wrong shape, or `deterministic` is False.
        """
        if not deterministic:
            raise UsageError(
                "predict: deterministic is False but must be True, because actions have no noise"
            )
        x = np.ascontiguousarray(observation, np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self.n_obs:
            raise ValueError(
                f"predict: the observation has shape {x.shape} "
                f"but must be ({self.n_obs},) or (batch, {self.n_obs})"
            )
        if x.size == 0:
            return np.zeros((0, self.n_act), self._scale.dtype)
        action = self.policy(np.atleast_2d(x)).reshape(*x.shape[:-1], self.n_act)
        return self._scale(action)


def _action_dtype(policy: dict[str, Any]) -> str:
    """Return the dtype of an agent's actions, which is float32 if the manifest does not name it."""
    name = policy.get("action_dtype", "float32")
    if name not in _ACTION_DTYPES:
        raise ValueError(
            f"action_dtype is {str(name)[:80]} but must be one of {', '.join(_ACTION_DTYPES)}"
        )
    return str(name)


def _count(manifest: dict[str, Any], name: str) -> int:
    """Return an entry of a manifest that must be a nonnegative integer.

    Raises:
        ValueError: if it is not one.
    """
    count = manifest[name]
    if type(count) is not int or count < 0:
        raise ValueError(f"{name} is {str(count)[:80]} but must be a nonnegative integer")
    return count
