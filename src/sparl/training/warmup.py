"""Choose the actions in the first steps of a run, before the agent learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparl.configuration import Config
from sparl.errors import UsageError
from sparl.random_streams import generator_state, restore_generator, stream
from sparl.training.agent_file import load_agent
from sparl.training.durable import user_path
from sparl.training.environment import Environment
from sparl.types import Array, State


class Warmup:
    """Chooses random actions, or the actions of the trained agent that warm_start names.

    Args:
        config: the configuration of the run.
        environment: the environment of the run.
    """

    def __init__(self, config: Config, environment: Environment) -> None:
        self._config = config
        self._environment = environment
        self._rng = stream(config.seed, "random actions")
        self._policy: Callable[[Array], Array] | None = None

    def load_policy(self) -> None:
        """Load the agent that the configuration field warm_start names, if it is set.

        Raises:
            DataError: if the agent cannot be read.
            UsageError: if the lengths of the agent's observations or actions differ from those of
                the environment.
        """
        if self._config.warm_start is None:
            return
        agent, here = load_agent(user_path(self._config.warm_start)), self._environment
        if (agent.n_obs, agent.n_act) != (here.n_obs, here.n_act):
            raise UsageError(
                f"warm_start {self._config.warm_start}: the agent expects observations of length "
                f"{agent.n_obs} and actions of length {agent.n_act}, but those of "
                f"{self._config.env} have lengths {here.n_obs} and {here.n_act}; name a run in the "
                "same environment"
            )
        self._policy = agent.policy

    def act(self, observation: Array) -> Array:
        """Return an action in [-1, 1], float32 [n_act], for an observation, float32 [n_obs]."""
        if self._policy is not None:
            action: Array = self._policy(observation[np.newaxis])[0]
            return action
        return self._rng.uniform(-1, 1, self._environment.n_act).astype(np.float32)

    def state(self) -> State:
        """Return the state of the random stream."""
        return generator_state(self._rng)

    def restore(self, state: State) -> None:
        """Restore the state of the random stream."""
        restore_generator(self._rng, state)
