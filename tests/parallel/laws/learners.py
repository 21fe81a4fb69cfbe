"""Several learners a rank: K ranks with m learners train as K m ranks with one (Crossbow 2019, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.config import AlgorithmConfig, RunConfig
from hpcsgd.data.shards import steps_per_epoch
from hpcsgd.errors import UsageError
from hpcsgd.learners.engines.choose import ON_CPU
from hpcsgd.record import load_run
from hpcsgd.run.checkpoint import find_checkpoints
from hpcsgd.run.evaluate import consensus_model
from hpcsgd.run.passes import choose
from hpcsgd.run.resume import capture, put_back
from hpcsgd.train import run
from tests.parallel.laws.batch_norm import network
from tests.parallel.laws.common import (
    ALLREDUCES,
    algorithm_named,
    assert_bits,
    assert_close,
    built,
    make_config,
    stack,
    training,
)
from tests.parallel.laws.registry import law
from tests.parallel.laws.resuming import assert_same_run, logged, shared_folder, stop_and_go_on

NAMES = ["sync_sgd", "local_sgd", "post_local_sgd", "sma", "ea_sgd"]
TOLERANCE = 1e-11
ANY_NET = [name for name in ON_CPU if name != "dense"]
"""Engines that take convolutions."""
ENOUGH = {"synthetic_train_samples": 120}


def convolutional() -> nn.Module:
    """Of parts that all engines take, with BatchNorm."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
        )
    )


def unnormed() -> nn.Module:
    """Without BatchNorm, which has no use for a batch of one sample."""
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)))


def with_dropout() -> nn.Module:
    """The same with half of the features dropped."""
    return seeded(lambda: nn.Sequential(*list(convolutional())[:-1], nn.Dropout(0.5), nn.Linear(64, 3)))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The same parameters at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return make()


@dataclass
class Trace:
    """What a run of k learners went through: [steps, k, ...] of its learners, and the consensus models."""

    states: Tensor
    statistics: Tensor
    consensus: Tensor


def follow(
    config: RunConfig, comm: Communicator, model: Callable[[], nn.Module] = network, *, one_model: bool = False
) -> Trace:
    """Train, and keep every learner of every rank at every step."""
    states, statistics, consensus = [], [], []
    with built(config, comm, model) as parts:
        parts = choose(parts)
        for step, done in training(parts):
            states.append(stack(comm, parts.learners.rows.buffer).flatten(0, 1))
            statistics.append(stack(comm, parts.learners.statistics).flatten(0, 1))
            if done.action is not Action.NONE and comm.size > 1 and one_model:
                assert done.num_bytes == 8 * parts.learners.parameters.shape[1], "more than one model a rank is reduced"
            if step % 4 == 3:
                with consensus_model(parts, step) as module:
                    consensus.append(flat(module))
    return Trace(torch.stack(states), torch.stack(statistics), torch.stack(consensus))


def flat(module: nn.Module) -> Tensor:
    """Parameters and BatchNorm statistics."""
    return torch.cat([value.detach().double().reshape(-1) for value in module.state_dict().values()]).clone()


def against_one_rank(
    comm: Communicator, learners: int, model: Callable[[], nn.Module] = network, /, **changes: Any
) -> None:
    """All ranks with ``learners`` each train as a process alone with as many as all of them have.

    At several ranks and one learner each, that is K x 1 against 1 x K: every other split lies between.
    """
    config = replace(make_config(**changes), engine="loop")
    section = config.algorithm
    moves_more = section.momentum_policy == "average" or section.batch_norm_policy == "average"
    ours = follow(replace(config, learners_per_rank=learners), comm, model, one_model=not moves_more)
    theirs = follow(replace(config, learners_per_rank=learners * comm.size), SingleCommunicator(), model)
    for name in ("states", "statistics", "consensus"):
        assert_close(getattr(ours, name), getattr(theirs, name), TOLERANCE, f"{name} of {comm.size} x {learners}")


