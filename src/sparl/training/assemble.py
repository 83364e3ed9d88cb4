"""Construct the parts of a run from its configuration."""

from __future__ import annotations

import functools
from contextlib import ExitStack, closing

import numpy as np

from sparl import _native
from sparl.agents import AGENTS
from sparl.agents.observation_normalizer import ObservationStatistics, RawObservations
from sparl.architecture import Architecture, architecture
from sparl.build import build_agent, capacity_rule
from sparl.configuration import Config
from sparl.cost import least_checkpoint_bytes, network_bytes
from sparl.errors import ResourceError
from sparl.methods import check
from sparl.random_streams import stream
from sparl.replay.ring_buffer import RingBuffer, replay_bytes
from sparl.training.best_agent import BestAgent
from sparl.training.callbacks import Callbacks
from sparl.training.checkpoint import Checkpoints
from sparl.training.console import Progress, RunConsole
from sparl.training.environment import Environment, make_environment
from sparl.training.environment_factory import EnvironmentFactory
from sparl.training.evaluate import Evaluator
from sparl.training.interrupt import interrupt_held
from sparl.training.loop import Training
from sparl.training.machine import available_cores
from sparl.training.memory import memory_bytes
from sparl.training.record import Record
from sparl.training.run_folder import RunFolder
from sparl.training.saving import CheckpointSaver
from sparl.training.tensorboard import require_tensorboard
from sparl.training.warmup import Warmup
from sparl.training.wrappers import reject_lasting_state


def assemble(
    config: Config,
    *,
    quiet: bool = False,
    progress: Progress | None = None,
    folder: RunFolder | None = None,
    callbacks: Callbacks | None = None,
    factory: EnvironmentFactory | None = None,
) -> Training:
    """Construct the parts of a run; after an error, close the parts that are already open.

    Args:
        config: the run's configuration.
        quiet: whether to suppress all output.
        progress: how progress is shown; see RunConsole.
        folder: the locked folder of the run to resume; None creates a new one.
        callbacks: the callbacks of the run; None means no callbacks.
        factory: creates the environments; None if the configuration names a Gymnasium id.

    Raises:
        SparlError: if a part cannot be constructed; the subclass indicates the kind of error.
    """
    check(config)
    if config.tensorboard:
        require_tensorboard()
    make = functools.partial(make_environment, config, factory=factory)
    reject_lasting_state(make)
    with ExitStack() as opened, interrupt_held():
        environment = opened.enter_context(closing(make()))
        episodes, seed = config.evaluation_episodes, config.evaluation_seed
        evaluator = opened.enter_context(closing(Evaluator(make, episodes, seed)))
        console = _console(config, quiet=quiet, progress=progress)
        callbacks = callbacks or Callbacks()
        return _training(config, environment, evaluator, callbacks, opened, folder, console)


def _training(
    config: Config,
    environment: Environment,
    evaluator: Evaluator,
    callbacks: Callbacks,
    opened: ExitStack,
    folder: RunFolder | None,
    console: RunConsole,
) -> Training:
    n_obs, n_act = environment.n_obs, environment.n_act
    nets = architecture(config, n_obs, n_act)
    if folder is not None:
        Checkpoints(folder.files).check_state_size(least_checkpoint_bytes(config, nets))
    _check_memory(config, nets, n_obs, n_act)
    cores = available_cores()
    threads = config.threads or min(cores, 4)
    # A resumed run may have started on a machine with more cores.
    threads = min(threads, cores) if folder else threads
    pool = _native.Pool(threads)
    agent = build_agent(config, nets, pool)
    replay = RingBuffer(
        config.replay_rows, n_obs, n_act, config.gamma,
        keep_noise_free=config.dynamic_buffer, pool=pool,
    )  # fmt: skip
    normalizer = (
        ObservationStatistics.initial(n_obs) if config.normalize_observations else RawObservations()
    )
    warmup = Warmup(config, environment)
    if folder is None:
        warmup.load_policy()
    folder = opened.enter_context(closing(folder or RunFolder.create(config)))
    record = opened.enter_context(closing(Record(folder, config, nets, environment, threads)))
    best = BestAgent(folder)
    return Training(
        config, threads, folder, environment, evaluator, nets, agent, normalizer, warmup, replay,
        stream(config.seed, "replay"), capacity_rule(config), record,
        best, CheckpointSaver(config, folder, record, best, console), console, callbacks,
        opened.pop_all(),
        observation=np.zeros(n_obs, np.float32),
    )  # fmt: skip


def _console(config: Config, *, quiet: bool, progress: Progress | None) -> RunConsole:
    agent = AGENTS[config.agent]
    return RunConsole(
        config.end, agent.metrics, agent.main_metrics, config.warmup_env_steps,
        quiet=quiet, progress=progress,
    )  # fmt: skip


def _check_memory(config: Config, nets: Architecture, n_obs: int, n_act: int) -> None:
    """Reject a run that does not fit into memory, before memory is allocated.

    Raises:
        ResourceError: if the run does not fit; the message states how much memory is needed, and
            a capacity of the replay buffer that would fit, or else which options to reduce.
    """
    available = int(0.9 * memory_bytes())
    capacity = config.replay_rows
    per_transition = replay_bytes(1, n_obs, n_act, config.dynamic_buffer)
    networks = network_bytes(nets, config.batch_size)
    if networks + capacity * per_transition <= available:
        return
    fits = (available - networks) // per_transition
    advice = (
        f"--replay-capacity {fits} would fit"
        if fits > 0
        else "use smaller --hidden, --batch-size or densities"
    )
    raise ResourceError(
        f"not enough memory: a replay buffer of {capacity:,} transitions needs "
        f"{capacity * per_transition / 1e9:,.1f} GB and the networks about {networks / 1e9:,.1f} "
        f"GB, but a run may use at most {available / 1e9:,.1f} GB (90 % of the memory); {advice}"
    )
