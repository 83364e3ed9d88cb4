"""Pin the results of short runs, which draw from every random stream of a training run.

A change that alters these results must raise `sparl.identity.results_version` for the affected
configurations and be listed in CHANGELOG.md, under "Changes that alter results". The results on
different instruction sets differ by less than 1e-6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bad_environments  # noqa: F401  # registers the environment
from sparl.methods import preset
from sparl.training.assemble import assemble

SPARSE = {"actor_sparsity": 0.5, "critic_sparsity": 0.5, "n_step_delay_updates": 40}
# Returns of the first and the last evaluation, metrics after the last step, and the sums of the
# positions of the actor's and the critics' connections.
RESULTS: list[tuple[str, dict[str, Any], dict[str, float], tuple[int, int]]] = [
    (
        "DS-TD3", {},
        {"first": 4.614811, "last": 5.342667, "critic_loss": 0.5733256, "q": -0.05939992,
         "actor_loss": 0.03943886, "episode_return": -3.009479},
        (17549, 37396),
    ),
    (
        "RLx2-TD3", SPARSE,
        {"first": 4.684190, "last": 6.024807, "critic_loss": 3.776539, "q": -0.09773584,
         "actor_loss": 0.2542407, "episode_return": -2.451150},
        (14060, 29129),
    ),
    (
        "RLx2-SAC", SPARSE,
        {"first": 7.014156, "last": 4.693979, "critic_loss": 10.58369, "q": 0.06478763,
         "actor_loss": 0.2196596, "alpha": 0.9807733, "entropy": -0.2145911,
         "episode_return": -1.518401},
        (13547, 30161),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "fields", "numbers", "positions"), RESULTS)
def test_results_change_only_with_their_version(
    method: str,
    fields: dict[str, Any],
    numbers: dict[str, float],
    positions: tuple[int, int],
    tmp_path: Path,
) -> None:
    config = preset(
        method, "Walks-v0", seed=3, steps=150, warmup_env_steps=30, hidden=(16, 16), batch_size=16,
        evaluation_episodes=2, evaluate_every_env_steps=150, rewire_every_updates=25,
        rewire_first_update=2, run_dir=str(tmp_path / "run"), **fields,
    )  # fmt: skip
    training = assemble(config, quiet=True)
    (_, first), (_, last) = training.run().evaluations
    found = {"first": first, "last": last, **training.record.last_metrics}
    networks = training.agent.networks()
    sums = tuple(
        sum(int(np.sum(v)) for k, v in networks[name].items() if k.endswith("positions"))
        for name in ("actor", "critics")
    )
    advice = "raise results_version for the affected configurations, and list them in CHANGELOG.md"
    assert {name: found[name] for name in numbers} == pytest.approx(numbers, rel=1e-4), advice
    assert sums == positions, advice
