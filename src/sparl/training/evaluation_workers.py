"""Worker processes that play a part of each evaluation on other cores.

An episode's result does not depend on the process that plays it. This process therefore never
waits for a worker: once its own part is done, it plays the worker's part as well until the worker's
answer arrives. A worker that is slow, frozen, dead or unable to make the environment costs time and
changes no result, and a fault of the environment is met and reported in this process.

An environment is made a second time from its id, which need not give the same environment: a script
may have changed the class. A worker's first part is therefore played here too, and its answers are
used only once it has given the same one, bit for bit.

`python -m sparl.training.evaluation_workers` is the worker.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from sparl import _native
from sparl.configuration import Config
from sparl.errors import DataError
from sparl.training.agent_file import unpack_agent
from sparl.training.environment import Environment, make_environment
from sparl.training.evaluate import OBSERVATIONS, Episode, Evaluation, Evaluator, Policy
from sparl.training.forked_children import close_in_children
from sparl.training.machine import cpu_seconds, note_child_cpu_seconds
from sparl.training.tasks import module_of
from sparl.training.tensors import Expected, pack, unpack
from sparl.user_modules import (
    import_module_of,
    import_user_module,
    imported_modules,
    named_module,
)

WORTH_STARTING_SECONDS = 5.0  # of evaluations so far; starting a worker takes about 1 s of CPU time
_GRACE_SECONDS = 5.0  # for a worker to close its environments

PackActor = Callable[[], tuple[dict[str, Any], bytes]]


class ParallelEvaluator:
    """Evaluates as `Evaluator` does, on several cores where it can.

    Workers are used for environments of Gymnasium's own and of modules that the user named, with
    `--import` or as MODULE:ID.

    Args:
        config: of the run.
        pack_actor: gives the current policy, as agent_file.pack_agent does.
        cores: that may be used, including that of this process.
    """

    def __init__(self, config: Config, pack_actor: PackActor, cores: int) -> None:
        self._config, self._pack_actor, self._cores = config, pack_actor, cores
        self._here = Evaluator(
            lambda: make_environment(config), config.evaluation_episodes, config.evaluation_seed
        )
        self._workers: list[_Worker] = []
        self._started = False
        self._seconds = 0.0  # of the evaluations so far

    def evaluate(self, policy: Policy) -> Evaluation:
        """Play all episodes; see Evaluator.evaluate.

        Args:
            policy: acts as the one that pack_actor gives.
        """
        started = time.monotonic()
        if not self._started and self._seconds >= WORTH_STARTING_SECONDS:
            self._start_workers()
        try:
            episodes = self._play(policy)
        except BaseException:
            self._close_workers()
            raise
        self._seconds += time.monotonic() - started
        return Evaluation.of(episodes)

    def close(self) -> None:
        """Release the environments and end the workers."""
        self._close_workers()
        self._here.close()

    def _play(self, policy: Policy) -> dict[int, Episode]:
        workers = self._free_workers()
        parts = [range(i, self._here.episodes, len(workers) + 1) for i in range(len(workers) + 1)]
        if workers:
            actor = self._pack_actor()
            for worker, part in zip(workers, parts[1:], strict=True):
                worker.ask(part, actor)
        episodes = self._here.play(policy, parts[0])
        for worker, part in zip(workers, parts[1:], strict=True):
            if worker.is_proven:
                ours = self._here.play(policy, part, stop=worker.has_answered)
                episodes |= ours if worker.answer is None else worker.answer
            else:
                worker.right_answer = self._here.play(policy, part)
                episodes |= worker.right_answer
        return episodes

    def _free_workers(self) -> list[_Worker]:
        """Return the workers that can be asked, and close those that cannot be used any more."""
        for worker in [each for each in self._workers if not each.is_usable()]:
            worker.close()
            self._workers.remove(worker)
        return [worker for worker in self._workers if not worker.is_busy()]

    def _start_workers(self) -> None:
        self._started = True
        env_id = self._config.env
        if module_of(env_id) and not named_module(env_id) and not imported_modules():
            return
        if getattr(sys, "frozen", False):  # sys.executable is an application, not Python
            return
        start = {
            "instruction_set": _native.isa(),
            "modules": imported_modules(),
            "env_id": env_id,
            "max_episode_steps": self._config.max_episode_steps,
            "contact_forces": self._config.contact_forces,
            "episodes": self._here.episodes,
            "seed": self._here.seed,
        }
        with suppress(OSError):  # the system has no process to spare
            for _ in range(min(self._cores, self._here.episodes) - 1):
                self._workers.append(_Worker(start))

    def _close_workers(self) -> None:
        while self._workers:
            self._workers.pop().close()


class _Worker:
    """A worker process, as this process sees it.

    Args:
        start: what the worker has to know before its first question; see serve.

    Attributes:
        answer: the episodes that were asked for last, once they are there.
        right_answer: to the first question.
        is_proven: the first answer was the right one.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, start: dict[str, Any]) -> None:
        self.answer: dict[int, Episode] | None = None
        self.right_answer: dict[int, Episode] = {}
        self.is_proven = False
        self._conversation: threading.Thread | None = None
        self._connection, theirs = socket.socketpair()
        close_in_children(self._connection)
        with theirs:
            for end in (self._connection, theirs):
                end.settimeout(None)  # whatever the process has set for its other sockets
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "sparl.training.evaluation_workers"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
                    process_group=0,  # Ctrl-C in the terminal is for this process
                )
                _send(self._connection, start)
            except OSError:
                self._connection.close()
                raise

    def ask(self, part: Sequence[int], actor: tuple[dict[str, Any], bytes]) -> None:
        """Ask for these episodes; the answer appears later, or never."""
        self.answer = None
        conversation = threading.Thread(target=self._ask, args=(part, *actor), daemon=True)
        with suppress(RuntimeError):  # the system has no thread to spare
            conversation.start()
            self._conversation = conversation

    def _ask(self, part: Sequence[int], manifest: dict[str, Any], actor: bytes) -> None:
        with suppress(OSError, ValueError, KeyError, DataError):
            _send(self._connection, {"part": list(part), "manifest": manifest}, actor)
            about, data = _receive(self._connection)
            note_child_cpu_seconds(self._process.pid, about["cpu_seconds"])
            self.answer = _unpack(data, part, manifest["policy"]["observations"])

    def has_answered(self) -> bool:
        """Return whether the episodes that were asked for last are there."""
        return self.answer is not None

    def is_busy(self) -> bool:
        """Return whether it has still to answer."""
        return self._conversation is not None and self._conversation.is_alive()

    def is_usable(self) -> bool:
        """Return False once it has failed, or has not proved to play as this process does."""
        if self._conversation is None or self.is_busy():
            return True
        if self.answer is None:
            return False
        self.is_proven = self.is_proven or _pack(self.answer) == _pack(self.right_answer)
        return self.is_proven

    def close(self) -> None:
        """End it."""
        with suppress(OSError):  # it has ended by itself
            self._connection.shutdown(socket.SHUT_RDWR)
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS + 1)
        finally:
            self._process.kill()
            self._process.wait()
        if self._conversation is not None:
            self._conversation.join()
        self._connection.close()
        note_child_cpu_seconds(self._process.pid, None)


