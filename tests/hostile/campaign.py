"""Run commands on hostile files, and check that no file causes a forbidden effect.

    python tests/hostile/campaign.py --seconds 600              # generate new cases
    python tests/hostile/campaign.py --seed 3 --case 17         # repeat one case

A case consists of the folder `target`, created by one of `generators.KINDS`, and a command. The
command must not create, change or remove any file that it may not write, and must not import or
execute anything. Its time and memory must stay within limits, its exit code must be documented, and
its output must consist of plain lines without a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import sparl
from hostile.bounds import TooLong, limited_to, limits, read, write
from hostile.changes import MARK, MODULE, OWNED, Files
from hostile.generators import KINDS, Case, put_link
from resuming import stopped_at
from sparl.cli import main
from sparl.studies import command as study_command
from sparl.studies.study import read_studies, write_plan

MEGABYTES = 300  # memory limit per case
SECONDS = 30  # time limit per case, long enough for a busy machine
ALONE = 40  # one case in this many also runs in a separate process
CODES = (0, 2, 3, 4, 5, 6, 7)  # exit codes that a file may cause
SOURCES = str(Path(sparl.__file__).parent)
STUDY = """
environments = ["Pendulum-v1"]
methods = ["DS-TD3"]
seeds = 2
[fields]
steps = 60
hidden = [6]
batch_size = 4
warmup_env_steps = 10
evaluation_episodes = 1
evaluate_every_env_steps = 20
max_episode_steps = 15
rewire_every_updates = 5
rewire_fraction = 0.5
actor_densities = [0.5, 1.0]
critic_densities = [0.5, 1.0]
"""
CANARY = f"from pathlib import Path\nPath(__file__).with_name('{OWNED}').touch()\n"


# ------------------------------------------------------------------ watched events


class Watch:
    """Records Python events that no file may cause.

    Attributes:
        seen: the recorded events.
    """

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        self._command = ""
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def over(self, command: str) -> Iterator[None]:
        """Clear `seen`, and record events during the block, which runs the command."""
        self.seen, self._command = [], command
        try:
            yield
        finally:
            self._command = ""

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._command:
            return
        told = self._trouble(event, args)
        if told:
            self.seen.append(f"{event}: {told}")

    def _trouble(self, event: str, args: tuple[Any, ...]) -> str:
        if event == "import":
            return str(args[0]) if str(args[0]).partition(".")[0] == MODULE else ""
        if event in ("exec", "compile"):
            # The two frames below the caller's are those of this function and of _hear.
            caller = sys._getframe(2).f_code.co_filename
            source = args[0].co_filename if event == "exec" else str(args[1])
            ours = caller.startswith(SOURCES) or source.startswith(self._root)
            return f"{source}, by {caller}" if ours else ""
        if event == "subprocess.Popen":
            words = [str(word) for word in args[1]]
            exported = self._command == "export" and (
                Path(words[0]).name in ("cc", "gcc", "clang") or words[0].startswith(self._root)
            )
            asked = Path(words[0]).name == "git"  # sparl runs git to read its commit
            return "" if exported or asked else " ".join(words)
        if event in ("os.system", "os.exec", "os.posix_spawn", "socket.connect",
                     "pickle.find_class"):  # fmt: skip
            return str(args)
        if event == "open":
            writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            return self._outside(args[0]) if writes else ""
        if event in ("os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.link", "os.symlink",
                     "os.truncate", "os.chmod", "shutil.rmtree"):  # fmt: skip
            return self._outside(args[0])
        return ""

    def _outside(self, path: Any) -> str:
        """Return the path if it is absolute and outside the sandbox, otherwise an empty string."""
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        inside = text.startswith((self._root, "/dev/", "/proc/self/"))
        return text if text.startswith("/") and not inside else ""


def state_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return type, identity, size, time and link target of every entry below a folder."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            about = os.lstat(path)
            goal = str(Path(path).readlink()) if stat.S_ISLNK(about.st_mode) else ""
            changed = 0 if stat.S_ISDIR(about.st_mode) else about.st_mtime_ns
            found[path[len(str(root)) + 1 :]] = (
                about.st_mode, about.st_ino, changed and about.st_size, changed, goal,
            )  # fmt: skip
    return found


def peak_megabytes() -> int:
    """Return the peak memory since the previous call."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1]) // 1024


# ------------------------------------------------------------------ the sandbox