def section_of(name: str, **changes: Any) -> dict[str, Any]:
    """A section without blocks, with local steps from early on."""
    if name in ("sma", "ea_sgd"):
        # Within the bound for one learner, where 1/k is not, and for twelve.
        return {"name": name, "sync_period": 2, "alpha": 0.1} | changes
    return algorithm_named(name, 1, **changes)


@law(name=NAMES, learners=[1, 2, 3])
def every_split_of_the_learners_trains_alike(comm: Communicator, name: str, learners: int) -> None:
    against_one_rank(comm, learners, algorithm=section_of(name), local_batch_size=3, data=ENOUGH)


@law(sizes=(2, 3), allreduce=ALLREDUCES)
def gradients_of_several_learners_go_by_every_allreduce(comm: Communicator, allreduce: str) -> None:
    against_one_rank(comm, 2, comm={"allreduce": allreduce}, data=ENOUGH, local_batch_size=6, accumulation_steps=3)


@law(sizes=(1, 2, 3), name=["local_sgd", "post_local_sgd"], momentum=["average", "reset", "global"])
def momentum_policies_are_those_of_the_learners(comm: Communicator, name: str, momentum: str) -> None:
    for policy in ("average", "recompute"):
        section = section_of(name, momentum_policy=momentum, batch_norm_policy=policy)
        against_one_rank(comm, 2, algorithm=section, data=ENOUGH, evaluate={"recompute_batches": 2})


