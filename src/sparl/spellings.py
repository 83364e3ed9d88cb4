"""Translate the flags of the papers' released code, and suggest replacements for other flags.

Sources: `main.py` of Sokar et al. (DS), and the two scripts `train.py` of Tan et al. (RLx2), for
TD3 and for SAC. The tables spell flags in canonical form, with hyphens instead of underscores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sparl.errors import UsageError
from sparl.methods import find_method

# Flags of the released code, and sparl's flags that have the same meaning and unit.
_SAME = {
    "--policy": "--method",
    "--start-timesteps": "--warmup-env-steps",
    "--max-timesteps": "--steps",
    "--eval-freq": "--evaluate-every-env-steps",
    "--expl-noise": "--exploration-noise",
    "--policy-noise": "--target-noise",
    "--policy-freq": "--policy-delay",
    "--discount": "--gamma",
    "--lr": "--learning-rate",
    "--ann-epsilonHid1": "--lambda-1",
    "--ann-epsilonHid2": "--lambda-2",
    "--ann-setZeta": "--rewire-fraction",
    "--ann-ascTopologyChangePeriod": "--rewire-every-updates",
    "--delta": "--rewire-every-updates",
    "--zeta": "--rewire-fraction",
    "--nstep": "--n-step",
    "--delay-nstep": "--n-step-delay-updates",
    "--use-dynamic-buffer": "--dynamic-buffer",
    "--buffer-max-size": "--replay-capacity",
    "--buffer-min-size": "--replay-minimum",
    "--buffer-threshold": "--replay-distance-threshold",
    "--buffer-adjustment-interval": "--replay-check-every-env-steps",
}
_WIDTH = ("--ann-noHidNeurons", "--hidden-dim")  # width of both hidden layers
_STATIC = {"--static-actor": "actor", "--static-critic": "critics"}
EARLY_STOP = "--ann-earlyStopTopologyChange"  # environment steps; see arguments.py
_EVERY_UPDATE = ("--actor-update-frequency", "--critic-target-update-frequency")

# Flags that only RLx2's scripts have. These scripts have no flag for the method, because there is
# one script for TD3 and one for SAC.
_RLX2 = {
    "--nstep", "--delay-nstep", "--use-dynamic-buffer", "--buffer-max-size", "--buffer-min-size",
    "--buffer-threshold", "--buffer-adjustment-interval", "--delta", "--zeta", "--random-grow",
    "--exp-id", "--log-std-bounds", "--sparse-actor", "--sparse-critic",
    *_STATIC, *_EVERY_UPDATE,
}  # fmt: skip
# With hyphens, these are sparl's own flags.
_RLX2_WITH_UNDERSCORE = {"--actor_sparsity", "--critic_sparsity"}

# The released code ignores the first set of flags for dense methods, and the second set for methods
# whose topology is fixed, but sparl would apply them.
_OF_SPARSE_METHODS = {"--ann-epsilonHid1", "--ann-epsilonHid2"}
_OF_CHANGING_TOPOLOGY = {
    "--ann-setZeta", "--ann-ascTopologyChangePeriod", EARLY_STOP, "--delta", "--zeta",
    "--random-grow",
}  # fmt: skip

_SAVED = "every run saves its agent and, during training, checkpoints"
_STEPS = "--steps sets the number of environment steps"
_CPU = "sparl computes on the CPU, with at most --threads threads"
_SPARSITY = (
    "--actor-sparsity and --critic-sparsity set the fractions of absent weights; for a density of "
    "0.1, use --actor-sparsity 0.9 --critic-sparsity 0.9"
)
_SEVERAL = "--seeds 0 1 2 trains a run for each of these seeds"
_FOLDER = "--run-dir sets the run's folder"
# Advice for flags that have no exact equivalent and for flags of other tools.
HINTS = {
    "--save-model": _SAVED,
    "--save-model-period": (
        "--checkpoint-every-env-steps sets the number of steps between checkpoints"
    ),
    "--load-model": "sparl resume RUN resumes a run; --warm-start RUN uses the agent of a run "
                    "during the warm-up",
    "--exp-id": _FOLDER,
    "--log-std-bounds": "the bounds are fixed: -5 to 2 with --log-std tanh, -20 to 2 with "
    "--log-std clamp",
    "--sparse-actor": "RLx2-TD3 and RLx2-SAC are always sparse",
    "--sparse-critic": "RLx2-TD3 and RLx2-SAC are always sparse",
    **dict.fromkeys(
        ("--total-timesteps", "--total-steps", "--timesteps", "--n-timesteps", "--num-timesteps",
         "--num-steps", "--max-steps"), _STEPS,
    ),
    **dict.fromkeys(
        ("--algo", "--algorithm"), "the method includes the algorithm: --method TD3, DS-TD3, "
        "SAC, ...; sparl methods lists them",
    ),
    **dict.fromkeys(("--density", "--sparsity"), _SPARSITY),
    **dict.fromkeys(("--device", "--cuda", "--gpu", "--no-cuda"), _CPU),
    **dict.fromkeys(("--n-seeds", "--num-seeds"), _SEVERAL),
    **dict.fromkeys(("--env-id", "--env-name", "--gym-id"), "--env sets the environment"),
    **dict.fromkeys(("--log-dir", "--logdir", "--save-dir", "--output-dir", "--out"), _FOLDER),
    "--tensorboard-log": "--tensorboard writes event files into the run's folder",
    "--learning-starts": "--warmup-env-steps sets the number of steps before the first update",
    "--buffer-size": "--replay-capacity sets the capacity of the replay buffer",
    "--num-envs": "a run uses a single environment",
    "--n-envs": "a run uses a single environment",
}  # fmt: skip


def split_values(args: Sequence[str]) -> list[str]:
    """Split each word FLAG=VALUE into two words."""
    words = list[str]()
    for word in args:
        flag, equals, value = word.partition("=")
        words += [flag, value] if equals and word.startswith("--") else [word]
    return words


def canonical(word: str) -> str:
    """Return a flag with hyphens instead of underscores, and any other word unchanged.

    Messages show a flag as the user typed it; the tables are searched for its canonical form.
    """
    return word.replace("_", "-") if word.startswith("--") else word


def translated(words: Sequence[str]) -> list[str]:
    """Replace flags of the released code with flags of sparl.

    Args:
        words: the command line; each value is a separate word.

    Raises:
        UsageError: if the value of a flag is missing or has no equivalent in sparl.
    """
    flags = list(map(canonical, words))
    fixed = [_STATIC[flag] for flag in flags if flag in _STATIC]
    if fixed and "--rewire" in flags:
        static = " and ".join(word for word in words if canonical(word) in _STATIC)
        raise UsageError(f"--rewire already determines which topologies change; remove {static}")
    out = list[str]()
    remaining = iter(words)
    for word in remaining:
        flag = canonical(word)
        if flag in _WIDTH:
            out += ["--hidden", *(_value(word, remaining),) * 2]
        elif flag in _EVERY_UPDATE:
            _check_frequency(word, _value(word, remaining))
        elif flag == "--random-grow":
            out += ["--grow", "random"]
        elif flag not in _STATIC:
            out.append(_SAME.get(flag, word))
    if fixed:
        rest = {"actor", "critics"}.difference(fixed)
        out += ["--rewire", *(rest or {"none"})]
    return out


def _value(flag: str, remaining: Iterator[str]) -> str:
    value = next(remaining, "--")
    if value.startswith("--"):
        raise UsageError(f"{flag} needs a value")
    return value


def _check_frequency(flag: str, value: str) -> None:
    """Raise UsageError unless the value is 1: sparl's SAC always updates its actor and targets."""
    if value != "1":
        instead = {
            "--actor-update-frequency": "SAC's actor is updated at every update, and TD3's actor "
            "every --policy-delay updates",
            "--critic-target-update-frequency": "SAC makes a soft update of the target with --tau "
            "at every update; --hard-target-every N copies the "
            "critics every N updates instead",
        }
        raise UsageError(f"{flag} is {value} but must be 1: {instead[canonical(flag)]}")


