"""Search hyperparameters with Optuna, which stops unpromising runs early.

python examples/optuna_search.py [STEPS [TRIALS]]

The example requires pip install optuna.
"""

import sys

import optuna

import sparl


class Pruning(sparl.Callback):
    """Report each evaluation to Optuna, and stop the run if Optuna prunes the trial."""

    def __init__(self, trial: optuna.Trial):
        self.trial = trial

    def on_evaluation(self, run, evaluation):
        """Report the mean return, and stop the run if the trial should be pruned."""
        self.trial.report(evaluation.mean, step=run.env_step)
        if self.trial.should_prune():
            run.stop()


def search(steps: int, trials: int) -> optuna.Study:
    """Search for a learning rate and a fraction of connections to move."""

    def objective(trial: optuna.Trial) -> float:
        run = sparl.train(
            "DS-TD3",
            "Pendulum-v1",
            seed=trial.number,
            steps=steps,
            warmup_env_steps=steps // 10,
            evaluate_every_env_steps=steps // 5,
            evaluation_episodes=5,
            learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            rewire_fraction=trial.suggest_float("rewire_fraction", 0.01, 0.3),
            callback=Pruning(trial),
            quiet=True,
        )
        trial.set_user_attr("run", str(run.path))
        if run.stopped_by == "callback":
            raise optuna.TrialPruned
        return run.final_return

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    study.optimize(objective, n_trials=trials)
    return study


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    trials = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    study = search(steps, trials)
    best = study.best_trial
    print(f"best return {best.value:,.1f} with {best.params}: {best.user_attrs['run']}")