def serve(connection: socket.socket, ended: threading.Event) -> None:
    """Play what the process at the other end asks for, until it closes the connection.

    Args:
        connection: to the process. It sends what a worker must know, and then questions; each is
            answered by the episodes.
        ended: set as soon as the other end is closed.

    Raises:
        SparlError: the module cannot be imported, the environment cannot be made, or an episode
            cannot be played.
    """
    inbox: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox, ended), daemon=True).start()
    if (message := inbox.get()) is None:
        return
    start, _ = message
    _native.use_isa(start["instruction_set"])
    _native.set_threads(1)
    for module in start["modules"]:
        import_user_module(module)
    import_module_of(start["env_id"])
    task = start["env_id"], start["max_episode_steps"], start["contact_forces"]
    evaluator = Evaluator(lambda: Environment(*task), start["episodes"], start["seed"])
    with closing(evaluator):
        while (message := inbox.get()) is not None:
            question, actor = message
            agent = unpack_agent(question["manifest"], actor, Path("the message"))
            episodes = evaluator.play(agent.policy, question["part"], stop=ended.is_set)
            with suppress(OSError):  # nobody waits for it any more
                _send(connection, {"cpu_seconds": cpu_seconds()}, _pack(episodes))


def _listen(
    connection: socket.socket,
    inbox: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None],
    ended: threading.Event,
) -> None:
    """Put every message into the inbox, and None after the last one."""
    with suppress(OSError):
        while True:
            inbox.put(_receive(connection))
    ended.set()
    inbox.put(None)


def _send(connection: socket.socket, about: dict[str, Any], data: bytes = b"") -> None:
    """Send a message: its length in 8 bytes, a line of JSON, and data."""
    message = json.dumps(about).encode() + b"\n" + data
    connection.sendall(len(message).to_bytes(8, "little") + message)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Return the next message.

    Raises:
        OSError: the connection is closed.
    """
    message = _read(connection, int.from_bytes(_read(connection, 8), "little"))
    about, _, data = message.partition(b"\n")
    return json.loads(about), data


def _read(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = connection.recv(min(count - len(data), 1 << 20))
        if not more:
            raise ConnectionError("the connection is closed")
        data += more
    return bytes(data)


def _pack(episodes: Mapping[int, Episode]) -> bytes:
    """Return episodes as the bytes of a safetensors file, in the order of their numbers."""
    ordered = [episodes[number] for number in sorted(episodes)]
    observations = [episode.observations for episode in ordered]
    return pack(
        {
            "totals": np.array([episode.total for episode in ordered], np.float64),
            "lengths": np.array([episode.length for episode in ordered], np.int64),
            "kept": np.array([len(rows) for rows in observations], np.int64),
            "observations": np.concatenate(observations),
        }
    )


def _unpack(data: bytes, part: Sequence[int], n_obs: int) -> dict[int, Episode]:
    """Return the episodes that _pack packed, by their numbers.

    Raises:
        DataError: they are not those of this part.
    """
    count, whole = (len(part),), np.dtype(np.int64)
    expected = {
        "totals": Expected(np.dtype(np.float64), count),
        "lengths": Expected(whole, count),
        "kept": Expected(whole, count),
        "observations": Expected(np.dtype(np.float32), (0, n_obs), OBSERVATIONS),
    }
    arrays = unpack(data, expected, "the answer of a worker")
    rows = np.split(arrays["observations"], np.cumsum(arrays["kept"])[:-1])
    totals, lengths = arrays["totals"].tolist(), arrays["lengths"].tolist()
    return dict(zip(part, map(Episode, totals, lengths, rows), strict=True))


def main() -> None:
    """Serve the process that holds the other end of standard input."""
    connection = socket.socket(fileno=os.dup(0))
    close_in_children(connection)
    nowhere = os.open(os.devnull, os.O_RDONLY)  # for what the environment may read
    os.dup2(nowhere, 0)
    os.close(nowhere)
    ended = threading.Event()
    threading.Thread(target=_exit_soon_after, args=(ended,), daemon=True).start()
    with connection:
        serve(connection, ended)


def _exit_soon_after(ended: threading.Event) -> None:
    """End this process some time after the event, whatever keeps it busy."""
    ended.wait()
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
