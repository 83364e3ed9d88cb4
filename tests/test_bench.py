"""Test the output of the benchmark, but not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparl import _native
from sparl.bench import command, growth, kernels, peers, training, update
from sparl.bench.timing import medians
from sparl.bench.training import floor
from sparl.cli import main
from sparl.errors import SparlError


def test_contestants_are_interleaved_and_give_their_medians() -> None:
    order = []

    def measure(name: str, values: list[float]) -> float:
        order.append(name)
        return values.pop(0)

    a, b = [3.0, 1.0, 2.0], [5.0, 5.0, 9.0]
    found = medians({"a": lambda: measure("a", a), "b": lambda: measure("b", b)}, 3)
    assert found == {"a": 2.0, "b": 5.0}
    assert order == ["a", "b"] * 3


def test_a_kernels_row_counts_its_stored_weights() -> None:
    row = kernels.measure((23, 40), 0.25, 17, peak_gflops=100.0, repetitions=1, least=1e-5)
    assert row["connections"] == 230
    assert {*kernels.KERNELS, "NumPy dense"} <= set(row["microseconds"])
    assert all(took > 0 for took in row["microseconds"].values())
    row["microseconds"]["forward"] = 2.0
    assert kernels.gflops(row, "forward") == pytest.approx(2 * 230 * 17 / 2000)


@pytest.mark.parametrize("kernel", kernels.KERNELS)
def test_a_roofline_is_the_work_at_the_peak_or_the_loads(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = _native.Linear(3, 2, np.arange(6))
    took = iter([5e-6, 3e-6, 4e-6, 6e-6, 9e-6] * 2)
    monkeypatch.setattr(_native, "seconds_of_loads", lambda *_: next(took))
    work = 2e-9 * 6 * 10 / 0.01 * 1e6  # 12 microseconds
    assert kernels.roofline(layer, kernel, 10, 0.01, 1e-6) == pytest.approx(work)
    assert kernels.roofline(layer, kernel, 10, 1.0, 1e-6) == pytest.approx(3.0)


def test_numpy_is_measured_on_one_thread() -> None:
    program = (
        "import os, sys; from sparl.cli import main; assert 'numpy' not in sys.modules;"
        "main(['bench', '--only', 'x']); print(os.environ['OPENBLAS_NUM_THREADS'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "1\n"


@pytest.mark.parametrize(
    ("kernel", "batch", "says"), [("sideways", 4, "sideways"), ("forward", 0, "batch is 0")]
)
def test_an_unknown_kernel_is_rejected(kernel: str, batch: int, says: str) -> None:
    layer = _native.Linear(3, 2, np.arange(6))
    with pytest.raises(ValueError, match=says):
        _native.seconds_per_call(layer, kernel, batch, 1e-6)
    with pytest.raises(ValueError, match=says):
        _native.seconds_of_loads(layer, kernel, batch, 1e-6)


def test_every_part_of_an_update_is_measured() -> None:
    parts = update.split(
        "Pendulum-v1",
        1,
        {"method": "DS-TD3", "hidden": (16, 16), "rewire_every_updates": 5, "batch_size": 8},
        updates=20,
        repetitions=1,
    )
    total = parts.pop("total")
    assert set(parts) == {*update.PARTS, "Python and NumPy"}
    assert all(0 < parts[p] < total for p in parts if p != "target")
    assert parts["target"] == 0


def test_the_lower_bound_is_multiply_adds_over_the_peak() -> None:
    """A TD3 update of the dense HalfCheetah networks takes 810,000 multiply-adds per sample."""
    found = floor("HalfCheetah-v5", {"method": "TD3", "batch_size": 256}, peak_gflops=100.0)
    assert found["update"] == pytest.approx(2e3 * 810e3 * 256 / 100e9, rel=0.02)
    assert found["evaluation"] == pytest.approx(2 * found["environment"])


def test_the_fit_finds_the_cost_per_neuron_and_per_connection() -> None:
    sizes = [(2 * width, n) for width, n in growth.sizes(1_000_000)]
    rows: list[dict[str, Any]] = [
        {"neurons": m, "connections": n, "milliseconds": 3e-6 * m + 2e-6 * n} for m, n in sizes
    ]
    fit = growth.fit(rows, "milliseconds")
    assert fit["per_neuron"] == pytest.approx(3e-6)
    assert fit["per_connection"] == pytest.approx(2e-6)
    assert fit["largest_deviation"] < 1e-9
    for row in rows:  # the additional cost of dense matrices
        row["milliseconds"] += 1e-8 * row["neurons"] ** 2
    assert growth.fit(rows, "milliseconds")["largest_deviation"] > 0.5


def test_the_command_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "sizes", lambda largest: [(512, 1000), (64, 2000)])
    path = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--only", "growth", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "multiply-add peak" in printed
    assert "per connection" in printed
    content = json.loads(path.read_text())
    assert [row["connections"] for row in content["growth"]["rows"]] == [1000, 2000]
    assert content["peak_gflops"] > 0
    assert "kernels" not in content


def test_every_section_prints_its_measurements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = kernels.measure((23, 40), 0.25, 17, peak_gflops=100.0, repetitions=1, least=1e-5)
    monkeypatch.setattr(kernels, "all_kernels", lambda *_, **__: [row])
    parts = {"adam": 0.1, "forward": 30.4, "total": 31.0}
    monkeypatch.setattr(update, "split", lambda *_, **__: dict(parts))
    monkeypatch.setattr(training, "steps_per_second", lambda env, threads, fields: 2000.0 / threads)
    monkeypatch.setattr(training, "seconds", lambda step, least: step() or 1e-4)
    monkeypatch.setattr(peers, "_PACKAGES", {"SBX TD3": ("pytest",)})
    monkeypatch.setattr(peers, "_PROGRAM", "print(1234.0)")
    path = tmp_path / "bench.json"
    words = ["--only", "kernels", "update", "training", "--env", "Pendulum-v1", "--against"]
    assert main(["bench", *words, "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert ["23x40", "17", "0.25"] in [line.split()[:3] for line in printed.splitlines()]
    assert ", threads 2: 31 us; forward 30\n" in printed
    content = json.loads(path.read_text())
    assert {part["name"] for part in content["update"]} == set(update.CONFIGURATIONS)
    dense, *_, peer = content["training"]
    assert dense["steps_per_second"] == {"1": 2000.0, "2": 1000.0}
    assert dense["floor_ms"]["environment"] == pytest.approx(0.1)
    assert peer == {"name": "SBX TD3", "steps_per_second": {"1": 1234.0, "2": 1234.0}}
    assert "1,234" in printed


def test_a_peer_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_RLTOOLS_PROGRAM", "raise OSError('no compiler')")
    with pytest.raises(SparlError, match=r"RLtools failed: OSError: no compiler"):
        peers.PEERS["RLtools TD3"]("Pendulum-v1", 1)


@pytest.mark.slow
def test_the_speed_of_training_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "WARMUP", 50)
    monkeypatch.setattr(training, "SPAN", 100)
    fields = {"hidden": "8", "batch_size": 4, "evaluation_episodes": 1}
    assert training.steps_per_second("Pendulum-v1", 1, fields) > 0
    with pytest.raises(SparlError, match=r"training failed: .*NoSuch-v0"):
        training.steps_per_second("NoSuch-v0", 1, fields)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--json", "{folder}/no/b.json"], "No such file"),
        (["--json", "{folder}"], "Is a directory"),
        (["--only", "kernels", "--plot", "{folder}/x.svg"], "the section growth must be measured"),
        (["--only", "growth", "--plot", "{folder}/x.txt"], ".svg or .png"),
        (["--only", "training", "--env", "HalfCheeta-v5"], "did you mean"),
    ],
)
def test_invalid_options_are_reported_before_the_measurements(
    args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *(a.format(folder=tmp_path) for a in args)]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert "peak" not in out


def test_missing_peers_are_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_PACKAGES", {"A peer": ("no-such-package",)})
    assert main(["bench", "--against", "--only", "training"]) == 2
    assert "--against needs another library" in capsys.readouterr().err
    assert command.peers.installed() == []
