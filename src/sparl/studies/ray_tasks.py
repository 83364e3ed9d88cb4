"""Train the runs of a study as tasks on a Ray cluster.

All machines must have access to the study's folder. The processes of an existing cluster may have
another working directory and another PYTHONPATH than the study. Runs are started with those of the
study, so that they find the same modules.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparl.errors import RunInUse, UsageError
from sparl.studies.execute import start
from sparl.studies.progress import progress
from sparl.studies.study import Unit
from sparl.studies.unit import record_end, record_loss
from sparl.training.interrupt import stop_on_signal
from sparl.user_modules import imported_modules

LOCAL = "local"
POLL_SECONDS = 1.0
OLDEST_RAY = (2, 59)  # minimum version, as in pyproject.toml
ATTEMPTS = 10  # maximum number of retries of a run whose worker is lost


def execute_on_ray(
    folder: Path, units: Sequence[Unit], address: str, processes: int,
    wait: Callable[[float], None], finished: Callable[[Unit], None],
) -> signal.Signals | None:  # fmt: skip
    """Train all units as one-core Ray tasks; if a worker is lost, another one resumes its run.

    Args:
        folder: folder of the study, which must have the same path on every machine.
        units: the units to train.
        address: address of a running cluster, or "local" to start one for this study.
        processes: maximum number of simultaneous runs on a local cluster.
        wait: a function that waits for a number of seconds; it is called repeatedly.
        finished: a function that is called with each unit that has finished.

    Returns:
        The signal that stopped the study; None if no signal stopped it.

    Raises:
        UsageError: if Ray is not installed or too old, there is no cluster at the address, or a
            local cluster would be unprotected.
    """
    ray = _connected_ray(address, processes)
    where = folder.resolve()
    try:
        if address == LOCAL:
            _check_loopback(ray.util.get_node_ip_address())
        # Ray restarts a task when its worker dies; the unit then resumes from its checkpoint.
        task = ray.remote(num_cpus=1, max_retries=ATTEMPTS)(_unit)
        launch = imported_modules(), Path.cwd(), os.environ.get("PYTHONPATH", "")
        waiting = {task.remote(where, unit, *launch): unit for unit in units}
        with stop_on_signal() as stop:
            while waiting and stop.signal is None:
                wait(POLL_SECONDS)
                done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
                for reference in done:
                    unit = waiting.pop(reference)
                    try:
                        code = ray.get(reference)
                        record_end(where, unit, code)
                        if code == 0:
                            finished(unit)
                    except ray.exceptions.RayError as error:
                        record_loss(where, unit, " ".join(str(error).split()))
            for reference in waiting:
                ray.cancel(reference)
            if waiting:  # each run saves its state before it ends
                ray.wait(list(waiting), num_returns=len(waiting), timeout=60)
            return stop.signal
    finally:
        ray.shutdown()


def _connected_ray(address: str, processes: int) -> Any:
    """Import Ray, and connect to a cluster; for "local", start the cluster.

    Raises:
        UsageError: under the same conditions as execute_on_ray.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        _protect_local_cluster()
    try:
        import ray
    except ImportError:
        raise UsageError("study: --ray needs Ray: pip install 'sparl[ray]'") from None
    _check_version(ray.__version__)
    _check_address(address)
    local: dict[str, Any] = {"num_cpus": processes, "include_dashboard": False}
    options: dict[str, Any] = local if address == LOCAL else {}
    try:
        # Ray's workers import modules from the working directory of this call first, but a study's
        # folder is untrusted. Each run receives its working directory.
        with contextlib.chdir("/"):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"study: no Ray cluster at {address}: {reason} (if the cluster requires a token, set "
            "RAY_AUTH_MODE=token here too)"
        ) from None
    return ray


def _protect_local_cluster() -> None:
    """Configure Ray to start clusters that listen on loopback only and require a token.

    Ray reads these environment variables when it is imported. RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER
    defaults to 0 on macOS and Windows, where it keeps other machines from connecting; the
    value 0 has the same effect on Linux.

    Raises:
        UsageError: if RAY_AUTH_MODE disables tokens.
    """
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise UsageError(
            f"study: RAY_AUTH_MODE is {mode!r}, which allows every user of this machine to use the "
            "cluster; unset RAY_AUTH_MODE, or set it to token"
        )
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        # Without this variable, Ray would store a token in the home directory.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _check_version(version: str) -> None:
    """Raise UsageError for a version of Ray that cannot require a token."""
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if parts < OLDEST_RAY:
        raise UsageError(
            f"study: the version of Ray is {version} but must be at least "
            f"{OLDEST_RAY[0]}.{OLDEST_RAY[1]}: pip install -U 'sparl[ray]'"
        )


def _check_loopback(node: str) -> None:
    """Raise UsageError if other machines can reach the local cluster."""
    if not ipaddress.ip_address(node).is_loopback:
        raise UsageError(
            f"study: Ray listens at {node}, where other machines can reach it, because it was "
            "imported before the study started; start the study in a new process"
        )


def _check_address(address: str) -> None:
    """Check that a process listens at HOST:PORT, because Ray itself would wait for minutes.

    Raises:
        UsageError: if no process listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "local", "auto"
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"study: no Ray cluster at {address}: {error}") from None


def _unit(
    folder: Path, unit: Unit, modules: Sequence[str], directory: Path, python_path: str
) -> int:
    """Train a unit in a child process of a Ray worker, and return its exit code.

    Args:
        folder: folder of the study.
        unit: the unit to train.
        modules: modules that the process imports first.
        directory: the study's working directory; ignored on machines without this directory.
        python_path: PYTHONPATH of the study.
    """
    # Ray cancels a task by SIGINT, which workers ignore if their parent process ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while (state := progress(folder, unit).state) != "finished":
        if state != "running":
            there = directory if directory.is_dir() else None
            process = start(folder, unit, modules, there, python_path)
            try:
                while (code := process.poll()) is None:
                    time.sleep(POLL_SECONDS / 4)  # Ray raises KeyboardInterrupt between two calls
            except KeyboardInterrupt:  # cancelled
                process.terminate()
                process.wait()
                raise
            if code != RunInUse.exit_code:
                return code
        time.sleep(1)  # the process of a lost worker may still be training the run
    return 0
