"""Each trial of a group sees the batches that it would see alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hpcsgd.config import DataConfig
from hpcsgd.data.batches import Loader
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.make import make_loader
from hpcsgd.data.store import Pictures
from hpcsgd.trials.batches import GroupBatches, trial_seed

CPU = torch.device("cpu")
CONFIG = DataConfig(name="synthetic", synthetic_shape=(2, 4, 4), synthetic_train_samples=22)
SEEDS = (5, 7, 11)


def alone(config: DataConfig, seed: int, batch_size: int, rank: int = 0, size: int = 1) -> Loader:
    """The loader of an ordinary run with the seed of a trial."""
    return make_loader(
        load_dataset(config),
        config,
        seed=seed,
        learner=rank,
        num_learners=size,
        local_batch_size=batch_size // size,
        device=CPU,
        dtype=torch.float64,
        channels_last=False,
    )


def group(config: DataConfig, batch_size: int, rank: int = 0, size: int = 1) -> GroupBatches:
    """The batches of three trials."""
    dataset = load_dataset(config)
    store = Pictures(dataset, dataset.train, CPU, torch.float64, False, config, prepared=True)
    return GroupBatches(store, config, SEEDS, batch_size, rank, size)


@pytest.mark.parametrize("tail", ["drop", "wrap", "keep"])
@pytest.mark.parametrize("augmented", [{}, {"flip": True}, {"crop_padding": 1}, {"flip": True, "crop_padding": 2}])
def test_batches_are_those_of_ordinary_runs(tail: str, augmented: dict[str, int]) -> None:
    config = dataclasses.replace(CONFIG, tail=tail, **augmented)  # type: ignore[arg-type]
    batches = group(config, 8)
    loaders = [alone(config, seed, 8) for seed in SEEDS]
    assert batches.steps_per_epoch == loaders[0].steps_per_epoch
    for step in range(7):
        for ours, loader in zip(batches.batch(step).learners(), loaders, strict=True):
            expected = loader.batch(step)
            assert torch.equal(ours.inputs, expected.inputs) and torch.equal(ours.targets, expected.targets)


def test_ranks_of_a_team_share_the_batches_of_an_ordinary_run() -> None:
    for rank in range(2):
        batches, loader = group(CONFIG, 8, rank, 2), alone(CONFIG, SEEDS[1], 8, rank, 2)
        for step in range(5):
            assert torch.equal(batches.batch(step).rows().inputs[1], loader.batch(step).inputs)


def test_trials_that_leave_do_not_change_the_others() -> None:
    config = dataclasses.replace(CONFIG, flip=True, crop_padding=1)
    left, whole = group(config, 8), group(config, 8)
    left.batch(0)
    left.keep([2, 0])
    for step in (1, 2, 5):
        ours, all_rows = left.batch(step).rows(), whole.batch(step).rows()
        assert torch.equal(ours.inputs, all_rows.inputs[[2, 0]]) and torch.equal(ours.targets, all_rows.targets[[2, 0]])


def test_seeds_of_trials_differ() -> None:
    seeds = [trial_seed(s, b, t) for s in (0, 1) for b in (1, 2, 8) for t in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert trial_seed(3, 8, 1) == trial_seed(3, 8, 1)
    assert np.iinfo(np.uint32).max >= max(seeds)
