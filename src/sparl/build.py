"""Build an agent from a configuration: networks, optimisers, targets and topology.

The packages agents, replay and topology do not depend on the configuration; this module creates
their objects from it.
"""

from __future__ import annotations

from numpy.random import Generator

from sparl.agents import AGENTS, settings_of
from sparl.agents.agent import Agent
from sparl.architecture import Architecture
from sparl.configuration import Config
from sparl.learner import SparseLearner
from sparl.networks.adam import Adam
from sparl.networks.initialize import (
    fan_in_bound,
    orthogonal,
    orthogonal_matrix,
    uniform_fan_in,
    xavier_bound,
    xavier_uniform,
)
from sparl.networks.layout import Layout
from sparl.networks.network import Network, Pool
from sparl.networks.spec import Layer, NetworkSpec, Place
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget, Target
from sparl.old_names import TOPOLOGY_STREAM
from sparl.random_streams import stream
from sparl.replay.capacity import DynamicCapacity
from sparl.sparse.pattern import Pattern
from sparl.topology.initial import largest_of_matrix, largest_of_uniform, random_pattern
from sparl.topology.propose import TopologyMethod
from sparl.topology.schedule import NEVER, Schedule
from sparl.types import Array

INITIAL_WEIGHTS = {"uniform": uniform_fan_in, "xavier": xavier_uniform, "orthogonal": orthogonal}


def build_agent(config: Config, architecture: Architecture, pool: Pool | None = None) -> Agent:
    """Build the agent of a run; all random streams derive from the configuration's seed.

    Args:
        config: configuration of the run.
        architecture: the networks, with their numbers of connections.
        pool: the thread pool of the networks; None means the calling thread only.
    """
    specs = architecture.networks
    learners = {name: _learner(config, name, spec, pool) for name, spec in specs.items()}
    targets = {
        name: _target(config, learners[name].network) for name, spec in specs.items() if spec.target
    }
    return AGENTS[config.agent](
        learners,
        targets,
        settings_of(config),
        stream(config.seed, "exploration"),
        stream(config.seed, "target noise"),
    )


def capacity_rule(config: Config) -> DynamicCapacity:
    """Return the configured rule by which a dynamic replay buffer forgets transitions."""
    return DynamicCapacity(
        config.replay_minimum,
        config.replay_probe_transitions or 8 * config.batch_size,
        config.replay_distance_threshold,
        config.replay_forget_until_below,
    )


def schedule(config: Config, spec: NetworkSpec) -> Schedule:
    """Return the schedule of a network's topology updates, for example updates 2, 1002, ... for DS.

    There are no topology updates in the last freeze_fraction of the horizon. The agent's updates
    begin after the warm-up. With the clock "network", the schedule counts only the updates of this
    network: every update_period-th update of the agent.
    """
    every = config.rewire_every_updates
    if every == 0 or not config.budget(spec.label).rewired:
        return NEVER
    last_env_step = config.horizon - round(config.freeze_fraction * config.horizon)
    last = (last_env_step - config.warmup_env_steps) * config.updates_per_env_step
    if config.rewire_clock == "network":
        last //= spec.update_period
    return Schedule(
        first=config.rewire_first_update or every,
        every=every,
        last=last,
        fraction=config.rewire_fraction,
        clock=config.rewire_clock,
        annealed=config.rewire_schedule == "cosine",
    )


def _learner(config: Config, name: str, spec: NetworkSpec, pool: Pool | None) -> SparseLearner:
    network = _network(config, name, spec, pool)
    return SparseLearner(
        network,
        Adam(network.layout, config.learning_rate, config.weight_decay, config.grown_moments),
        TopologyMethod.named(config.drop, config.grow, config.density_schedule),
        schedule(config, spec),
        stream(config.seed, f"{name} {TOPOLOGY_STREAM}"),
        skips_step=config.rewire_skips_step,
        update_period=spec.update_period,
    )


def _network(config: Config, name: str, spec: NetworkSpec, pool: Pool | None) -> Network:
    topology_rng = stream(config.seed, f"{name} topology")
    weights_rng = stream(config.seed, f"{name} weights")
    largest: dict[Place, Array] = {}
    patterns: dict[Place, Pattern] = {}
    for place, layer in spec.places():
        if not layer.size:
            continue
        if config.initial_topology == "random" or layer.connections == layer.size:
            patterns[place] = random_pattern(
                layer.n_in, layer.n_out, layer.connections, topology_rng
            )
        else:
            patterns[place], largest[place] = _largest(config, layer, weights_rng)
    layout = Layout(spec, patterns)
    parameters = INITIAL_WEIGHTS[config.initial_weights](layout, weights_rng)
    for place, weights in largest.items():
        layout.write(parameters, place, weights)
    return Network(layout, parameters, pool)


def _largest(config: Config, layer: Layer, rng: Generator) -> tuple[Pattern, Array]:
    """Return the pattern and the values of a layer's initial weights of largest magnitude."""
    n_in, n_out, count = layer.n_in, layer.n_out, layer.connections
    if config.initial_weights == "orthogonal":
        matrix = orthogonal_matrix(n_in, n_out, rng)
        pattern = largest_of_matrix(matrix, count)
        return pattern, matrix.reshape(-1)[pattern.positions]
    rule = fan_in_bound if config.initial_weights == "uniform" else xavier_bound
    return largest_of_uniform(n_in, n_out, count, rule(n_in, n_out), rng)


def _target(config: Config, network: Network) -> Target:
    if config.target_pattern == "own":
        return OwnPatternTarget(network)
    return SharedPatternTarget(network)
