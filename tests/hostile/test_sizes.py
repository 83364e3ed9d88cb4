"""Test that allocations are proportional to the size of a file, whatever the file claims."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import sparl
from layouts import sizes_of
from resuming import stopped_at
from sparl import _native
from sparl.architecture import architecture
from sparl.errors import DataError
from sparl.methods import preset
from sparl.training.tensors import pack
from test_hostile_files import CHECKPOINT, FIELDS, rejection, sign_agent, sign_checkpoint

pytestmark = pytest.mark.slow

Tree = dict[str, Any]
ENV = "Hopper-v5"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped run with an agent and a checkpoint."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with stopped_at(37):
        sparl.train("RLx2-SAC", ENV, run_dir=path, rewire_every_updates=5, **FIELDS)
    return path


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the run to damage."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


# ------------------------------------------------------------------ allocation

MEASURED = """
import json, resource, sys, time
import sparl.training.start, sparl.training.about, sparl.report.command
from sparl.cli import main
for words in json.loads(sys.argv[1]):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    code = main(words)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(words[0], code, time.process_time() - start, (after - before) // 1024)
"""


def rejected_at_once(*commands: list[str]) -> str:
    """Run commands that must reject a file without allocating memory; return their messages."""
    done = subprocess.run([sys.executable, "-c", MEASURED, json.dumps(commands)],
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(commands)
    for line in lines:
        name, code, seconds, megabytes = line.split()
        assert code == "3", (name, done.stderr)
        assert float(seconds) < 3, name  # CPU time, including the creation of an environment
        assert int(megabytes) < 100, name
    assert done.stderr.count("\n") == len(commands), done.stderr
    return done.stderr


def write_agent(run: Path, layers: list[tuple[int, int]], **policy: Any) -> None:
    """Replace the agent by an actor with these connections and outputs, and update its digest."""
    arrays = {}
    for index, (count, outputs) in enumerate(layers):
        name = f"actor.member0.layer{index}"
        arrays[f"{name}.positions"] = np.arange(count, dtype=np.int64)
        arrays[f"{name}.weight"] = np.ones(count, np.float32)
        arrays[f"{name}.bias"] = np.zeros(outputs, np.float32)
    (run / "agent.safetensors").write_bytes(pack(arrays))

    def change(manifest: Tree) -> None:
        manifest["networks"] = {"actor": [[{"connections": c, "outputs": o} for c, o in layers]]}
        manifest["policy"] |= policy

    sign_agent(run, change)


@pytest.mark.parametrize(
    ("observations", "rule"),
    [*((n, "in [1, 65,536]") for n in (2**28 - 1, 2**27, 2**62)),
     *((n, "an integer of at least 1") for n in (-1, 0, True, 1.5, "1"))],
)  # fmt: skip
def test_an_agent_has_no_more_inputs_than_its_file_justifies(
    run: Path, observations: Any, rule: str
) -> None:
    write_agent(run, [(3, 4), (3, 6)], observations=observations)
    out = str(run / "out")
    said = rejected_at_once(
        ["evaluate", str(run)], ["export", str(run), "--format", "npz", "--out", out]
    )
    assert said.count(f"but must be {rule})") == 2


def test_an_agent_with_many_inputs_and_few_connections_is_read(run: Path) -> None:
    write_agent(run, [(3, 4), (3, 6)], observations=60_000)
    assert sparl.load(run).predict(np.zeros(60_000)).shape == (3,)


def test_an_agents_sizes_must_match_its_arrays(run: Path) -> None:
    write_agent(run, [(0, 6)])
    for sizes in ({"outputs": 4_000_000_000}, {"connections": 4_000_000_000}):
        sign_agent(run, lambda m, s=sizes: m["networks"]["actor"][0][0].update(s))
        assert "agent.safetensors" in rejected_at_once(["evaluate", str(run)])


def set_fields(run: Path, **fields: str) -> None:
    path = run / "config.toml"
    text = path.read_text()
    for name, value in fields.items():
        text, count = re.subn(rf"(?ms)^{name} = (\[.*?^\]|[^\n]*)", f"{name} = {value}", text)
        assert count == 1
    path.write_text(text)


@pytest.mark.parametrize("hidden", ["[268435455, 268435455]", "[3000, 3000]", "[3000000]", "[9]"])
def test_a_configuration_of_networks_that_no_checkpoint_contains_is_rejected(
    hidden: str, run: Path
) -> None:
    set_fields(run, hidden=hidden)
    said = rejected_at_once(["resume", str(run)])
    assert f"{run / CHECKPOINT / 'state.safetensors'}: " in said


def test_a_configuration_has_no_more_layers_than_networks_may_have(run: Path) -> None:
    set_fields(run, hidden=f"[{'1, ' * 150_000}]")
    for command in ("resume", "evaluate", "info"):
        assert "hidden is (1, 1," in rejected_at_once([command, str(run)])


def test_the_width_of_a_narrow_network_is_found_at_once() -> None:
    config = preset("Tiny-TD3", ENV, hidden=(2**28 - 1, 2**28 - 1))
    (_, width), _ = sizes_of(architecture(config, 11, 3).networks["actor"])[0]
    assert 1 < width < 2**28
    # Compare with the width that an exhaustive search finds.
    for hidden in ((256, 256), (8,), (1, 1)):
        config = preset("Tiny-TD3", ENV, hidden=hidden)
        nets = architecture(config, 11, 3)
        sparse = architecture(preset("RigL-TD3", ENV, hidden=hidden), 11, 3)
        wanted = sparse.networks["actor"].connections

        def weights(width: int, depth: int = len(hidden)) -> int:
            return 11 * width + (depth - 1) * width**2 + 3 * width

        best = min(range(1, max(hidden) + 1), key=lambda w: abs(weights(w) - wanted))
        assert sizes_of(nets.networks["actor"])[0][0][1] == best


def test_a_table_takes_no_memory_for_missing_cells(run: Path) -> None:
    (run / "evaluations.csv").write_bytes(b"," * 100_000 + b"\n" + b"1\n" * 100_000)
    assert "line 2 has 1 cells, but the header has 100,001" in rejected_at_once(["info", str(run)])


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
@pytest.mark.parametrize("megabytes", [50, 200, 500])
@pytest.mark.parametrize("command", ["train", "resume", "evaluate"])
def test_too_little_address_space_is_reported_in_one_line(
    command: str, megabytes: int, run: Path
) -> None:
    words = ["--env", ENV, "--run-dir", str(run / "new")] if command == "train" else [str(run)]
    done = subprocess.run(
        [sys.executable, "-m", "sparl", command, *words], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2),
    )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr.count("\n") == 1
    assert f"limited to {megabytes} MiB (ulimit -v)" in done.stderr


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["weight", "bias"])
def test_weights_of_an_agent_are_finite(field: str, value: float, run: Path) -> None:
    path = run / "agent.safetensors"
    arrays = safetensors.numpy.load_file(path)
    name = f"actor.member0.layer0.{field}"
    arrays[name] = arrays[name].copy()
    arrays[name][-1] = value
    path.write_bytes(pack(arrays))
    sign_agent(run)
    with pytest.raises(
        DataError, match=re.escape(f"{name} contains a value that is NaN or infinite")
    ):
        sparl.load(run)


@pytest.mark.parametrize(
    "policy",
    [{"action_low": [float("nan")] * 3}, {"action_high": [float("inf")] * 3},
     {"action_low": [[-1.0] * 3]}, {"action_low": [-1.0]}, {"action_high": [10**400] * 3}],
)  # fmt: skip
def test_an_agents_action_bounds_are_finite_and_equal_in_number(policy: Tree, run: Path) -> None:
    sign_agent(run, lambda manifest: manifest["policy"].update(policy))
    with pytest.raises(DataError, match="the agent cannot be read"):
        sparl.load(run)


def at(*path: str, value: Any) -> Callable[[Tree], None]:
    def change(manifest: Tree) -> None:
        node = manifest
        for key in path[:-1]:
            node = node[key]
        assert path[-1] in node
        node[path[-1]] = value

    return change


AGENT = ("state", "agent")
STRANGE = {
    "negative steps of Adam": at(*AGENT, "actor_learner", "adam.steps", value=-1),
    "too many steps of Adam": at(*AGENT, "actor_learner", "adam.steps", value=10**30),
    "more steps of Adam than updates": at(*AGENT, "critics_learner", "adam.steps", value=28),
    "other updates": at(*AGENT, "agent", "updates", value=26),
    "own updates": at(*AGENT, "actor_learner", "own_updates", value=28),
    "topology updates to come": at(*AGENT, "critics_learner", "due_seen", value=1 << 100),
    "a temperature's steps": at(*AGENT, "temperature", "steps", value=1 << 120),
    "a temperature beyond float": at(*AGENT, "temperature", "log_alpha", value=1e300),
    "a temperature's moment": at(*AGENT, "temperature", "v", value=-1.0),
    "a stream's flag": at("state", "replay_rng", "has_uint32", value=1 << 100),
    "a stream's integer": at("state", "replay_rng", "uinteger", value=1 << 100),
    "a stream's state": at("state", "replay_rng", "state", value=1 << 128),
    "another generator": at("state", "environment", "np_random", "bit_generator", value="MT19937"),
    "episodes to come": at("state", "counters", "episodes", value=38),
    "another step": at("state", "counters", "env_step", value=36),
    "a step beyond the end": at("state", "counters", "env_step", value=61),
    "a mean of nothing": at("state", "recorded", "critic_loss", value=[1.0, 0]),
    "no time": at("about", "seconds", value=float("nan")),
    "negative time": at("about", "seconds", value=-5.0),
    "endless CPU time": at("about", "cpu_seconds", value=1e300),
    "continuations that are numbers": at("about", "continued", value=[5]),
    "continuations without a step": at("about", "continued", value=[{"not_exact_because": []}]),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_checkpoint_with_strange_values_is_rejected(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = {path.name: path.read_bytes() for path in run.glob("*.csv")}
    sign_checkpoint(run, STRANGE[name])
    assert CHECKPOINT in rejection(capsys, "resume", str(run))
    assert tables == {path.name: path.read_bytes() for path in run.glob("*.csv")}


@pytest.mark.parametrize(
    ("suffix", "value"),
    [("topology_updates.moved", -1), ("topology_updates.fraction", 1e300),
     ("topology_updates.fraction", np.nan), ("physics", 1e300),
     ("physics", np.inf), ("observation", np.nan), ("adam.v.member0.layer0.weight", -1.0),
     ("critics/member1.layer1.bias", np.inf)],
)  # fmt: skip
def test_a_checkpoint_with_strange_arrays_is_rejected(
    suffix: str, value: float, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / CHECKPOINT / "state.safetensors"
    arrays = safetensors.numpy.load_file(path)
    name = min(name for name in arrays if name.endswith(suffix))
    array = arrays[name].copy() if arrays[name].size else np.zeros(1, arrays[name].dtype)
    array.reshape(-1)[-1] = value
    path.write_bytes(pack({**arrays, name: array}))
    sign_checkpoint(run)
    assert CHECKPOINT in rejection(capsys, "resume", str(run))


@pytest.mark.parametrize("fields", [{"actor_sparsity": 1.0}, {"critic_sparsity": 1.0}])
def test_a_network_without_connections_causes_a_note(fields: Tree) -> None:
    notes = architecture(preset("RigL-TD3", ENV, **fields), 11, 3).notes
    name = next(iter(fields)).partition("_")[0]
    assert (
        f"layer 1 of the {name} has no connections, so the {name} ignores its input"
    ) in " ".join(notes)
    assert not architecture(preset("RigL-TD3", ENV), 11, 3).notes


# ------------------------------------------------------------------ native functions


def floats(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(count, np.float32)


def misaligned(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(4 * count + 4, np.uint8)[1 : 4 * count + 1].view(np.float32)


def native_pass() -> tuple[_native.Stack, _native.Trace, np.ndarray[Any, Any]]:
    layer = _native.Linear(3, 2, np.arange(6, dtype=np.int64))
    stack = _native.Stack([[layer]], ["linear"])
    _, trace = stack.forward(floats(8), [np.zeros((4, 3), np.float32)])
    return stack, trace, np.zeros((1, 4, 2), np.float32)


def test_native_functions_reject_misaligned_arrays() -> None:
    stack, trace, d = native_pass()
    p, m, v = floats(8), floats(8), floats(8)
    adam = (1, 1e-3, 0.9, 0.999, 1e-8, 0.0)
    positions = np.zeros(8 * 6 + 8, np.uint8)[4:52].view(np.int64)
    calls: list[Callable[[], object]] = [
        lambda: stack.forward(misaligned(8), [np.zeros((4, 3), np.float32)]),
        lambda: stack.outputs(p, [misaligned(12).reshape(4, 3)]),
        lambda: stack.gradient(p, trace, d, misaligned(8)),
        lambda: stack.gradient(p, trace, misaligned(8).reshape(1, 4, 2), floats(8)),
        lambda: stack.adam_step(misaligned(8), trace, d, m, v, *adam),
        lambda: stack.adam_step(p, trace, d, misaligned(8), v, *adam),
        lambda: stack.adam_step(p, trace, d, m, misaligned(8), *adam),
        lambda: _native.soft_update(misaligned(8), p, 0.5),
        lambda: _native.soft_update(p, misaligned(8), 0.5),
        lambda: _native.find_sorted(positions, np.zeros(1, np.int64)),
        lambda: _native.Linear(3, 2, positions),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"must be aligned to [48] bytes"):
            call()


def test_native_functions_reject_overlapping_arrays() -> None:
    stack, trace, d = native_pass()
    whole, p, m, v = floats(32), floats(8), floats(8), floats(8)
    adam = (1, 1e-3, 0.9, 0.999, 1e-8, 0.0)
    updater = _native.TargetUpdater([((0, 8), (0, 8), None, None, 0)])
    inside = whole[3:11].reshape(1, 4, 2)
    calls: list[Callable[[], object]] = [
        lambda: stack.gradient(p, trace, d, p),
        lambda: stack.gradient(whole[:8], trace, d, whole[7:15]),
        lambda: stack.gradient(p, trace, inside, whole[:8]),
        lambda: stack.adam_step(p, trace, d, p, v, *adam),
        lambda: stack.adam_step(p, trace, d, m, p, *adam),
        lambda: stack.adam_step(p, trace, d, m, m, *adam),
        lambda: stack.adam_step(whole[:8], trace, d, m, whole[4:12], *adam),
        lambda: stack.adam_step(whole[:8], trace, inside, m, v, *adam),
        lambda: _native.soft_update(p, p, 0.5),
        lambda: _native.soft_update(whole[:8], whole[7:15], 0.5),
        lambda: updater.update(p, p, 0.5),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must not overlap in memory"):
            call()
    _native.soft_update(whole[:8], whole[8:16], 0.5)  # adjacent arrays do not overlap
    stack.adam_step(whole[:8], trace, d, whole[8:16], whole[16:24], *adam).finish()


def gather_windows(**changed: np.ndarray[Any, Any]) -> None:
    """Gather windows of a ring of 4 transitions, with observations of length 2 and actions of 1."""
    arrays = {"rows": np.zeros((4, 20), np.uint8), "states_of": np.zeros(0, np.int64),
              "states": np.zeros((0, 2), np.float32), "ages": np.zeros(3, np.int64),
              "powers": np.ones(2, np.float32), "observation": np.zeros((3, 2), np.float32),
              "action": np.zeros((3, 1), np.float32), "reward": np.zeros((3, 1), np.float32),
              "discount": np.zeros((3, 1), np.float32),
              "reached": np.zeros((3, 2), np.float32)} | changed  # fmt: skip
    to = tuple(arrays[name] for name in ("observation", "action", "reward", "discount", "reached"))
    _native.gather_windows(
        arrays["rows"], 2, 1, 0, 4, arrays["states_of"], arrays["states"], arrays["ages"],
        arrays["powers"], to,
    )  # fmt: skip


def test_windows_reject_overlapping_and_misaligned_arrays() -> None:
    shared = np.zeros((3, 2), np.float32)
    rows = np.zeros((4, 20), np.uint8)
    into_rows = rows.reshape(-1)[:24].view(np.float32).reshape(3, 2)
    gather_windows()
    for changed in (
        {"observation": shared, "reached": shared},
        {"rows": rows, "reached": into_rows},
        {"states_of": np.zeros(1, np.int64), "states": shared[:1], "reached": shared},
        {"action": shared.reshape(-1)[:3].reshape(3, 1), "reward": shared.reshape(-1)[2:5, None]},
    ):
        with pytest.raises(ValueError, match="must not overlap in memory"):
            gather_windows(**changed)
    with pytest.raises(ValueError, match="windows: reached must be aligned to 4 bytes"):
        gather_windows(reached=misaligned(6).reshape(3, 2))
