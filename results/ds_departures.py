"""Train DS-TD3 without some of its departures from the authors' code.

    python results/ds_departures.py TREATMENT SEED FOLDER [--env ENV] [--steps N]

TREATMENT names what is done as in the released code of Sokar et al. (2021):

none
    Nothing: this is sparl's own DS-TD3.
moments
    Adam's moments of a grown connection. The released code keeps both moments of every position,
    existing or not; a grown connection starts with them.
first-step
    The moments, and the first step of a grown connection. In the released code, Adam also updates
    the absent weights, and the mask is applied after the topology update; a grown connection
    therefore starts with the result of one step from 0.
budget
    The budget of a target layer is the number of non-zero weights of the online layer. Because
    sparl's grown weights start at 0, they are missing from the budget at first; in the released
    code, their first step prevents this.
all
    The moments, the first step and the budget.

The run has the schedules of a run of 1,000,000 steps and ends after N steps (default 250,000). The
files in FOLDER are those of a DS-TD3 run and do not mention the treatment, so do not archive them.
The dense moments need time and memory, which is why this is a script and not a setting; they are
not saved, so `sparl resume` would continue a stopped run without the treatment.

Exit codes are those of `sparl train`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from repeat import Progress
from sparl.agents.td3 import TD3
from sparl.errors import SparlError
from sparl.learner import SparseLearner
from sparl.methods import preset
from sparl.networks.adam import Adam
from sparl.networks.layout import Layout
from sparl.networks.network import Network, Trace
from sparl.networks.spec import Place
from sparl.networks.target import OwnPatternTarget
from sparl.sparse.pattern import Positions
from sparl.sparse.rewiring import Rewiring
from sparl.training.assemble import assemble
from sparl.training.callbacks import Callbacks
from sparl.types import Array

TREATMENTS = ("none", "moments", "first-step", "budget", "all")
AVERAGED = 10  # number of evaluations whose mean is printed


class DenseMoments(Adam):
    """Adam that keeps the moments of all positions of the sparse layers, existing or not.

    Args:
        network: the network.
        adam: the optimiser to replace; it has not made a step yet.
        first_step: whether a grown connection starts with the result of one step from 0.
    """

    def __init__(self, network: Network, adam: Adam, *, first_step: bool) -> None:
        super().__init__(adam.layout, adam.learning_rate, adam.weight_decay, "zero")
        self.network = network
        self.first_step = first_step
        sizes = {place: pattern.size for place, pattern in self.layout if pattern.density < 1}
        self.dense_m = {place: np.zeros(size, np.float32) for place, size in sizes.items()}
        self.dense_v = {place: np.zeros(size, np.float32) for place, size in sizes.items()}

    def step(self, network: Network, trace: Trace, output_gradient: Array) -> None:
        """Update the dense moments, then the parameters."""
        for place, m in self.dense_m.items():
            dy, x = network.gradient_factors(trace, output_gradient, place)
            gradient = (dy @ x.T).reshape(-1)
            weights = self.layout.read(network.parameters, place)
            gradient[self.layout.pattern(place).positions] += self.weight_decay * weights
            v = self.dense_v[place]
            m *= self.beta1
            m += (1 - self.beta1) * gradient
            v *= self.beta2
            v += (1 - self.beta2) * np.square(gradient, out=gradient)
        super().step(network, trace, output_gradient)

    def rewire(self, to: Layout, rewirings: Mapping[Place, Rewiring]) -> None:
        """Move the moments to another layout; grown connections get theirs from all positions."""
        super().rewire(to, rewirings)
        for place, rewiring in rewirings.items():
            if place not in self.dense_m:
                continue
            grown = rewiring.grown
            positions = rewiring.new.positions[grown]
            m, v = self.dense_m[place][positions], self.dense_v[place][positions]
            self._write(to, self.m, place, grown, m)
            self._write(to, self.v, place, grown, v)
            if self.first_step:
                unbiased_m = m / (1 - self.beta1**self.steps)
                unbiased_v = v / (1 - self.beta2**self.steps)
                weights = -self.learning_rate * unbiased_m / (np.sqrt(unbiased_v) + self.epsilon)
                parameters = self.network.pending.to_write()
                self._write(to, parameters, place, grown, weights)
                self.network.pending.written()

    @staticmethod
    def _write(layout: Layout, flat: Array, place: Place, at: Positions, values: Array) -> None:
        layer = layout.read(flat, place)
        layer[at] = values
        layout.write(flat, place, layer)


class NonZeroBudget(OwnPatternTarget):
    """DS's target whose layers keep at most as many connections as have non-zero online weights."""

    def soft_update(self, tau: float) -> None:
        """Compute the soft update, then prune each sparse layer to its smaller budget."""
        super().soft_update(tau)
        mine = self.network.layout
        parameters = self.network.pending.to_write()
        for place, pattern in self.online.layout:
            if pattern.density == 1:
                continue
            weights = self.online.layout.read(self.online.parameters, place)
            layer = mine.read(parameters, place)
            existing = np.flatnonzero(layer)
            surplus = existing.size - np.count_nonzero(weights)
            if surplus > 0:
                order = np.argpartition(np.abs(layer[existing]), surplus - 1)
                layer[existing[order[:surplus]]] = 0
                mine.write(parameters, place, layer)
        self.network.pending.written()


def treat(agent: TD3, treatment: str) -> None:
    """Apply a treatment to an agent that has not been updated yet."""
    if treatment in ("moments", "first-step", "all"):
        for learner in agent.learners.values():
            assert isinstance(learner, SparseLearner)
            learner.adam = DenseMoments(
                learner.network, learner.adam, first_step=treatment != "moments"
            )
    if treatment in ("budget", "all"):
        agent.targets = {
            name: NonZeroBudget(target.online) for name, target in agent.targets.items()
        }
        agent.actor_target = agent.targets["actor"]
        agent.critics_target = agent.targets["critics"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the agent, print the mean of the last evaluations, and return the exit code."""
    parser = argparse.ArgumentParser(description="Train DS-TD3 without some of its departures.")
    parser.add_argument("treatment", choices=TREATMENTS)
    parser.add_argument("seed", type=int)
    parser.add_argument("folder")
    parser.add_argument("--env", default="Walker2d-v3")
    parser.add_argument("--steps", type=int, default=250_000)
    args = parser.parse_args(arguments)
    try:
        config = preset(
            "DS-TD3", args.env, seed=args.seed, steps=args.steps, horizon_env_steps=1_000_000,
            threads=1, run_dir=args.folder,
        )  # fmt: skip
        training = assemble(config, quiet=True, callbacks=Callbacks(Progress()))
        assert isinstance(training.agent, TD3)
        treat(training.agent, args.treatment)
        run = training.run()
    except SparlError as error:
        print(f"ds_departures: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(run.stopped_by, signal.Signals):
        return 128 + run.stopped_by
    last = [mean for _, mean in run.evaluations[-AVERAGED:]]
    print(
        f"{args.treatment}, seed {args.seed}: mean return of the last {len(last)} evaluations "
        f"{np.mean(last):,.0f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
