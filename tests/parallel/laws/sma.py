"""Synchronous model averaging (Crossbow 2019, section 3), against a slow simulation and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from hpcsgd.algorithms.schedule import Action
from hpcsgd.algorithms.sma import SMA
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import RunConfig
from hpcsgd.data.shards import Tail, steps_per_epoch
from hpcsgd.errors import ReplicasDifferError
from hpcsgd.run.parts import Parts
from tests.parallel.laws.batch_norm import network
from tests.parallel.laws.common import (
    assert_bits,
    assert_close,
    block_size,
    built,
    digest,
    make_config,
    num_versions,
    stack,
    train,
    training,
    vector,
)
from tests.parallel.laws.consensus import everything, four_more_steps, resume, save
from tests.parallel.laws.learners import ANY_NET, ENOUGH, convolutional, flat
from tests.parallel.laws.local_sgd import in_order
from tests.parallel.laws.registry import WORLD_SIZES, Law, law
from tests.parallel.laws.simulation import Simulation


def on_every_split(**values: list[Any]) -> Callable[[Law], Law]:
    """Register a law of SMA for ranks x learners a rank, among them 1x1, 1x4, 2x2, 4x1 and 3x2, on many engines."""

    def register(function: Law) -> Law:
        for learners, sizes in ((1, WORLD_SIZES), (2, (2, 3)), (4, (1,))):
            law(sizes=sizes, learners=[learners], engine=ANY_NET, **values)(function)
        return function

    return register


def dropping(num_learners: int, num_samples: int = 60, tail: Tail = "drop") -> dict[str, Any]:
    """A learning rate that drops before the steps 2 and 6."""
    per_epoch = steps_per_epoch(num_samples, 3 * num_learners, tail)
    return {"warmup": "none", "milestones": (2 / per_epoch, 6 / per_epoch)}


def section(world_size: int, **changes: Any) -> dict[str, Any]:
    """SMA, of two levels where ``block_sync_period`` is given."""
    if changes.get("block_sync_period", 1) > 1:
        changes = {"block_size": block_size(world_size)} | changes
    return {"name": "sma"} | changes


def algorithm_of(parts: Parts) -> SMA:
    """The algorithm, by its own type."""
    assert isinstance(parts.algorithm, SMA)
    return parts.algorithm


def all_learners(comm: Communicator, parts: Parts) -> Tensor:
    """The parameters of all learners of all ranks, [k, P]."""
    return stack(comm, parts.learners.parameters).flatten(0, 1)


def num_different(comm: Communicator, parts: Parts) -> int:
    """How many different learners there are, bit by bit."""
    return len({digest(learner) for learner in all_learners(comm, parts)})


class SlowSMA(Simulation):
    """All learners in one process, each rule as it is written, with z_prev in the place of a velocity."""

    def begin(self, alpha: float, drops: set[int]) -> None:
        """Every learner at z."""
        self.alpha, self.drops = alpha, drops
        self.z = vector(self.models[0])
        self.z_prev = self.z.clone()
        self.references = {block: self.z.clone() for block in set(self.blocks)}
        self.passed = torch.zeros_like(self.z)

    def sma_step(self, step: int) -> str:
        """One step of all learners; says what was averaged."""
        settings = self.config.algorithm
        if step in self.drops and settings.resolved_restart != "none":
            self.restart()
        periods, rest = divmod(step + 1, settings.sync_period)
        two_levels = settings.block_sync_period > 1
        targets = [self.references[b] if two_levels else self.z for b in self.blocks]
        corrections = [
            self.alpha * (vector(m) - target) if not rest else torch.zeros_like(target)
            for m, target in zip(self.models, targets, strict=True)
        ]
        for j, samples in enumerate(self.batches(step)):
            self.optimizers[j].param_groups[0]["lr"] = self.optimizers[j].param_groups[-1]["lr"] = self.rate(step)
            if len(samples):
                self.update(self.models[j], self.optimizers[j], samples)
            vector_to_parameters(vector(self.models[j]) - corrections[j], self.models[j].parameters())
        if rest:
            return "none"
        self.passed = self.passed + torch.stack(corrections).sum(dim=0)
        if periods % settings.block_sync_period:
            for j, block in enumerate(self.blocks):
                self.references[block] = self.references[block] + corrections[j]
            return "block"
        mu = settings.resolved_central_momentum
        self.z, self.z_prev = self.z + self.passed + mu * (self.z - self.z_prev), self.z
        self.references = {block: self.z.clone() for block in self.references}
        self.passed = torch.zeros_like(self.z)
        return "global"

    def restart(self) -> None:
        """All learners begin again at z."""
        self.z_prev = self.z.clone()
        self.references = {block: self.z.clone() for block in self.references}
        self.passed = torch.zeros_like(self.z)
        for j, model in enumerate(self.models):
            vector_to_parameters(self.z.clone(), model.parameters())
            if self.config.algorithm.resolved_restart == "reset":
                self.set_momentum(j, torch.zeros_like(self.z))


def check_against_simulation(
    config: RunConfig, comm: Communicator, network: Callable[[], nn.Module] | None = None, steps: int = 9
) -> set[str]:
    """Every learner and the central model equal the simulation's at every step; the kinds of averaging."""
    kinds = set()
    with built(config, comm, network) as parts:
        own = len(parts.learners)
        blocks = [j // own // block_size(comm.size) for j in range(comm.size * own)]
        start = network() if network is not None else None
        reference = SlowSMA(config, len(blocks), parts.plan.learning_rate, blocks, start)
        per_epoch = parts.plan.steps_per_epoch
        reference.begin(parts.plan.alpha, {round(m * per_epoch) for m in config.learning_rate.milestones})
        algorithm = algorithm_of(parts)
        for step, done in training(parts, 0, steps):
            kinds.add(reference.sma_step(step))
            if step + 1 in reference.drops and config.algorithm.resolved_restart != "none":
                continue  # the package begins again after this step, the simulation before the next
            what = f"step {step}"
            for row, replica in enumerate(parts.learners.replicas):
                j = comm.rank * own + row
                assert_close(flat(replica.module), flat(reference.models[j]), what=f"learner {j} at {what}")
                momentum = in_order(parts, parts.learners.rows["momentum"][row])
                assert_close(momentum, reference.momentum(j), what=f"momentum of learner {j} at {what}")
            algorithm.check()
            assert_close(in_order(parts, algorithm.central.model), reference.z, what=f"central model at {what}")
            # One model a rank, however many learners it has.
            assert done.num_bytes == (8 * parts.replica.parameters.numel() if done.action is not Action.NONE else 0)
    return kinds


@law(period=[1, 3], restart=["reset", "keep", "none"], overlap=[False, True])
def every_step_equals_the_simulation(comm: Communicator, period: int, restart: str, overlap: bool) -> None:
    config = make_config(
        algorithm=section(comm.size, sync_period=period, restart=restart),
        learning_rate=dropping(comm.size, 12 * comm.size + 1, "keep"),
        data={"tail": "keep", "synthetic_train_samples": 12 * comm.size + 1},
        comm={"overlap": overlap},
    )
    assert check_against_simulation(config, comm) == ({"global"} if period == 1 else {"none", "global"})


@law()
def learners_may_step_by_layer(comm: Communicator) -> None:
    config = make_config(
        algorithm=section(comm.size, sync_period=2),
        learning_rate=dropping(comm.size * 2, 120),
        optimizer={"name": "lars", "trust_coefficient": 0.3},
        learners_per_rank=2,
        data=ENOUGH,
    )
    check_against_simulation(config, comm)


@law(restart=["reset", "none"], alpha=[None, 0.1], learners=[1, 2])
def two_levels_equal_the_simulation(comm: Communicator, restart: str, alpha: float | None, learners: int) -> None:
    two = section(comm.size, sync_period=1, block_sync_period=2, restart=restart, alpha=alpha)
    if comm.size == 1:
        two["alpha"] = 0.3
    rate = dropping(comm.size * learners, 120)
    config = make_config(algorithm=two, learners_per_rank=learners, learning_rate=rate, data=ENOUGH)
    assert check_against_simulation(config, comm) == {"block", "global"}


@on_every_split()
def learners_of_every_split_equal_the_same_simulation(comm: Communicator, learners: int, engine: str) -> None:
    """So splits of as many learners train alike, and the sums of a rank and then of all ranks are the flat sum."""
    config = make_config(
        algorithm=section(comm.size, sync_period=2),
        learning_rate=dropping(comm.size * learners, 120),
        data=ENOUGH,
        learners_per_rank=learners,
        engine=engine,
    )
    assert check_against_simulation(config, comm, convolutional) == {"none", "global"}


@law(sizes=(1,), period=[1, 2], engine=ANY_NET)
def alone_and_without_a_correction_it_is_plain_sgd(comm: Communicator, period: int, engine: str) -> None:
    results = []
    alone = {"name": "ea_sgd", "alpha": 0.0, "sync_period": period}
    for algorithm, passes in (({"name": "sync_sgd"}, "loop"), ({"name": "sync_sgd"}, engine), (alone, engine)):
        with built(make_config(algorithm=algorithm, engine=passes), comm, convolutional) as parts:
            train(parts)
            results.append(parts.learners.rows.buffer.clone())
    assert_close(results[2], results[0])
    assert_bits(results[2], results[1])


@on_every_split()
def without_momentum_the_central_model_becomes_the_mean_of_the_learners_before_their_step(
    comm: Communicator, learners: int, engine: str
) -> None:
    # Another alpha in the recipe, which refuses 1/k where there is one learner.
    config = make_config(algorithm={"name": "ea_sgd", "alpha": 0.01}, learners_per_rank=learners, engine=engine)
    with built(config, comm, convolutional) as parts:
        central = algorithm_of(parts).central
        algorithm_of(parts).alpha = 1 / parts.plan.num_learners
        parts.algorithm.start()
        for step in range(6):
            # Whatever it was.
            central.model.add_(torch.sin(step + torch.arange(central.model.numel())))
            mean = all_learners(comm, parts).mean(dim=0)
            train(parts, step + 100, step + 101)
            assert_close(central.model, mean)


@on_every_split(mu=[0.0, 0.6])
def corrections_sum_to_their_closed_form(comm: Communicator, learners: int, engine: str, mu: float) -> None:
    method = section(comm.size, alpha=0.2, central_momentum=mu)
    config = make_config(algorithm=method, learners_per_rank=learners, engine=engine)
    with built(config, comm, convolutional) as parts:
        central, k = algorithm_of(parts).central, parts.plan.num_learners
        parts.algorithm.start()
        before = previous = central.model.clone()
        for step in range(6):
            mean = all_learners(comm, parts).mean(dim=0)
            train(parts, step + 100, step + 101)
            expected = before + k * 0.2 * (mean - before) + mu * (before - previous)
            assert_close(central.model, expected, what="the form with z_prev")
            before, previous = central.model.clone(), before


@on_every_split(restart=["reset", "keep"], overlap=[False, True])
def after_a_restart_every_learner_is_the_central_model_at_rest(
    comm: Communicator, learners: int, engine: str, restart: str, overlap: bool
) -> None:
    config = make_config(
        algorithm=section(comm.size, restart=restart, sync_period=2),
        learning_rate=dropping(comm.size * learners, 120),
        data=ENOUGH,
        comm={"overlap": overlap},
        learners_per_rank=learners,
        engine=engine,
    )
    with built(config, comm, convolutional) as parts:
        central, drops, seen = algorithm_of(parts).central, parts.plan.learning_rate.drops, 0
        for step, _ in training(parts):
            if drops(step + 1):
                seen += 1
                assert_bits(parts.replica.parameters, central.model)
                assert num_different(comm, parts) == 1
                assert not central.velocity.any()
                assert all(momentum.any() == (restart == "keep") for momentum in parts.learners.rows["momentum"])
            elif seen:
                assert num_different(comm, parts) == parts.plan.num_learners
    assert seen == 2


@law()
def a_smooth_decay_is_no_drop(comm: Communicator) -> None:
    rate = {"warmup": "none", "decay": "cosine", "milestones": (), "decay_factor": 0.1}
    results = []
    for restart in ("reset", "none"):
        with built(make_config(algorithm=section(comm.size, restart=restart), learning_rate=rate), comm) as parts:
            train(parts)
            results.append(parts.learners.rows.buffer.clone())
    assert_bits(results[0], results[1])


@law(dtype=["float32", "float64"], period=[1, 2])
def sums_in_the_background_change_no_bit(comm: Communicator, dtype: str, period: int) -> None:
    results = []
    for overlap in (False, True):
        config = make_config(
            dtype=dtype,
            algorithm=section(comm.size, sync_period=period),
            learning_rate=dropping(comm.size),
            comm={"overlap": overlap},
        )
        with built(config, comm, network) as parts:
            for step, _ in training(parts):
                if step % 3 == 1:
                    with parts.algorithm.consensus():
                        pass
            assert (algorithm_of(parts).thread is not None) == (overlap and comm.size > 1)
            algorithm_of(parts).check()
            results.append(torch.cat((everything(parts), algorithm_of(parts).central.model)))
    assert_bits(results[1], results[0])


@law(overlap=[False, True], policy=["local", "average", "recompute"])
def the_consensus_is_the_central_model_and_disturbs_nothing(comm: Communicator, overlap: bool, policy: str) -> None:
    if overlap and policy == "average":
        overlap = False
    config = make_config(
        algorithm=section(comm.size, sync_period=2, batch_norm_policy=policy), comm={"overlap": overlap}
    )
    with built(config, comm, network) as parts:
        undisturbed = [everything(parts) for _ in training(parts)]
    with built(config, comm, network) as parts:
        for step, _ in training(parts):
            before = everything(parts)
            with parts.algorithm.consensus() as module:
                assert module is parts.replica.module
                assert_bits(parts.replica.parameters, algorithm_of(parts).central.model)
                assert num_versions(comm, parts.replica.parameters, parts.replica.statistics) == 1
            assert_bits(everything(parts), before)
            assert_bits(before, undisturbed[step], f"step {step}")
        parts.algorithm.finish()
        assert_bits(parts.replica.parameters, algorithm_of(parts).central.model)


@law(period=[1, 3], blocks=[1, 2], first=[2, 4, 7])
def a_resumed_run_takes_up_where_it_was(comm: Communicator, period: int, blocks: int, first: int) -> None:
    # Steps 2 and 7 are within a period of 3, and 2 follows a restart.
    config = make_config(
        algorithm=section(comm.size, sync_period=period, block_sync_period=blocks, alpha=0.2),
        optimizer={"momentum_form": "absorbed"},
        learning_rate=dropping(comm.size),
        comm={"overlap": blocks == 1 and period == 1},
    )
    with built(config, comm, network) as parts:
        train(parts, 0, first)
        saved = save(parts)
        expected = four_more_steps(parts, first)
    assert_bits(resume(config, comm, saved, first), expected)


@law(sizes=(2, 3, 4))
def a_central_model_that_differs_on_a_rank_is_noticed(comm: Communicator) -> None:
    with built(make_config(algorithm=section(comm.size)), comm) as parts:
        algorithm = algorithm_of(parts)
        algorithm.comparisons.every = 1
        train(parts, 0, 3)
        algorithm.check()
        if comm.rank == 1:
            algorithm.central.model[0] += 1e-9
        try:
            algorithm.check()
        except ReplicasDifferError as error:
            assert "the central models differ between ranks" in str(error)
        else:
            raise AssertionError("not noticed")
