"""Stop a run early, and log it to Weights & Biases: python examples/callbacks.py [STEPS].

pip install wandb. WANDB_MODE=offline logs to a folder, without an account.
"""

import sys

import wandb

import sparl


class EarlyStopping(sparl.Callback):
    """Stops the run when the mean return has not improved for several evaluations."""

    def __init__(self, patience: int = 10):
        self.patience = patience

    def on_evaluation(self, run, evaluation):
        """Compare the best of the last evaluations with the best of all earlier ones."""
        returns = [mean for _, mean in run.evaluations]
        earlier, last = returns[: -self.patience], returns[-self.patience :]
        if earlier and max(last) <= max(earlier):
            run.stop()


class WeightsAndBiases(sparl.Callback):
    """Logs evaluations and training metrics to a run of Weights & Biases."""

    def __init__(self, log: wandb.Run):
        self.log = log

    def on_evaluation(self, run, evaluation):
        """Log the evaluation and the means since the evaluation before."""
        self.log.config.update(run.config.as_dict(), allow_val_change=True)
        returns = {
            "evaluation/return_mean": evaluation.mean,
            "evaluation/return_std": evaluation.std,
        }
        metrics = {f"train/{name}": value for name, value in run.metrics.items()}
        self.log.log(returns | metrics, step=run.env_step)


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with wandb.init(project="sparl") as log:
        run = sparl.train(
            "DS-TD3",
            "Pendulum-v1",
            steps=steps,
            warmup_env_steps=steps // 10,
            evaluate_every_env_steps=steps // 20,
            callback=[WeightsAndBiases(log), EarlyStopping(patience=5)],
        )
    print(
        f"{len(run.evaluations)} evaluations, the best {max(run.evaluations, key=lambda e: e[1])}"
    )
