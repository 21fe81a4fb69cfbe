"""Iterable data with a state: in order, once, gone on with to the same bits, and at an end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcsgd.config import AlgorithmConfig, DataConfig, LogConfig, ModelConfig, RunConfig
from hpcsgd.data.make import make_loader
from hpcsgd.data.own.data import open_own
from hpcsgd.data.own.flow import FlowLoader
from hpcsgd.errors import UsageError
from hpcsgd.record import load_run
from hpcsgd.tasks.given import Given
from hpcsgd.train import run
from tests.single.data.own.own_data import Flow, flows

HERE = "tests.single.data.own.own_data"
CONFIG = RunConfig(
    local_batch_size=4,
    epochs=2,
    progress="none",
    threads=1,
    model=ModelConfig(name="torch.nn.Linear", init_args={"in_features": 4, "out_features": 3}),
    data=DataConfig(name=f"{HERE}.flows", init_args={"count": 100}, steps_per_epoch=5),
    log=LogConfig(flush_steps=3),
)


def loader_of(count: int, learner: int = 0, num_learners: int = 1, own: int = 1) -> FlowLoader:
    """Batches of 4 samples a learner."""
    config = DataConfig(name="given", steps_per_epoch=5)
    loader = make_loader(
        open_own(config, flows(count)),
        config,
        seed=1,
        learner=learner,
        num_learners=num_learners,
        own_learners=own,
        local_batch_size=4,
        device=torch.device("cpu"),
        dtype=torch.float64,
        channels_last=False,
    )
    assert isinstance(loader, FlowLoader)
    return loader


def test_samples_come_in_order_and_a_part_of_a_batch_is_left_out() -> None:
    loader = loader_of(11)
    batches = [loader.batch(step) for step in range(2) if loader.has(step)]
    assert not loader.has(2) and not loader.has(3)
    assert torch.cat([batch.targets for batch in batches]).tolist() == Flow(8).targets.tolist()
    assert loader.batch(1) is batches[1], "the last may be asked for again"
    both = loader_of(16, num_learners=2, own=2).batch(0)
    assert both.sizes == [4, 4]
    assert both.targets.tolist() == [*Flow(8).targets[::2], *Flow(8).targets[1::2]]


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_state_gives_the_batches_that_follow(step: int) -> None:
    loader, other = loader_of(40), loader_of(40)
    before = [loader.batch(number) for number in range(step)]
    loader.has(step)  # It is read ahead: the state is from before it.
    other.load_state_dict(loader.state_dict(step), step)
    assert len(before) == step
    for number in range(step, 6):
        assert torch.equal(loader.batch(number).inputs, other.batch(number).inputs)


def test_a_run_is_gone_on_with_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(dataclasses.replace(CONFIG, run_dir=str(tmp_path / "whole")))
    losses = load_run(tmp_path / "whole").iterations["loss"].tolist()
    assert len(losses) == 10
    checkpoint = dataclasses.replace(CONFIG.checkpoint, every_steps=3)
    cut = dataclasses.replace(CONFIG, run_dir=str(tmp_path / "cut"), max_steps=6, checkpoint=checkpoint)
    run(cut)
    again = run(dataclasses.replace(cut, max_steps=None, resume="auto"))
    assert load_run(tmp_path / "cut").iterations["loss"].tolist() == losses
    assert again.metrics == whole.metrics


def test_a_run_whose_data_ends_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataclasses.replace(CONFIG.data, init_args={"count": 30})
    checkpoint = dataclasses.replace(CONFIG.checkpoint, every_steps=5)
    config = dataclasses.replace(CONFIG, data=data, run_dir=str(tmp_path / "run"), checkpoint=checkpoint)
    result = run(config)
    assert "the data ended: the run ends after 7 steps" in capsys.readouterr().err
    log = load_run(tmp_path / "run")
    assert (log.status, len(log.iterations)) == ("completed", 7)
    assert sorted(set(log.evaluations["step"])) == [5, 7]
    assert log.epochs["num_samples"].tolist() == [20, 8]
    assert (log.provenance["total_steps"], log.provenance["planned_steps"]) == (7, 10)
    assert result.metrics["test"].num_samples == 12
    assert (tmp_path / "run" / "model.pt").exists()
    # Nothing is left of it for more epochs either.
    again = run(dataclasses.replace(config, epochs=4, resume="auto"))
    assert again.metrics == {} and len(load_run(tmp_path / "run").iterations) == 7
    assert load_run(tmp_path / "run").provenance["total_steps"] == 7
    # Of as many as before, all is done.
    run(dataclasses.replace(config, epochs=4, resume="auto"))
    assert "is complete" in capsys.readouterr().err


class Odd(Flow):
    """With a state that no checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.inputs}


@pytest.mark.parametrize(
    ("data", "changes", "said"),
    [
        ({}, {"data": {"steps_per_epoch": None}}, "nothing says how long an epoch is: set data.steps_per_epoch"),
        ({}, {"data": {"validation_samples": 3}}, "data.validation_samples and data.train_fraction are of data whose"),
        ({}, {"learners_per_rank": "auto"}, "is iterable, and learners_per_rank is auto, for which"),
        (
            {},
            {"algorithm": AlgorithmConfig(batch_norm_policy="recompute")},
            "batch_norm_policy is recompute, for which",
        ),
        ({"train": Flow(50)}, {"learners_per_rank": 2}, r"give it a method shard\(index, count\)"),
        ({"train": Flow(3)}, {}, "the split train of the data ends before the first batch on rank 0"),
        ({"train": Odd(30)}, {}, "state_dict of the split train has a ndarray: checkpoints hold"),
    ],
)
def test_what_iterable_data_cannot_do_is_refused(data: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    section = dataclasses.replace(CONFIG.data, name="given", init_args={}, **changes.pop("data", {}))
    config = dataclasses.replace(CONFIG, data=section, log=LogConfig(enabled=False, save_model=False), **changes)
    with pytest.raises(UsageError, match=said):
        run(config, given=Given(data=flows() | data))


def test_learners_with_the_same_batch_are_refused() -> None:
    class Same(Flow):
        def shard(self, index: int, count: int) -> Flow:
            return Flow(50)

    config = dataclasses.replace(CONFIG, learners_per_rank=2, log=LogConfig(enabled=False, save_model=False))
    with pytest.raises(UsageError, match="the learners of two of rank 0 begin with the same batch"):
        run(config, given=Given(data=flows() | {"train": Same(50)}))
