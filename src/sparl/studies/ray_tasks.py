"""Runs of a study as tasks of a Ray cluster; every machine must see the study's folder.

The processes of a cluster that was started elsewhere have another working directory and another
PYTHONPATH than the study. Its runs get those of the study, so that they find the same modules.
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

from sparl.errors import UsageError
from sparl.studies.execute import start
from sparl.studies.plan import Unit
from sparl.studies.progress import progress
from sparl.studies.unit import IN_USE, record_end, record_loss
from sparl.training.interrupt import stop_on_signal
from sparl.user_modules import imported_modules

LOCAL = "local"
POLL_SECONDS = 1.0
OLDEST_RAY = (2, 59)  # as in pyproject.toml
ATTEMPTS = 10  # at a run whose worker is lost again and again


def execute_on_ray(
    folder: Path, units: Sequence[Unit], address: str, processes: int,
    look: Callable[[float], None], finished: Callable[[Unit], None],
) -> signal.Signals | None:  # fmt: skip
    """Run all units as Ray tasks of one core each; a lost worker's run goes on in another.

    Args:
        folder: of the study; the same path on every machine.
        units: what to run.
        address: of a running cluster, or "local" to start one here for this study.
        processes: how many at a time, on a local cluster.
        look: called again and again with the seconds it should take.
        finished: called when a run has finished.

    Returns:
        The signal that stopped it; None if all were run.

    Raises:
        UsageError: Ray is not installed or too old, there is no cluster at the address, or a
            cluster that is started here would not be protected.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        _protect_local_cluster()
    try:
        import ray
    except ImportError:
        raise UsageError("study: --ray needs Ray: pip install 'sparl[ray]'") from None
    where = folder.resolve()
    _check_version(ray.__version__)
    _check_address(address)
    local: dict[str, Any] = {"num_cpus": processes, "include_dashboard": False}
    options: dict[str, Any] = local if address == LOCAL else {}
    try:
        # Ray's workers search the working directory of this call for modules before all others, and
        # a study's folder may hold anything. The runs themselves get their directory below.
        with contextlib.chdir("/"):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"study: no Ray cluster at {address}: {reason} (a cluster that asks for a token needs "
            "RAY_AUTH_MODE=token here too)"
        ) from None
    try:
        if address == LOCAL:
            node: Any = ray.util
            _check_loopback(node.get_node_ip_address())
        # Ray starts a task again when its worker dies; the unit then goes on where it was.
        task = ray.remote(num_cpus=1, max_retries=ATTEMPTS)(_unit)
        launch = imported_modules(), Path.cwd(), os.environ.get("PYTHONPATH", "")
        waiting = {task.remote(where, unit, *launch): unit for unit in units}
        with stop_on_signal() as stop:
            while waiting and stop.signal is None:
                look(POLL_SECONDS)
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
            if waiting:  # each saves and ends
                ray.wait(list(waiting), num_returns=len(waiting), timeout=60)
            return stop.signal
    finally:
        ray.shutdown()


def _protect_local_cluster() -> None:
    """Have Ray start clusters that listen on the loopback interface alone and ask for a token.

    Ray reads these environment variables when it is imported. The second one is meant for macOS and
    Windows, where 0 is the default, so that no other machine can connect.

    Raises:
        UsageError: the environment asks for a cluster without tokens.
    """
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise UsageError(
            f"study: RAY_AUTH_MODE is {mode!r}: a cluster that everybody on this machine can use; "
            "unset it, or set it to token"
        )
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # Ray would write one to the home


def _check_version(version: str) -> None:
    """Raise UsageError for a Ray that does not ask for a token by default."""
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if parts < OLDEST_RAY:
        raise UsageError(
            f"study: Ray {version} is too old, at least {OLDEST_RAY[0]}.{OLDEST_RAY[1]} is needed: "
            "pip install -U 'sparl[ray]'"
        )


def _check_loopback(node: str) -> None:
    """Raise UsageError if other machines can reach the cluster that was started here."""
    if not ipaddress.ip_address(node).is_loopback:
        raise UsageError(
            f"study: Ray listens at {node}, where other machines can reach it, because it was "
            "imported before the study began; start the study in a process of its own"
        )


def _check_address(address: str) -> None:
    """Somebody listens at HOST:PORT; Ray itself would wait for minutes.

    Raises:
        UsageError: nobody does.
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
    """Run the unit as a process of its own, in a worker process; returns its exit code.

    Args:
        folder: of the study.
        unit: what to run.
        modules: that the process imports first.
        directory: where the study was started; not used on a machine that does not have it.
        python_path: PYTHONPATH where the study was started.
    """
    # Ray cancels a task by SIGINT, which a worker ignores if whoever started it did.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while (state := progress(folder, unit).state) != "finished":
        if state != "running":
            there = directory if directory.is_dir() else None
            process = start(folder, unit, modules, there, python_path)
            try:
                while (code := process.poll()) is None:
                    time.sleep(POLL_SECONDS / 4)  # a cancelled task learns it between two calls
            except KeyboardInterrupt:  # cancelled
                process.terminate()
                process.wait()
                raise
            if code != IN_USE:
                return code
        time.sleep(1)  # the process of a worker that was lost may still be at it
    return 0
