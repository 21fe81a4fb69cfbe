"""A small study on synthetic data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config.recipe import load
from hpcsgd.config.study import StudyConfig
from hpcsgd.trials.workshop import Workshop, open_workshop

RECIPE = {
    "batch_sizes": [4, 16],
    "trials": 5,
    "fuse": 5,
    "threads": 1,
    "progress": "none",
    "model": {"widths": [6]},
    "data": {
        "name": "synthetic",
        "synthetic_shape": [1, 4, 4],
        "synthetic_classes": 3,
        "synthetic_train_samples": 120,
        "synthetic_test_samples": 20,
        "validation_samples": 40,
    },
    "optimizer": {"nesterov": True},
    "space": {
        "learning_rate": {"min": 0.01, "max": 0.5, "scale": "log"},
        "momentum": {"min": 0.1, "max": 0.99, "scale": "reverse_log"},
        "learning_rate_decay_steps": {"min": 0.5, "max": 1, "of_budget": True},
        "end_learning_rate_factor": {"min": 0.001, "max": 0.1, "scale": "log"},
        "label_smoothing": {"points": [0, 0.1]},
    },
    "goal": {"value": 0.2},
    "stop": {"steps": {4: 40, 16: 20}},
    "evaluate": {"every_steps": 5, "train_samples": 30},
}


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., StudyConfig]:
    """A function that gives the small study with other values of some keys; ``__`` stands for the dot."""

    def make(**keys: object) -> StudyConfig:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE))
        words = [f"--{key.replace('__', '.')}={value}" for key, value in keys.items()]
        return load(StudyConfig, str(recipe), words)

    return make


@pytest.fixture
def shop(study: Callable[..., StudyConfig]) -> Callable[..., Workshop]:
    """A function that gives the parts of the small study in this process."""

    def make(**keys: object) -> Workshop:
        return open_workshop(study(**keys), SingleCommunicator())

    return make
