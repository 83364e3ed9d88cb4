"""ONNX exports compute the policy's actions in ONNX Runtime, for batches of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import sparl
from hostile.test_attacks import wide
from sparl.cli import main
from sparl.errors import UsageError
from sparl.export import onnx_model


@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-SAC"])
@pytest.mark.parametrize("env", ["Pendulum-v1", "HalfCheetah-v5"])
def test_the_actions_are_the_same_for_any_batch(
    method: str, env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sparl.train(
        method, env, quiet=True, run_dir=str(tmp_path), steps=200, warmup_env_steps=100,
        batch_size=16, evaluate_every_env_steps=200, evaluation_episodes=1, max_episode_steps=50,
    )  # fmt: skip
    assert main(["export", str(tmp_path), "--format", "onnx"]) == 0
    assert "checked on 50 observations" in capsys.readouterr().out
    agent = sparl.load(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "export" / "policy.onnx")
    for batch in (1, 7, 100):
        shape = (batch, agent.n_obs)
        observations = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        (actions,) = session.run(None, {"observation": observations})
        assert actions == pytest.approx(agent.predict(observations), abs=1e-6)


def test_an_export_with_wrong_weights_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sparl.train(
        "TD3", "Pendulum-v1", quiet=True, run_dir=str(tmp_path), steps=150, hidden=(8,),
        warmup_env_steps=100, evaluate_every_env_steps=150, evaluation_episodes=1,
    )  # fmt: skip
    build = onnx_model.onnx_model

    def damaged(policy: onnx_model.Policy, name: str) -> bytes:
        policy.layers[0].bias[0] += 1
        return build(policy, name)

    monkeypatch.setattr(onnx_model, "onnx_model", damaged)
    assert main(["export", str(tmp_path), "--format", "onnx"]) == 3
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()


def test_absent_connections_that_onnx_would_store_are_counted_first() -> None:
    with pytest.raises(UsageError, match="3,600,120,000 bytes"):
        onnx_model.onnx_model(wide(30_000), "policy")