@law(sizes=(2, 4))
def blocks_of_learners_average_among_themselves(comm: Communicator) -> None:
    """Blocks are of ranks: with one learner a rank of a block, and with two on half as many ranks."""
    section = algorithm_named("hierarchical_local_sgd", comm.size, block_size=comm.size // 2)
    config = make_config(algorithm=section, data=ENOUGH)
    with built(replace(config, learners_per_rank=2), comm, network) as parts:
        for _, done in training(parts):
            learners = stack(comm, parts.learners.parameters)
            halves = learners.unflatten(0, (2, -1)).flatten(1, 2)
            if done.action is Action.BLOCK:
                assert all(bool((block == block[0]).all()) for block in halves)
                assert not torch.equal(halves[0], halves[1])
            elif done.action is Action.GLOBAL:
                assert bool((learners == learners[0, 0]).all())
            elif done.action is Action.NONE:
                assert not torch.equal(learners[0, 0], learners[0, 1])


@law(name=["sync_sgd", "local_sgd", "sma"], form=["reference", "absorbed"])
def a_tail_that_not_all_learners_share_is_the_ranks_own(comm: Communicator, name: str, form: str) -> None:
    """The last batch of an epoch: two learners have one sample, the others none; then, some have one more."""
    for rest in (2, 3 * comm.size + 1):
        data = {"tail": "keep", "synthetic_train_samples": 12 * comm.size * 2 + rest}
        form_of = {"momentum_form": form}
        against_one_rank(comm, 2, unnormed, algorithm=section_of(name), data=data, optimizer=form_of)


@law(sizes=(1, 2), name=["sync_sgd", "sma"], engine=["loop", "fused", "threads", "auto"])
def every_engine_gives_the_same_training(comm: Communicator, name: str, engine: str) -> None:
    data = ENOUGH | {"crop_padding": 1, "flip": True}
    config = replace(make_config(algorithm=section_of(name), data=data), learners_per_rank=3)
    expected = follow(replace(config, engine="loop"), comm, with_dropout)
    ours = follow(replace(config, engine=engine), comm, with_dropout)  # type: ignore[arg-type]
    for field in ("states", "statistics", "consensus"):
        assert_close(getattr(ours, field), getattr(expected, field), TOLERANCE, f"{field} of {engine}")


@law(name=["sync_sgd", "local_sgd", "sma"], learners=[1, 2])
def learners_have_shares_and_streams_of_their_own(comm: Communicator, name: str, learners: int) -> None:
    config = replace(make_config(algorithm=section_of(name), data=ENOUGH), learners_per_rank=learners)
    with built(config, comm, with_dropout) as parts:
        parts.algorithm.start()
        every = stack(comm, parts.loader.batch(0).inputs).flatten(0, 1)
        assert len(torch.unique(every.flatten(1), dim=0)) == 3 * learners * comm.size
        masks = [torch.rand(4, generator=generator) for generator in parts.learners.generators]
        assert len(torch.unique(stack(comm, torch.stack(masks)).flatten(0, 1), dim=0)) == learners * comm.size
    if comm.size > 1:
        against_one_rank(comm, learners, with_dropout, algorithm=section_of(name), data=ENOUGH)


@law(sizes=(1, 2))
def the_fastest_engine_is_chosen_by_all_ranks_together(comm: Communicator) -> None:
    config = replace(make_config(data=ENOUGH), learners_per_rank=3)
    with built(config, comm, convolutional) as parts:
        parts.algorithm.start()
        before = parts.learners.rows.buffer.clone(), parts.learners.statistics.clone()
        parts = choose(parts)
        assert len(set(comm.allgather_object(parts.engine.name))) == 1
        assert parts.engine_tables is not None and len(parts.engine_tables) == comm.size
        assert all(set(table) == {"loop", "fused", "dense", "threads"} for table in parts.engine_tables)
        assert_bits(parts.learners.rows.buffer, before[0])
        assert_bits(parts.learners.statistics, before[1])


@law(sizes=(1, 2), engine=["streams", "graph"])
def an_engine_that_is_not_possible_here_is_refused(comm: Communicator, engine: str) -> None:
    config = replace(make_config(), learners_per_rank=2, engine=engine)  # type: ignore[arg-type]
    try:
        with built(config, comm):
            raise AssertionError("accepted")
    except UsageError as error:
        assert f"engine is {engine}, which does not run on the cpu: choose one of auto, loop, fused" in str(error)


def check_stopped_run(comm: Communicator, section: dict[str, Any], engine: str, *stops: int) -> None:
    """A run of two learners a rank, whose rate drops before step 4, is resumed at ``stops`` to the same bits."""
    with shared_folder(comm) as folder:

        def recipe(where: str, engine: str) -> RunConfig:
            config = logged(comm, "sync_sgd", "mpi", folder / where)
            per_epoch = steps_per_epoch(config.data.synthetic_train_samples, 4 * comm.size, config.data.tail)
            rate = replace(config.learning_rate, warmup_epochs=3 / per_epoch, milestones=(4 / per_epoch,))
            keeping = replace(config.checkpoint, every_steps=8)
            config = replace(config, algorithm=AlgorithmConfig(**section), learning_rate=rate, checkpoint=keeping)
            return replace(config, local_batch_size=2, learners_per_rank=2, engine=engine)  # type: ignore[arg-type]

        stop_and_go_on(comm, recipe("stopped", engine), *stops)
        stopped = load_run(folder / "stopped") if comm.rank == 0 else None
        # The same engine as that of the first start: timings might choose another one now.
        chosen = comm.broadcast_object(stopped.provenance["engine"] if stopped is not None else "")
        run(recipe("whole", chosen), comm)
        ours, theirs = (state_of(folder / where, comm.rank) for where in ("stopped", "whole"))
        assert_same_state(ours, theirs)
        if stopped is not None:
            whole = load_run(folder / "whole")
            assert_same_run(stopped, whole)
            assert stopped.segments["first_step"].tolist() == [0, *stops]
            assert (stopped.provenance["engine_seconds"] is not None) == (engine == "auto")
            assert stopped.provenance["num_learners"] == 2 * comm.size
            rows = stopped.iterations
            assert rows["num_samples"].max() == 4 and rows["loss"].notna().all()


def state_of(path: Path, rank: int) -> dict[str, Any]:
    """What a rank's latest checkpoint, after the last step, holds of the training."""
    latest = find_checkpoints(path)[0][0]
    assert latest.step > 8
    state = latest.load(rank)
    return {name: state[name] for name in ("rows", "statistics", "counts", "algorithm", "random")}


def assert_same_state(got: Any, expected: Any, what: str = "checkpoint") -> None:
    """Equal to the last bit, however deep."""
    if isinstance(expected, (dict, list)):
        assert len(got) == len(expected), what
        for name in expected if isinstance(expected, dict) else range(len(expected)):
            assert_same_state(got[name], expected[name], f"{what}.{name}")
    elif isinstance(expected, Tensor):
        assert_bits(got, expected, what)
    else:
        assert got == expected, (what, got, expected)


@law(sizes=(2,), name=["sync_sgd", "local_sgd"], engine=["fused", "auto"])
def a_stopped_run_of_learners_ends_with_the_same_bits(comm: Communicator, name: str, engine: str) -> None:
    check_stopped_run(comm, section_of(name), engine, 3, 5, 8)


@law(sizes=(1, 2), engine=[*ANY_NET, "auto"])
def sma_stopped_within_a_period_and_after_a_restart_ends_with_the_same_bits(comm: Communicator, engine: str) -> None:
    # The steps 2, 5 and 8 end a period, and step 3 with a restart.
    check_stopped_run(comm, section_of("sma", sync_period=3), engine, 2, 4, 7)


@law(sizes=(1, 2), engine=ANY_NET, first=[2, 4, 7])
def a_checkpoint_of_learners_gives_back_every_row_and_stream(comm: Communicator, engine: str, first: int) -> None:
    """Dropout's streams too; 2 and 7 are within a period, 4 follows a restart."""
    per_epoch = 120 // (6 * comm.size)
    config = make_config(
        algorithm=section_of("sma", sync_period=3),
        data=ENOUGH,
        learning_rate={"warmup": "none", "milestones": (4 / per_epoch,)},
        learners_per_rank=2,
        engine=engine,
    )
    with built(config, comm, with_dropout) as parts:
        for _ in training(parts, 0, first):
            pass
        saved = capture(parts, first)
        for _ in training(parts, first, 9):
            pass
        expected = capture(parts, 9)
    with built(config, comm, with_dropout) as parts:
        parts.algorithm.start(first)
        parts = put_back(parts, saved)
        for _ in training(parts, first, 9):
            pass
        assert_same_state(capture(parts, 9), expected)


class Drawing(nn.Module):
    """Draws from torch's global generator, as nothing but its own forward pass knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(16, 8), nn.Dropout(0.25), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.drop(self.first(images.flatten(1)).tanh())
        result: Tensor = self.last(F.dropout(hidden, 0.5, self.training) + 0.1 * torch.randn_like(hidden))
        return result


@law(name=["sync_sgd", "local_sgd"], sizes=(2,))
def learners_draw_from_the_global_generator_as_so_many_ranks(comm: Communicator, name: str) -> None:
    own, changes = comm.rank, {"algorithm": algorithm_named(name, comm.size), "data": ENOUGH, "accumulation_steps": 3}
    with built(make_config(**changes), comm, lambda: seeded(Drawing)) as parts:
        apart = [parts.replica.parameters.clone() for _ in training(parts, last=6)]
    together = make_config(**changes, learners_per_rank=comm.size, engine="loop")
    with built(together, SingleCommunicator(), lambda: seeded(Drawing)) as parts:
        for step, _ in training(parts, last=6):
            if step == 2:
                saved = capture(parts, step + 1)
            assert_close(parts.learners.parameters[own], apart[step], what=f"step {step}")
        whole = parts.learners.parameters.clone()
        put_back(parts, saved)
        for _ in training(parts, 3, 6):
            pass
        assert_bits(parts.learners.parameters, whole)
    try:
        with built(replace(together, engine="threads"), SingleCommunicator(), lambda: seeded(Drawing)):
            raise AssertionError("not refused")
    except UsageError as error:
        assert "the engine threads takes learners side by side" in str(error), error
