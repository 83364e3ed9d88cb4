"""Choose the actions of a run's first steps, before the agent learns."""

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
    """Chooses random actions, or those of the trained agent from which the run starts.

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
            UsageError: if the agent was trained in a different environment.
        """
        if self._config.warm_start is None:
            return
        agent, here = load_agent(user_path(self._config.warm_start)), self._environment
        if (agent.n_obs, agent.n_act) != (here.n_obs, here.n_act):
            raise UsageError(
                f"warm_start {self._config.warm_start}: the agent has {agent.n_obs} inputs and "
                f"{agent.n_act} actions, but {self._config.env} has {here.n_obs} observations and "
                f"{here.n_act} actions"
            )
        self._policy = agent.policy

    def act(self, observation: Array) -> Array:
        """Return the action for an observation [n_obs]: float32 [n_act], in [-1, 1]."""
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
