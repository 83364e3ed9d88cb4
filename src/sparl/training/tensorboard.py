"""Write TensorBoard event files during a run, without TensorFlow or PyTorch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparl.errors import UsageError
from sparl.training.folder import Folder
from sparl.training.forked_children import close_in_children


def require_tensorboard() -> None:
    """Check that TensorBoard is installed, before a run starts.

    Raises:
        UsageError: if TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs TensorBoard: pip install 'sparl[tensorboard]'")


class EventFile:
    """A new event file in a run's folder. TensorBoard groups values that are named GROUP/NAME.

    Args:
        folder: the folder of the run, which contains an event file for each start and resumption.
    """

    def __init__(self, folder: Path | Folder) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        # TensorBoard's own EventFileWriter accepts only folders whose names are UTF-8.
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.sparl"
        self._records = RecordWriter(Folder.of(folder).new_file(name))
        close_in_children(self)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._begun = False

    def scalars(self, env_step: int, values: Mapping[str, float]) -> None:
        """Write the values for an environment step, and make them visible to readers at once."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if not self._begun:  # tell readers to discard an earlier file's values from this step on
            begin = SessionLog(status=SessionLog.START)
            self._add(Event(wall_time=time.time(), step=env_step, session_log=begin))
            self._begun = True
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._add(Event(wall_time=time.time(), step=env_step, summary=summary))
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _add(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
