"""Keys that count for some values of another: refused where they would be ignored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hpcsgd.config import AlgorithmConfig, DataConfig, LearningRateConfig, ModelConfig, OptimizerConfig, RunConfig
from hpcsgd.config.check import FREE, USED_WITH, used_with_keys
from hpcsgd.config.recipe import known_keys, load_config
from hpcsgd.errors import UsageError

ALWAYS: dict[type, set[str]] = {
    ModelConfig: {"name", "zero_gamma", "channels_last"},
    DataConfig: {"name", "train_fraction", "tail", "validation_samples"},
    OptimizerConfig: {"name", "clip_norm"},
    LearningRateConfig: {
        *("base", "base_batch_size", "scaling_rule", "decay", "milestones"),
        *("warmup", "warmup_epochs", "warmup_start"),
    },
}
"""Keys that count for all choices, or have checks of their own."""


@pytest.mark.parametrize("cls", ALWAYS)
def test_a_new_key_must_say_what_it_counts_for(cls: Any) -> None:
    # Arguments of a user's class say it themselves: they are refused where there is none.
    others = {known.name for known in dataclasses.fields(cls) if not known.metadata.keys() & {USED_WITH, FREE}}
    assert others == ALWAYS[cls]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: ModelConfig(name="lenet", widths=(3,)),
            "model.widths is (3,), which counts for model.name fully_connected only, and that is 'lenet': "
            "leave model.widths out",
        ),
        (lambda: ModelConfig(name="lstm", heads=2), "for model.name transformer only, and that is 'lstm'"),
        (lambda: ModelConfig(embedding=3), "for model.name lstm or transformer only, and that is 'fully_connected'"),
        (lambda: DataConfig(name="synthetic", dir="x"), "data.dir is 'x', which counts for data.name fashion_mnist or"),
        (lambda: DataConfig(name="mnist", synthetic_classes=3), "for data.name synthetic only, and that is 'mnist'"),
        (lambda: DataConfig(name="mnist", image_size=8), "for data.name image_folder or pack only"),
        (
            lambda: DataConfig(name="image_folder", block_size=8),
            "data.block_size is 8, which counts for data.name pack",
        ),
        (lambda: DataConfig(name="mnist", random_resized_crop=True), "for data.name pack only"),
        (lambda: DataConfig(name="pack", antialias=True), "it must be false without data.random_resized_crop"),
        (lambda: DataConfig(name="mnist", stage_dir="/x"), "for data.name pack only"),
        (lambda: DataConfig(name="text", vocabulary=9), "for data.tokens whitespace only, and that is 'bytes'"),
        (lambda: DataConfig(sequence_length=9), "data.sequence_length is 9, which counts for data.name text only"),
        (lambda: AlgorithmConfig(slow_momentum=0.1), "for algorithm.outer_step slow_momentum"),
        (lambda: OptimizerConfig(momentum_correction=False), "for optimizer.momentum_form absorbed only"),
        (lambda: OptimizerConfig(eps=0.1), "optimizer.eps is 0.1, which counts for optimizer.name lamb only"),
        (lambda: OptimizerConfig(name="lamb", momentum=0.5), "for optimizer.name sgd or lars only, and that is 'lamb'"),
        (
            lambda: LearningRateConfig(decay="cosine", power=2.0),
            "learning_rate.power is 2.0, which counts for learning_rate.decay polynomial only, and that is 'cosine'",
        ),
        (lambda: LearningRateConfig(decay="linear", decay_factor=0.5), "for learning_rate.decay step only"),
    ],
)
def test_what_would_be_ignored_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    assert said in str(refused.value)


def test_what_belongs_to_a_switch_that_is_off_may_stay() -> None:
    assert LearningRateConfig(decay="none", decay_factor=0.5, power=2.0).power == 2.0


RECIPE = """local_batch_size: 4
data: {name: text, dir: x.txt, tokens: whitespace, vocabulary: 9, sequence_length: 3}
model: {name: transformer, heads: 2, embedding: 8}
"""


def test_the_command_line_takes_what_belongs_to_the_other_choice_away(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    config = load_config(str(path), ["--data.name=synthetic", "--data.synthetic_classes", "3", "--model.name", "lenet"])
    assert config.data == DataConfig(name="synthetic", synthetic_classes=3)
    assert config.model == ModelConfig(name="lenet")
    same = load_config(str(path), ["--model.name=lstm"])
    assert (same.model, same.data.vocabulary) == (ModelConfig(name="lstm", embedding=8), 9)
    assert load_config(str(path), ["--data.tokens=bytes"]).data.vocabulary == 10_000


@pytest.mark.parametrize(
    "words", [["--data.name=mnist", "--data.vocabulary=5"], ["--model.name=lstm", "--model.heads=2"]]
)
def test_but_not_what_is_on_the_command_line_too(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    with pytest.raises(UsageError, match="which counts for"):
        load_config(str(path), words)


def test_the_keys_of_all_sections_are_found() -> None:
    found = used_with_keys(RunConfig)
    assert found["data.vocabulary"] == ("data.tokens", ("whitespace",), "bytes")
    assert {key for pair in found.items() for key in (pair[0], pair[1][0])} <= known_keys().keys()
