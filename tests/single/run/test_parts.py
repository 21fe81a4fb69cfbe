"""The parts of a run: a value, of which a change of learners makes a new one; and what ends with the run."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest

from hpcsgd.algorithms.local_sgd import LocalSGD
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import AlgorithmConfig, DataConfig, LogConfig, ModelConfig, OptimizerConfig, RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.optim import probe
from hpcsgd.run.build import build
from hpcsgd.run.parts import fix_learners

CONFIG = RunConfig(
    local_batch_size=4,
    device="cpu",
    threads=1,
    model=ModelConfig(widths=(5,)),
    data=DataConfig(name="synthetic", synthetic_shape=(1, 4, 4), synthetic_train_samples=40),
    algorithm=AlgorithmConfig(name="local_sgd", sync_period=2),
    log=LogConfig(enabled=False, save_model=False),
)


@pytest.mark.parametrize("failure", [None, UsageError, RuntimeError])
def test_what_the_parts_have_become_is_what_ends(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception] | None
) -> None:
    """After an exception of one rank alone, nothing does that would wait for the others."""
    ended: list[LocalSGD] = []
    monkeypatch.setattr(LocalSGD, "close", lambda algorithm: ended.append(algorithm))
    try:
        with build(CONFIG, SingleCommunicator()) as parts:
            ended.clear()
            parts = fix_learners(parts, 2, "loop")
            assert parts.algorithm not in ended
            if failure is not None:
                raise failure
    except (UsageError, RuntimeError) as error:
        assert type(error) is failure
    assert ended[1:] == ([] if failure is RuntimeError else [parts.algorithm])


def test_new_learners_are_those_of_new_parts_and_nothing_holds_the_old_ones() -> None:
    with build(CONFIG, SingleCommunicator()) as parts:
        old, alone = parts, weakref.ref(parts.learners)
        parts = fix_learners(parts, 2, "loop")
        assert (old.plan.num_learners, len(old.learners), old.plan.steps_per_epoch) == (1, 1, 10)
        assert (parts.plan.num_learners, len(parts.learners), parts.plan.steps_per_epoch) == (2, 2, 5)
        assert parts.loader.batch(0).sizes == [4, 4]
        with pytest.raises(dataclasses.FrozenInstanceError):
            parts.plan = old.plan  # type: ignore[misc]
        del old
        gc.collect()
        assert alone() is None


def test_the_noise_of_one_learner_is_not_to_be_seen() -> None:
    config = dataclasses.replace(CONFIG, algorithm=AlgorithmConfig(), log=LogConfig(enabled=False, noise_scale=True))
    with pytest.raises(UsageError, match="but there is one learner"), build(config, SingleCommunicator()):
        pass


def test_an_optimizer_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = [], probe._states

    def watched(*arguments: object) -> tuple[str, ...]:
        looks.append(arguments)
        return look(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(probe, "_states", watched)
    config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(name="torch.optim.AdamW"))
    with build(config, SingleCommunicator()) as parts:
        parts = fix_learners(parts, 2, "loop")
        assert {"exp_avg", "exp_avg_sq"} <= set(parts.learners.rows.names)
    assert len(looks) == 1