def check_method_is_named(args: Sequence[str]) -> None:
    """Raise UsageError for flags of RLx2's scripts in a command line without a method."""
    flags = {word.partition("=")[0]: None for word in args if word.startswith("--")}
    of_rlx2 = [flag for flag in flags if flag in _RLX2_WITH_UNDERSCORE or canonical(flag) in _RLX2]
    if of_rlx2:
        are = "is a flag" if len(of_rlx2) == 1 else "are flags"
        raise UsageError(
            f"{', '.join(of_rlx2)} {are} of RLx2's scripts, which do not specify the method; add "
            "--method RLx2-TD3 or --method RLx2-SAC (or another method that sparl methods lists)"
        )


def check_flags_suit_method(words: Sequence[str], method: str) -> None:
    """Raise UsageError for a flag of the released code that does not suit the method."""
    chosen = find_method(method)
    family = chosen.family
    dense = not family.sparse
    fixed = "rewire_every_updates" not in family.fields
    for word in words:
        flag = canonical(word)
        if chosen.agent == "TD3" and flag in _EVERY_UPDATE:
            raise UsageError(
                f"{word}: {method} updates the actor and the targets every --policy-delay updates "
                "of the critics; use --policy-delay"
            )
        if dense and flag in _OF_SPARSE_METHODS:
            raise UsageError(f"{word}: {method} is dense; omit the flag, or choose a sparse method")
        if fixed and flag in _OF_CHANGING_TOPOLOGY:
            raise UsageError(
                f"{word}: the topology of {method} never changes; omit the flag, or choose a "
                "method whose topology changes"
            )