class Sandbox:
    """A folder with the specimens, the canaries and the folder in which cases run."""

    def __init__(self, root: Path) -> None:
        self.root, self.here, self.canaries = root, root / "up" / "here", root / "up" / "next"
        self.specimens = specimens(root / "made")
        (root / "tmp").mkdir()
        (root / "modules").mkdir()
        (root / "modules" / f"{MODULE}.py").write_text(CANARY)
        sys.path.append(str(root / "modules"))
        os.environ |= {"TMPDIR": str(root / "tmp"), "HOME": str(root / "home")}
        tempfile.tempdir = str(root / "tmp")
        (root / "home").mkdir()
        self.watch = Watch(root)

    def fill(self, case: Case) -> None:
        """Recreate the canaries, and write a case's files."""
        shutil.rmtree(self.root / "up", ignore_errors=True)
        self.here.mkdir(parents=True)
        write(self.canaries / "run", self.specimens["stopped"])
        for folder in (self.canaries, self.here, self.here.parent, self.root):
            (folder / "precious.txt").write_text("precious")
        (self.here / f"{MODULE}.py").write_text(CANARY)
        write(self.here, case.files)
        if case.link:
            put_link(self.here, self.canaries, *case.link)

    def attempt(self, seed: int, number: int) -> str:
        """Run a case; return a description of the failure, or ""."""
        rng = np.random.default_rng([seed, number])
        kind = list(KINDS)[number % len(KINDS)]
        case = KINDS[kind](self.specimens, rng)
        alone = rng.random() < 1 / ALONE
        for outside in (False, True)[: 1 + alone]:
            self.fill(case)
            troubles = self._run_outside(case) if outside else self._run(case)
            if troubles:
                about = f"{kind}: sparl {' '.join(case.words)}"
                about += f"; {': '.join(case.link)}" if case.link else ""
                return "\n".join([about, *(f"  {trouble}" for trouble in troubles)])
        return ""

    def _run(self, case: Case) -> list[str]:
        before = state_of(self.root)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape") for _ in range(2))
        peak_megabytes()
        least = peak_megabytes()
        start = time.monotonic()
        try:
            with (
                contextlib.chdir(self.here), contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err), self.watch.over(case.words[0]),
                limited_to(SECONDS),
            ):  # fmt: skip
                code: Any = main(case.words)
        except SystemExit as exit_:
            code = exit_.code
        except (Exception, TooLong):
            code = traceback.format_exc()
        said = (stream.detach().getvalue().decode("utf-8", "replace") for stream in (out, err))
        troubles = self._check(case, before, code, *said)
        troubles += list(self.watch.seen)
        if time.monotonic() - start > SECONDS:
            troubles.append(f"it took more than {SECONDS} s")
        if peak_megabytes() - least > MEGABYTES:
            troubles.append(f"it took more than {MEGABYTES} MB")
        return troubles

    def _run_outside(self, case: Case) -> list[str]:
        before = state_of(self.root)
        path = f"{Path(SOURCES).parent}:{self.root / 'modules'}"
        words = [sys.executable, "-m", "sparl", *case.words]
        if "study" in case.words and "run" in case.words:
            return []  # the command would train
        try:
            done = subprocess.run(
                words, cwd=self.here, capture_output=True, timeout=4 * SECONDS, check=False,
                env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return [f"it took more than {4 * SECONDS} s in a separate process"]
        said = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        return self._check(case, before, done.returncode, *said)

    def _check(
        self, case: Case, before: dict[str, tuple[Any, ...]], code: Any, out: str, err: str
    ) -> list[str]:
        after = state_of(self.root)
        mine = [f"up/here/{name}" for name in case.writes]
        troubles = [
            f"{'removed' if name not in after else 'made or changed'}: {name}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
            and not any(name == path or name.startswith(f"{path}/") for path in mine)
            and not name.startswith("tmp/")
            and name != "up/here/target/.lock"  # only resume may create a lock
        ]
        incomplete = code == 1 and case.words[:2] == ("study", "run") and not err
        if code not in CODES and not incomplete:
            troubles.append(f"exit code {code}: {err.strip()[-2000:]}")
        if code and code in CODES and not re.fullmatch("(warning: .*\n)*sparl: .*\n", err):
            troubles.append(f"not one line: {err[:2000]!r}")
        if "on the exported C" in err:
            troubles.append(f"a text became C: {err[:2000]}")
        if case.rejected and code == 0:
            troubles.append("it was accepted")
        if "Traceback" in out + err or "out of memory" in err:
            troubles.append(err[-2000:])
        troubles += [
            f"printed: {line!r:.300}" for line in (out + err).split("\n") if not _plain(line)
        ]
        return troubles + [trouble for name in case.writes for trouble in _active(self.here / name)]


def _plain(line: str) -> bool:
    """Return whether a line contains no characters that control a terminal."""
    return not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", line)


def _active(place: Path) -> list[str]:
    """Return the case's texts that became active content in written files."""
    found = []
    for path in [place, *place.rglob("*")] if not place.is_symlink() else []:
        if path.suffix not in (".html", ".svg", ".md", ".csv") or not path.is_file():
            continue
        if path.name in ("evaluations.csv", "metrics.csv", "topology.csv"):
            continue  # this is a file of the run, copied byte for byte
        text = path.read_text("utf-8", "replace")
        active = {
            ".csv": rf"(?m)(^|,)\"?[=+@\t-]+{MARK}",
            ".md": r"(?<!\\)\]\(javascript",
        }.get(path.suffix, f"<script>{MARK}|<img src=x onerror={MARK}|<{MARK}/>")
        if match := re.search(active, text):
            found.append(f"{path}: {match[0][:200]!r}")
    return found


def specimens(made: Path) -> dict[str, Files]:
    """Create valid folders: a stopped run, a finished run, a study and an archive."""
    made.mkdir()
    file = made / "study.toml"
    file.write_text(STUDY)
    study = read_studies([file])
    write_plan(made / "study", study)
    for unit in study.units:
        sparl.train(run_dir=made / "study" / unit.id, quiet=True, threads=1, **unit.fields)
    fields = {**study.units[0].fields, "threads": 1}
    with stopped_at(37):
        sparl.train(run_dir=made / "stopped", quiet=True, **fields)
    for path in made.rglob("run.json"):  # the tests record a commit; remove it
        about = json.loads(path.read_text())
        about["versions"].pop("commit", None)
        path.write_text(json.dumps(about))
    finished = made / "study" / study.units[0].id
    with contextlib.redirect_stdout(io.StringIO()):
        words = ["archive", str(finished), "--to", str(made / "archive"), "--commit", "abcdef0"]
        assert main(words) == 0
    return {
        "stopped": read(made / "stopped"), "finished": read(finished),
        "study": read(made / "study"), "archive": read(made / "archive"),
        "study.toml": {"study.toml": STUDY.encode()},
    }  # fmt: skip


def no_trainings(*_: object) -> None:
    """Replace the function that starts the processes of a study."""


def run(options: argparse.Namespace, root: Path) -> int:
    """Run cases until the time is up; return the number of kinds of failure."""
    sys.dont_write_bytecode = True
    study_command.execute = no_trainings  # type: ignore[assignment]
    sandbox = Sandbox(root)
    wanted = range(options.cases) if options.case is None else [options.case]
    found: set[str] = set()
    check_valid(sandbox)
    start, tried = time.monotonic(), 0
    with limits():
        for number in wanted:
            if time.monotonic() - start > options.seconds:
                break
            trouble = sandbox.attempt(options.seed, number)
            tried += 1
            if trouble:
                key = re.sub(r"\d+", "N", trouble)
                if key not in found:
                    print(f"--seed {options.seed} --case {number}\n{trouble}", flush=True)
                found.add(key)
    print(f"{tried:,} cases, {len(found)} kinds of trouble")
    return len(found)


def check_valid(sandbox: Sandbox) -> None:
    """Check that the commands accept the specimens without a failure."""
    run = {f"target/{name}": data for name, data in sandbox.specimens["finished"].items()}
    for words, writes in (
        (("evaluate", "target"), ()), (("info", "target"), ()), (("resume", "target"), ("target",)),
        (("export", "target", "--format", "c", "--out", "out"), ("out",)),
        (("export", "target", "--format", "npz", "--out", "out"), ("out",)),
        (("report", "target", "--out", "out", "--tables-only"), ("out",)),
        (("archive", "target", "--to", "out", "--commit", "abcdef0"), ("out",)),
        (("cost", "--config", "target/config.toml"), ()),
        (("train", "--config", "target/config.toml", "--run-dir", "out"), ("out",)),
    ):  # fmt: skip
        case = Case(run, words, writes)
        sandbox.fill(case)
        troubles = sandbox._run(case)
        if troubles:
            raise AssertionError(f"sparl {' '.join(words)} of a valid run: {troubles}")


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--cases", type=int, default=10**9)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--case", type=int, help="run only this case, and keep its folder")
    return options.parse_args(words)


if __name__ == "__main__":
    chosen = options_of()
    if chosen.case is not None:
        kept = Path(tempfile.mkdtemp())
        print(f"in {kept}")
        sys.exit(min(run(chosen, kept), 1))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(min(run(chosen, Path(folder)), 1))
