"""Store the transitions of the replay buffer in files that the checkpoints of a run share.

Only the newest transition can change. All others are written in groups to files named after their
content, RUN/replay/<begin>-<end>-<digest>.safetensors. Short files are later merged.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from sparl.errors import DataError
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.folder import Folder
from sparl.training.tensors import Expected, digest, pack, read_verified, split
from sparl.wording import shown

REPLAY = "replay"
SEGMENT = 65_536  # maximum number of transitions in a file
_SEGMENT_NAME = re.compile(r"[0-9]+-[0-9]+-[0-9a-f]{16}\.safetensors(\.tmp.*)?")


@dataclass(frozen=True)
class Segment:
    """A file that contains the run's transitions `begin` to `end` - 1, counting from 0."""

    begin: int
    end: int
    bytes: int
    sha256: str

    @property
    def rows(self) -> int:
        """Number of transitions in the file."""
        return self.end - self.begin

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.begin}-{self.end}-{self.sha256[:16]}.safetensors"


class ReplayFiles:
    """The files of transitions in a run's folder.

    Args:
        run: the folder of the run.
    """

    def __init__(self, run: Folder) -> None:
        self._run = run
        self._folder = run.at(REPLAY)

    def write(self, replay: RingBuffer, before: Sequence[Segment]) -> list[Segment]:
        """Write the transitions that are in no file yet, except the newest, which can still change.

        Short files are merged into longer ones, so that the number of files stays small.

        Args:
            replay: the replay buffer.
            before: the files of an earlier checkpoint.

        Returns:
            The files that contain all transitions of the replay buffer except the newest.

        Raises:
            OSError: if a file cannot be written.
        """
        settled = replay.first + max(replay.size - 1, 0)
        segments = [segment for segment in before if segment.end > replay.first]
        begin = segments[-1].end if segments else replay.first
        while (
            segments
            and segments[-1].rows <= settled - begin
            and settled - max(segments[-1].begin, replay.first) <= SEGMENT
        ):
            begin = max(segments.pop().begin, replay.first)
        if not self._run.has_folder(REPLAY) and begin < settled:
            self._run.make_new(REPLAY)
        for start in range(begin, settled, SEGMENT):
            end = min(start + SEGMENT, settled)
            arrays, _ = split(dict(replay.transitions(start, end)))
            data = pack(arrays)
            segment = Segment(start, end, len(data), digest(data))
            self._folder.put(segment.name, data)
            segments.append(segment)
        if begin < settled:
            self._folder.sync()
        return segments

    def read(self, segment: Segment, replay: RingBuffer) -> None:
        """Append the transitions in a file to a replay buffer, except those that it had forgotten.

        Raises:
            DataError: if the file is missing or damaged.
        """
        expected = expected_part(replay, segment.rows)
        part = read_verified(self._folder, segment.name, asdict(segment), expected, "the manifest")
        replay.append(dict(part), skip=max(replay.first - segment.begin, 0))

    def prune(self, kept: Container[str]) -> None:
        """Delete the segment files whose names are not in `kept`; keep all other files."""
        for name in self._names():
            if _SEGMENT_NAME.fullmatch(name) and name not in kept:
                with suppress(OSError, DataError):
                    self._folder.remove(name)

    def _names(self) -> list[str]:
        try:
            return self._folder.names()
        except DataError:
            return []


def expected_part(replay: RingBuffer, rows: int) -> dict[str, Expected]:
    """Return the dtypes and shapes of the arrays that RingBuffer.transitions returns."""
    arrays, _ = split(dict(replay.transitions(replay.first, replay.first)))
    longest = replay.longest(rows)
    return {
        name: Expected(array.dtype, (rows, *array.shape[1:]), longest.get(name))
        for name, array in arrays.items()
    }


def segments_of(listed: Any, first: Any, size: Any, capacity: int) -> list[Segment]:
    """Parse a list of segments, which must cover the replay buffer's transitions without a gap.

    Raises:
        KeyError, TypeError, ValueError: if the list is malformed or has a gap.
    """
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in (first, size)) or size > capacity:
        raise ValueError(
            f"the replay buffer has {str(size)[:30]} transitions starting with number "
            f"{str(first)[:30]}; both must be nonnegative integers, and the capacity is {capacity}"
        )
    if not isinstance(listed, list):
        raise ValueError("segments must be a list")
    segments = [Segment(**entry) for entry in listed]
    end = first
    for segment in segments:
        numbers = (segment.begin, segment.end, segment.bytes)
        if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise ValueError(
                f"begin, end and bytes of a segment are {shown(numbers)} but must be integers in "
                "[0, 2^62)"
            )
        if not re.fullmatch("[0-9a-f]{64}", segment.sha256):
            raise ValueError("the digest of a segment is not a hexadecimal SHA-256 digest")
        joined = segment.begin == end or (segment is segments[0] and segment.begin < end)
        if not joined or not 0 < segment.rows <= SEGMENT or segment.end <= first:
            raise ValueError(
                f"a segment contains transitions {segment.begin} to {segment.end - 1} but must "
                f"start at {end} and contain 1 to {SEGMENT:,} transitions"
            )
        end = segment.end
    if end != first + max(size - 1, 0):
        raise ValueError(f"the segments end at {end} but must end at {first + max(size - 1, 0)}")
    return segments
