"""Stop a run early, and log it to Weights & Biases: python examples/callbacks.py [STEPS].

The example requires pip install wandb. With WANDB_MODE=offline, the log is written to a folder, and
no account is needed.
"""

import sys

import wandb

import sparl


class EarlyStopping(sparl.Callback):
    """Stop a run whose mean return has not improved for several evaluations."""

    def __init__(self, patience):
        self.patience = patience

    def on_evaluation(self, run, evaluation):
        """Stop the run if none of the last evaluations is better than the best earlier one."""
        returns = [mean for _, mean in run.evaluations]
        earlier, last = returns[: -self.patience], returns[-self.patience :]
        if earlier and max(last) <= max(earlier):
            run.stop()


class WeightsAndBiases(sparl.Callback):
    """Log the configuration, the evaluations and the training metrics of a run."""

    def __init__(self, log):
        self.log = log

    def on_evaluation(self, run, evaluation):
        """Log an evaluation, and the means of the metrics since the previous one."""
        self.log.config.update(run.config.as_dict())
        self.log.log(
            {
                "evaluation/return_mean": evaluation.mean,
                "evaluation/return_std": evaluation.std,
                **{f"train/{name}": value for name, value in run.metrics.items()},
            },
            step=run.env_step,
        )


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with wandb.init(project="sparl") as log:
        run = sparl.train(
            "DS-TD3",
            "Pendulum-v1",
            steps=steps,
            warmup_env_steps=steps // 10,
            evaluate_every_env_steps=steps // 20,
            callback=[WeightsAndBiases(log), EarlyStopping(patience=5)],
        )
    step, best = max(run.evaluations, key=lambda evaluation: evaluation[1])
    print(f"{len(run.evaluations)} evaluations; best return {best:,.1f} at step {step:,}")
