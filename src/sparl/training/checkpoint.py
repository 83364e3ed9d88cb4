"""Write and read checkpoints: everything that is needed to resume a run, committed atomically.

RUN/checkpoint-<step>/state.safetensors   all arrays except those of the replay buffer
RUN/checkpoint-<step>/manifest.json       everything else, and the size and digest of each file
RUN/replay/<begin>-<end>-<digest>.safetensors   transitions, see replay_files.py

A checkpoint is written under a temporary name. Every file is flushed to disk, the manifest last,
and then the folder is renamed. An older checkpoint is deleted only after that. The newest
transition, which may still change, is stored in the checkpoint's state file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from sparl.errors import DataError, ResourceError, damage_reported
from sparl.old_names import current_state
from sparl.replay.ring_buffer import RingBuffer
from sparl.training import checkpoint_format_2
from sparl.training.durable import temporary_name
from sparl.training.folder import Folder
from sparl.training.replay_files import REPLAY, ReplayFiles, Segment, expected_part, segments_of
from sparl.training.tensors import (
    ANY_NAME,
    Expected,
    Tree,
    digest,
    join,
    pack,
    read_verified,
    split,
)
from sparl.training.texts import parse_json

FORMAT = 3
READABLE = (2, FORMAT)
STATE, MANIFEST = "state.safetensors", "manifest.json"
KEPT = 2  # number of checkpoints that a run keeps
_MANIFEST_BYTES = 1 << 24
_NAME = re.compile(r"checkpoint-([0-9]{1,15})")
_NAME_OR_TEMPORARY = re.compile(_NAME.pattern + r"(\.tmp-.*)?")


class Checkpoints:
    """The checkpoints in the folder of a run, written by the process that locked the folder."""

    def __init__(self, place: Path | Folder) -> None:
        self.files = Folder.of(place)
        self.folder = self.files.path
        self._replay = ReplayFiles(self.files)
        self._kept: list[tuple[int, list[Segment]]] = []  # (step, segments), newest last

    @property
    def last_step(self) -> int | None:
        """Step of the newest checkpoint that this object wrote or loaded, if any."""
        return self._kept[-1][0] if self._kept else None

    def save(self, env_step: int, state: Tree, replay: RingBuffer, about: Tree) -> Path:
        """Commit a checkpoint, then delete older ones that are no longer needed.

        Args:
            env_step: the environment step of the checkpoint.
            state: nested dicts of arrays, numbers, strings and None.
            replay: the replay buffer, whose transitions are written to the shared files.
            about: further entries of the manifest.

        Returns:
            The checkpoint's folder.

        Raises:
            ResourceError: if the checkpoint could not be written; earlier ones are unchanged.
            DataError: if one of the checkpoint's files or folders is a link or a special file.
            RunInUse: if the run's folder was replaced after the folder was locked.
        """
        temporary = temporary_name(_name(env_step))
        try:
            segments = self._replay.write(replay, self._kept[-1][1] if self._kept else [])
            end = replay.first + replay.size
            newest = replay.transitions(max(end - 1, replay.first), end)
            arrays, rest = split({**state, "newest": newest})
            data = pack(arrays)
            content = {
                "format": FORMAT,
                "env_step": env_step,
                "about": about,
                "state": rest,
                "file": {"bytes": len(data), "sha256": digest(data)},
                "replay": {"first": replay.first, "size": replay.size,
                           "segments": [asdict(segment) for segment in segments]},
            }  # fmt: skip
            content["sha256"] = _own_digest(content)
            made = self.files.make_new(temporary)
            made.create(STATE, data)
            made.create(MANIFEST, json.dumps(content, indent=1).encode())
            made.sync()
            self._commit(temporary, _name(env_step))
        except OSError as error:
            self._prune()
            raise ResourceError(
                f"cannot write a checkpoint at step {env_step:,} into {self.folder}: "
                f"{error.strerror}"
            ) from None
        self._kept = [*self._kept, (env_step, segments)][-KEPT:]
        self._prune()
        return self.folder / _name(env_step)

    def _commit(self, temporary: str, final: str) -> None:
        if self.files.has_folder(final):  # damaged: the run was resumed from an older checkpoint
            self.files.rename(final, f"{temporary}-old")
        self.files.rename(temporary, final)
        self.files.sync()

    def _prune(self) -> None:
        """Delete files that no kept checkpoint needs; the next call retries failed deletions.

        Only files with names that sparl assigns are deleted, because users may keep other files in
        the folder.
        """
        kept = {_name(step) for step, _ in self._kept}
        files = {segment.name for _, segments in self._kept for segment in segments}
        for name in self.files.names():
            if _NAME_OR_TEMPORARY.fullmatch(name) and name not in kept:
                self.files.remove_folder(name, (STATE, MANIFEST))
        self._replay.prune(files)

    def remove_all(self) -> None:
        """Delete all checkpoints and the files of the replay buffer."""
        self._kept = []
        self._prune()
        self.files.remove_folder(REPLAY)

    def newest_first(self) -> list[Path]:
        """Return the folders of committed checkpoints, newest first, including damaged ones.

        Links are ignored.
        """
        found = [
            (int(match[1]), self.folder / name)
            for name in self.files.names()
            if (match := _NAME.fullmatch(name)) and self._has_files(name)
        ]
        return [path for _, path in sorted(found, reverse=True)]

    def _has_files(self, name: str) -> bool:
        try:
            return not {STATE, MANIFEST}.isdisjoint(self.files.at(name).names())
        except DataError:
            return False

    def check_state_size(self, least: int) -> None:
        """If there are checkpoints, check that at least one state has `least` bytes or more.

        This is called before networks are allocated: a damaged configuration can claim any size,
        but a checkpoint of networks of that size cannot be smaller than `least`.

        Raises:
            DataError: if all checkpoints are too small or damaged; the message gives the reasons.
        """
        errors = []
        for path in self.newest_first():
            try:
                size = self.checked_manifest(path)["file"]["bytes"]
            except DataError as error:
                errors.append(str(error))
                continue
            if size >= least:
                return
            errors.append(
                f"{path / STATE}: the file has {size:,} bytes, but networks of the configured size "
                f"need at least {least:,}"
            )
        if errors:
            raise no_checkpoint(errors)

    def checked_manifest(self, path: Path) -> Tree:
        """Return a checkpoint's manifest after checking that its files exist with the right sizes.

        The files' contents are not read.

        Raises:
            DataError: if a file is missing or has the wrong size, or the manifest cannot be used.
        """
        manifest = self._manifest(path)
        with damage_reported(f"{path / MANIFEST}: cannot be used"):
            files = {(path.name, STATE): manifest["file"]["bytes"]}
            replay = manifest["replay"]
            for segment in segments_of(
                replay["segments"], replay["first"], replay["size"], capacity=replay["size"]
            ):
                files[REPLAY, segment.name] = segment.bytes
        for (folder, file), size in files.items():
            inside = self.files.at(folder)
            if not inside.has(file):
                raise DataError(f"{inside.path / file}: the file is missing")
            found = inside.size(file)
            if found != size:
                raise DataError(
                    f"{inside.path / file}: found {found:,} bytes but expected {str(size)[:30]}"
                )
        return manifest

    def load(
        self, path: Path, like: Tree, longest: Mapping[str, int], replay: RingBuffer
    ) -> tuple[Tree, Tree]:
        """Read a checkpoint, and replace the content of the replay buffer.

        Args:
            path: the checkpoint's folder.
            like: a template whose names, dtypes and shapes the state must have.
            longest: the maximum length of each array whose length may differ, by path.
            replay: the replay buffer of the same run; its current content is discarded.

        Returns:
            The state, and the entries that were passed to `save` as `about`.

        Raises:
            DataError: if the checkpoint is damaged, has an unsupported format, or does not match
                `like`.
        """
        manifest = self._manifest(path)
        with damage_reported(f"{path / MANIFEST}: cannot be used"):
            first, size = manifest["replay"]["first"], manifest["replay"]["size"]
            segments = segments_of(manifest["replay"]["segments"], first, size, replay.capacity)
            newest = expected_part(replay, min(size, 1))
            state = self._state(path, manifest, like, longest, newest)
            self._fill(replay, first, size, segments, state.pop("newest"))
            about = manifest["about"]
            if not isinstance(about, dict):
                raise ValueError("about must be an object")
        self._kept = [(int(manifest["env_step"]), segments)]
        return state, about

    def _state(
        self,
        path: Path,
        manifest: Tree,
        like: Tree,
        longest: Mapping[str, int],
        newest: Mapping[str, Expected],
    ) -> Tree:
        """Read the state of a checkpoint, with the newest transition under "newest".

        Raises:
            DataError, DAMAGE_ERRORS: if the state is damaged or does not match `like`.
        """
        arrays, rest = split(like)
        expected = {name: Expected.like(array, longest.get(name)) for name, array in arrays.items()}
        if manifest["format"] == 2:
            expected = checkpoint_format_2.expected_of_format_2(expected)
        expected |= {f"newest/{name}": each for name, each in newest.items()}
        found = manifest["state"]
        if not isinstance(found, dict) or found.pop("newest") != {}:
            raise ValueError("state.newest must be an object that contains only arrays")
        # Checkpoints of earlier versions may lack parts whose state is empty in this configuration.
        found = {**{name: {} for name, part in rest.items() if part == {}}, **current_state(found)}
        _check_tree(found, rest, "state")
        arrays = read_verified(
            self.files.at(path.name), STATE, manifest["file"], expected, MANIFEST
        )
        if manifest["format"] == 2:
            arrays = checkpoint_format_2.from_format_2(arrays)
        return join(arrays, {**found, "newest": {}})

    def _fill(
        self, replay: RingBuffer, first: int, size: int, segments: list[Segment], newest: Tree
    ) -> None:
        """Fill the replay buffer with the transitions in these files and the newest transition.

        Raises:
            DataError: if a file is missing or damaged.
            ValueError: if the transitions are not those that the manifest lists.
        """
        replay.clear(first)
        for segment in segments:
            self._replay.read(segment, replay)
        replay.append(newest)
        replay.check(size)

    def _manifest(self, path: Path) -> Tree:
        return read_manifest(self.files.at(path.name))


def read_manifest(checkpoint: Folder) -> Tree:
    """Read a checkpoint's manifest and verify its digest.

    Raises:
        DataError: if the manifest is missing or damaged, or its format is not supported.
    """
    where = checkpoint.path / MANIFEST
    content = parse_json(checkpoint.read(MANIFEST, _MANIFEST_BYTES), where)
    if content.get("format") not in READABLE:
        raise DataError(
            f"{where}: format {str(content.get('format'))[:20]} is not supported; this version of "
            f"sparl reads formats {' and '.join(map(str, READABLE))}; finish the run with the "
            "version that wrote the checkpoint"
        )
    if content.pop("sha256", None) != _own_digest(content):
        raise DataError(f"{where}: damaged (its content does not match the SHA-256 digest in it)")
    step = content.get("env_step")
    if type(step) is not int or checkpoint.path.name != _name(step):
        raise DataError(
            f"{where}: env_step is {str(step)[:20]}, but the folder is named {checkpoint.path.name}"
        )
    return content


def _check_tree(found: Any, like: Any, where: str) -> None:
    """Check that a tree has the structure and types of `like`.

    Floats must be finite, and integers in [0, 2^128).

    Raises:
        ValueError: if a value is not valid; the message names the first one.
    """
    if isinstance(like, dict):
        if not isinstance(found, dict):
            raise ValueError(f"{where} must be an object")
        if ANY_NAME in like:
            like = dict.fromkeys(found, like[ANY_NAME])
        if found.keys() != like.keys():
            other = sorted(found.keys() ^ like.keys())[0]
            problem = "missing" if other in like else "unexpected"
            raise ValueError(f"{where}.{other[:80]} is {problem}")
        for name, value in like.items():
            _check_tree(found[name], value, f"{where}.{name}")
    elif isinstance(like, list | tuple):
        if not isinstance(found, list) or len(found) != len(like):
            raise ValueError(f"{where} must be a list of length {len(like)}")
        for index, (one, other) in enumerate(zip(found, like, strict=True)):
            _check_tree(one, other, f"{where}[{index}]")
    elif type(found) is not type(like):
        raise ValueError(f"{where} is {str(found)[:40]} but must be of type {type(like).__name__}")
    elif isinstance(found, int) and not 0 <= found < 1 << 128:
        raise ValueError(f"{where} is {str(found)[:60]} but must be at least 0 and below 2^128")
    elif isinstance(found, float) and not isfinite(found):
        raise ValueError(f"{where} is {found} but must be finite")


def no_checkpoint(errors: Sequence[str]) -> DataError:
    """Return the error for a run without a usable checkpoint, given each checkpoint's error."""
    return DataError(
        f"{'; '.join(errors)}; there is no other checkpoint; to start over, use sparl train with "
        "--overwrite"
    )


def _own_digest(content: Tree) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())


def _name(env_step: int) -> str:
    return f"checkpoint-{env_step}"


def step_of(path: Path) -> int:
    """Return the step in the name of a checkpoint's folder."""
    return int(path.name.rpartition("-")[2])
