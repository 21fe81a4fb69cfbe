"""A study's recipe: what it says at each batch size, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcsgd.config import CommConfig, DataConfig, FaultConfig, ModelConfig, OptimizerConfig
from hpcsgd.config.recipe import load, to_yaml
from hpcsgd.config.study import USED, RangeConfig, SpaceConfig, SpacingConfig, StopConfig, StudyConfig
from hpcsgd.errors import UsageError

STUDIES = sorted((Path(__file__).parents[3] / "jobs" / "studies").glob("*.yaml"))

RECIPE: dict[str, Any] = {
    "batch_sizes": [8, 64],
    "data": {"validation_samples": 5000},
    "space": {
        "learning_rate": {"min": {8: 0.001, 64: 0.01}, "max": 1, "scale": "log"},
        "momentum": {"min": 0.5, "max": 0.99, "scale": "reverse_log"},
        "learning_rate_decay_steps": {"min": 0.5, "max": 1, "of_budget": True},
        "label_smoothing": {"points": [0.1, 0]},
    },
    "goal": {"value": 0.1},
    "stop": {"steps": {8: 1000, 64: 150}},
}


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return str(path)


def test_the_space_at_a_batch_size_is_that_of_the_public_archive(recipe: str) -> None:
    config = load(StudyConfig, recipe, [])
    assert config.space.at(8, config.stop.budget(8, 55000)) == {
        "learning_rate": {"type": "DOUBLE", "min_value": 0.001, "max_value": 1, "scale": "LOG_SCALE"},
        "momentum": {"type": "DOUBLE", "min_value": 0.5, "max_value": 0.99, "scale": "REVERSE_LOG_SCALE"},
        "learning_rate_decay_steps": {"type": "INTEGER", "min_value": 500, "max_value": 1000, "scale": ""},
        "label_smoothing": {"type": "DISCRETE", "feasible_points": [0, 0.1]},
    }
    assert config.space.at(64, config.stop.budget(64, 55000))["learning_rate_decay_steps"]["max_value"] == 150
    assert config.space.at(64, 150)["learning_rate"]["min_value"] == 0.01


@pytest.mark.parametrize(
    ("given", "budget", "found"),
    [
        ({"min": 0.001, "max": 0.9, "of_budget": True}, 20, {"min_value": 1, "max_value": 18}),
        ({"min": 0, "max": 0.4}, 20, {"min_value": 1, "max_value": 1}),
        ({"points": (0.0, 0.01, 0.5), "of_budget": True}, 20, {"feasible_points": [1, 10]}),
    ],
)
def test_a_decay_over_no_step_is_in_no_space(given: dict[str, Any], budget: int, found: dict[str, Any]) -> None:
    space = SpaceConfig(RangeConfig(points=(0.1,)), learning_rate_decay_steps=RangeConfig(**given))
    assert space.at(8, budget)["learning_rate_decay_steps"].items() >= found.items()


def test_the_resolved_recipe_gives_the_same_study(recipe: str, tmp_path: Path) -> None:
    config = load(StudyConfig, recipe, ["--trials", "7", "--stop.steps", "{8: 10, 64: 20}", "--fuse=4"])
    assert (config.trials, config.fuse, config.stop.steps) == (7, 4, {8: 10, 64: 20})
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config))
    assert load(StudyConfig, str(again), []) == config


@pytest.mark.parametrize("recipe_file", STUDIES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_comes_back_from_its_own_text(recipe_file: Path, tmp_path: Path) -> None:
    config = load(StudyConfig, str(recipe_file), [])
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert load(StudyConfig, str(copy), []) == config


@pytest.mark.parametrize(
    ("stop", "batch_size", "budget"),
    [
        (StopConfig(steps=100), 8, 100),
        (StopConfig(steps={8: 100, 16: 70}), 16, 70),
        (StopConfig(epochs=2), 8, 250),
        (StopConfig(epochs=1.001), 8, 126),
        (StopConfig(steps=100, epochs=2), 8, 100),
        (StopConfig(steps=300, epochs={8: 2}), 8, 250),
        (StopConfig(epochs=0.001), 1000, 1),
    ],
)
def test_the_smaller_budget_counts(stop: StopConfig, batch_size: int, budget: int) -> None:
    assert stop.budget(batch_size, 1000) == budget


@pytest.mark.parametrize(
    ("spacing", "steps"),
    [
        (SpacingConfig(every_steps=3), [3, 6, 9, 10]),
        (SpacingConfig(every_steps={8: 5}), [5, 10]),
        (SpacingConfig(every_steps=1, growth=2), [1, 2, 4, 8, 10]),
        (SpacingConfig(every_steps=2, growth=1.5), [2, 4, 6, 9, 10]),
        (SpacingConfig(every_steps=50), [10]),
    ],
)
def test_evaluations_are_spaced_as_told_and_the_last_step_is_one(spacing: SpacingConfig, steps: list[int]) -> None:
    assert spacing.steps(8, 10) == steps


def test_names_in_the_archive(recipe: str) -> None:
    config = load(StudyConfig, recipe, ["--model.widths", "[64]"])
    assert config.archive_path == "fashion_mnist/fully_connected_64/momentum"
    config = load(StudyConfig, recipe, ["--optimizer.nesterov", "true", "--model.name", "simple_cnn_base"])
    assert config.archive_path == "fashion_mnist/simple_cnn_base/nesterov_momentum"
    space = dataclasses.replace(config.space, momentum=RangeConfig())
    assert dataclasses.replace(config, space=space, optimizer=OptimizerConfig(momentum=0)).optimizer_name == "sgd"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--space.momentun.min", "1"], "space.momentum.min?"),
        (["--learning_rate.base", "1"], "unknown key learning_rate.base"),
        (["--trials", "0"], "trials is 0: it must be 1 or more"),
        (["--fuse", "some"], "fuse is 'some': it must be of type auto or integer"),
        (["--fuse", "0"], "fuse is 0: it must be auto, or 1 or more"),
        (["--batch_sizes", "[]"], "one or more positive integers"),
        (["--batch_sizes", "[8, 64, 8]"], "all different"),
        (["--batch_sizes", "[8, 64, 128]"], "given for batch size 128 too"),
        (["--stop.steps", "many"], "integer or mapping from integer to integer"),
        (["--stop.steps", "null"], "stop.steps is None: it must be given in a study, or stop.epochs"),
        (["--space.learning_rate.scale", "lgo"], "did you mean log?"),
        (["--space.learning_rate.min", "0"], "positive on a log scale"),
        (["--space.learning_rate.min", "2"], "above min, 2.0 (batch size 8)"),
        (["--space.momentum.max", "1"], "space.momentum is 1.0: it must be at least 0 and below 1"),
        (["--space.momentum.points", "[0.9]"], "where min and max are given"),
        (["--space.momentum.of_budget", "true"], "it is for learning_rate_decay_steps"),
        (["--data.validation_samples", "0"], "data.validation_samples is 0: it must be 1 or more in a study"),
        (["--optimizer.momentum", "0"], "positive to search space.momentum"),
        (["--optimizer.momentum_form", "absorbed"], "reference in a study"),
        (["--comm.averaging", "shared"], "mpi, nccl or auto in a study"),
        (["--goal.value", "10"], "a fraction below 1"),
        (["--goal.value", "null", "--stop.at_goal", "true"], "given where stop.at_goal is true"),
        (["--evaluate.growth", "0.5"], "1 or more"),
    ],
)
def test_mistakes_are_refused_with_what_would_be_valid(recipe: str, words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        load(StudyConfig, recipe, words)
    assert said in str(error.value)


def test_a_study_needs_a_learning_rate(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("batch_sizes: [8]\ndata: {validation_samples: 1}\nstop: {steps: 10}\n")
    with pytest.raises(UsageError, match="space.learning_rate is 'unset': it must be min and max, or points"):
        load(StudyConfig, str(path), [])


def changed(key: str, kind: Any, default: Any) -> Any:
    """Another valid value of a key, by its type."""
    special = {"model.heads": 2, "data.name": "mnist", "model.name": "lenet", "comm.chunk_bytes": 4096}
    special |= {"optimizer.name": "torch.optim.Adam", "optimizer.betas": (0.5, 0.9)}
    if key in special:
        return special[key]
    if typing.get_origin(kind) is typing.Literal:
        return next(choice for choice in typing.get_args(kind) if choice != default)
    if isinstance(default, bool) or bool in typing.get_args(kind):
        return not default
    if isinstance(default, float):
        return default / 2 + 0.25
    if isinstance(default, int):
        return 2 * default + 2
    if isinstance(default, tuple):
        return (3, 4, 5)
    if typing.get_origin(kind) is dict:
        return {"beta": 0.5}
    return 24 if {int, float} & set(typing.get_args(kind)) else "some/where"


SECTIONS: dict[str, Any] = {
    "model": ModelConfig,
    "data": DataConfig,
    "optimizer": OptimizerConfig,
    "comm": CommConfig,
    "faults": FaultConfig,
}
SHARED = {
    f"{section}.{known.name}": changed(
        f"{section}.{known.name}",
        typing.get_type_hints(cls)[known.name],
        known.default,
    )
    for section, cls in SECTIONS.items()
    for known in dataclasses.fields(cls)
}
"""Every key of the sections that runs have too, with a value that is not its default."""

OF_TEXT, OF_LANGUAGE = ("tokens", "vocabulary", "sequence_length"), ("embedding", "hidden", "layers", "heads")


@pytest.mark.parametrize("key", SHARED)
def test_every_key_that_runs_have_too_counts_or_is_refused(key: str) -> None:
    section, _, name = key.partition(".")
    of_a_set = {"image_size": "image_folder"} | {known: "synthetic" for known in USED["data"] if "synthetic_" in known}
    of_a_set |= dict.fromkeys((*OF_TEXT, *OF_LANGUAGE), "text") | {"init_args": "own.Data"}
    data = {"name": of_a_set.get(name, "fashion_mnist"), "validation_samples": 5000}
    data |= {"tokens": "whitespace"} if name == "vocabulary" else {}
    values: dict[str, dict[str, Any]] = {"data": data, "model": {}, "optimizer": {}, "comm": {}, "faults": {}}
    of_a_model = dict.fromkeys((*OF_TEXT, *OF_LANGUAGE), "lstm")
    of_a_model |= {"zero_gamma": "resnet8", "init_args": "nets.Own", "heads": "transformer"}
    values["model"] = {"name": of_a_model[name]} if name in of_a_model else {}
    of_an_optimizer = {"init_args": "torch.optim.Adam", "trust_coefficient": "lars"}
    of_an_optimizer |= dict.fromkeys(("max_trust_ratio", "betas", "eps"), "lamb")
    values["optimizer"] = {"name": of_an_optimizer[name]} if name in of_an_optimizer else {}
    values[section] |= {name: SHARED[key]}
    if name == "momentum_form":
        return  # refused by a message of its own, see above
    try:
        config: dict[str, Any] = {part: SECTIONS[part](**given) for part, given in values.items()}
    except ValueError as error:
        assert key in str(error)  # it counts for other choices only, which are refused here, as those of texts are
        assert name not in USED[section]
        return
    make = functools.partial(
        StudyConfig,
        batch_sizes=(8,),
        space=SpaceConfig(learning_rate=RangeConfig(min=0.1, max=1.0)),
        stop=StopConfig(steps=5),
        **config,
    )
    if name in USED[section]:
        assert getattr(getattr(make(), section), name) == SHARED[key]
    else:
        with pytest.raises(ValueError, match=f"{key} is .*, which a study does not use: leave it out"):
            make()


def test_a_pack_is_not_trained_on(recipe: str) -> None:
    with pytest.raises(UsageError, match="data.name is 'pack': it must be a set in memory in a study"):
        load(StudyConfig, recipe, ["--data.name=pack", "--data.dir=x"])


def test_a_language_model_is_for_text(recipe: str) -> None:
    with pytest.raises(UsageError, match="model.name is 'lstm', and data.name 'fashion_mnist': they do not fit"):
        load(StudyConfig, recipe, ["--model.name=lstm"])


def test_models_and_optimizers_by_import_path(recipe: str, tmp_path: Path) -> None:
    words = ["--model.class_path=nets.Own", "--model.init_args={width: 3}", "--optimizer.name=torch.optim.AdamW"]
    with pytest.raises(UsageError, match="space.momentum is 'given': it must be unset for torch.optim.AdamW"):
        load(StudyConfig, recipe, words)
    space = {name: given for name, given in RECIPE["space"].items() if name != "momentum"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(RECIPE | {"space": space}))
    config = load(StudyConfig, str(tmp_path / "own.yaml"), words)
    assert config.archive_path == "fashion_mnist/nets.Own/torch.optim.AdamW"
    assert (config.model.init_args, config.import_from) == ({"width": 3}, str(tmp_path))
