"""Stop on a signal without losing work, and end when the parent process has ended.

A child process that is forked while these handlers are active, for example by an environment with
worker processes, gets the previous handlers, because sparl's handlers would keep it from exiting.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Literal

TOGETHER_SECONDS = 0.1  # signals that arrive within this time count as one request to stop
PARENT = "SPARL_PARENT"  # environment variable with the process id of the parent
_PARENT_POLL_SECONDS = 1.0
_SAVE_SECONDS = 60.0  # time for saving after the parent has ended

Handler = Callable[[int, FrameType | None], Any]


StoppedBy = signal.Signals | Literal["callback"]


class Stop:
    """Records what has requested that a run stop.

    Attributes:
        signal: the signal that requested a stop; None until one arrives.
        by_callback: whether a callback requested a stop.
    """

    signal: signal.Signals | None = None
    by_callback = False

    @property
    def by(self) -> StoppedBy | None:
        """The signal, or "callback"; None if there was no request."""
        return self.signal or ("callback" if self.by_callback else None)


_before: list[dict[int, Any]] = []  # the replaced handlers of each active block, outermost first
_stops: list[Stop] = []  # one for each active block of stop_on_signal()


@contextmanager
def stop_on_signal(stop: Stop | None = None) -> Iterator[Stop]:
    """Record the first SIGINT, SIGTERM or SIGHUP; a second SIGINT or SIGTERM ends the process.

    The signal is recorded in `stop` or, if that is None, in a new object. The context manager
    returns the object. In a thread other than the main thread, no signal is recorded.

    SIGHUP remains ignored if it was ignored before, for example by nohup. After the first signal,
    further SIGHUPs are ignored, because the shell and the kernel may each send one.
    """
    stop = Stop() if stop is None else stop
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if stop.signal is not None:
            return
        stop.signal = signal.Signals(number)
        # Handle signals that arrived at the same time now. Later, they would no longer have a
        # handler, and Python would report them as errors.
        signal.raise_signal(number)
        time.sleep(TOGETHER_SECONDS)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    handlers: dict[int, Handler] = {signal.SIGINT: note, signal.SIGTERM: note}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = note
    _stops.append(stop)
    try:
        with _handlers(handlers):
            yield stop
    finally:
        _stops.remove(stop)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Restore the handlers of SIGINT, SIGTERM and SIGHUP if code in the block replaces them.

    Environments may install handlers when they are constructed; training must still stop and save.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                _restore({number: handler})


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Defer the first Ctrl-C to the end of the block; a second one ends the process at once.

    This protects third-party code that cannot handle KeyboardInterrupt: importing an extension
    module turns it into an ImportError, and a C++ callback that raises it ends the process.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held = False

    def hold(_number: int, _frame: object) -> None:
        nonlocal held
        held = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    try:
        with _handlers({signal.SIGINT: hold}):
            yield
    finally:
        if held:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _handlers(handlers: Mapping[int, Handler]) -> Iterator[None]:
    """Use these signal handlers in the block, but not in processes that the block forks."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _before.append(before)
    try:
        yield
    finally:
        with suppress(ValueError):  # already removed in a child that was forked in the block
            _before.remove(before)
        _restore(before)


def _restore(before: Mapping[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _restore_in_child() -> None:
    while _before:
        _restore(_before.pop())
    _stops.clear()


os.register_at_fork(after_in_child=_restore_in_child)


def end_with_parent() -> None:
    """Send SIGTERM to this process when its parent, whose id is in the variable PARENT, has ended.

    The processes that train a study's runs call this function, because the study's own process may
    be killed. A process that has not ended after another minute is killed.
    """
    parent = os.environ.pop(PARENT, "")  # removed, so that child processes do not inherit it
    if re.fullmatch("[0-9]{1,10}", parent):
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    if not any(stop.signal for stop in _stops):  # a second SIGTERM would prevent saving
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SAVE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
