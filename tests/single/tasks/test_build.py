"""A recipe's own model, loss and metrics become a task, and a run trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpcsgd.config import LossConfig, ModelConfig
from hpcsgd.config.recipe import load_config
from hpcsgd.data.dataset import load_dataset
from hpcsgd.errors import UsageError
from hpcsgd.record import load_run
from hpcsgd.tasks.build import make_task
from hpcsgd.tasks.given import Given
from hpcsgd.tasks.losses import CrossEntropy
from hpcsgd.train import run
from tests.single.tasks import own_task

OWN = "tests.single.tasks.own_task"
RECIPE = f"""
model: {{class_path: {OWN}.Net, init_args: {{width: 6}}}}
loss: {{class_path: {OWN}.Entropy, init_args: {{scale: 1.0}}}}
metrics:
  precision: {{class_path: {OWN}.Precision, init_args: {{of: 1}}}}
  right: hpcsgd.tasks.losses.right
data: {{name: synthetic, synthetic_shape: [1, 4, 4], synthetic_classes: 3, synthetic_train_samples: 40,
        synthetic_test_samples: 13}}
local_batch_size: 5
epochs: 2
device: cpu
threads: 1
progress: none
learning_rate: {{base: 0.05, scaling_rule: none}}
optimizer: {{momentum: 0.9, weight_decay: 0.01}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """The recipe in a directory of its own."""
    (tmp_path / "own.yaml").write_text(RECIPE)
    return str(tmp_path / "own.yaml")


def test_a_recipe_of_the_users_own_trains_to_the_bits_of_the_same_task_brought_from_python(
    tmp_path: Path, recipe: str
) -> None:
    config = load_config(recipe, [f"--run_dir={tmp_path / 'recipe'}"])
    assert config.import_from == str(tmp_path)
    result = run(config)
    log = load_run(tmp_path / "recipe")
    imported = log.provenance["imported"]
    assert imported["model.name"]["path"] == f"{OWN}.Net" and imported["model.name"]["file"].endswith("own_task.py")
    assert set(imported) == {"model.name", "loss.name", "metrics.precision", "metrics.right"}
    assert list(result.metrics["test"].values) == ["loss", "precision", "right"]
    assert log.iterations["loss"].iloc[-8:].mean() < log.iterations["loss"].iloc[:8].mean()

    built_in = ["--model.name=fully_connected", "--loss=cross_entropy", f"--run_dir={tmp_path / 'given'}"]
    plain = RECIPE.replace("init_args: {width: 6}", "init_args: {}").replace("{scale: 1.0}", "{}")
    (tmp_path / "plain.yaml").write_text(plain)
    given = Given(lambda: own_task.Net(width=6), own_task.entropy, {"precision": own_task.Precision(1)})
    other = run(load_config(str(tmp_path / "plain.yaml"), built_in), given=given)
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("recipe", "given")]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert other.metrics["test"].values == {k: v for k, v in result.metrics["test"].values.items() if k != "right"}


def test_a_resumed_run_needs_no_other_word_than_its_recipe(tmp_path: Path, recipe: str) -> None:
    words = [f"--run_dir={tmp_path / 'run'}", "--checkpoint.every_steps=3"]
    run(load_config(recipe, [*words, "--max_steps=7"]))
    run(load_config(str(tmp_path / "run" / "recipe.yaml"), [*words, "--max_steps=12", "--resume=auto"]))
    run(load_config(recipe, [f"--run_dir={tmp_path / 'whole'}", "--max_steps=12"]))
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("run", "whole")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_frozen_parts_stay_tied_ones_stay_one_and_unused_ones_are_only_decayed(tmp_path: Path, recipe: str) -> None:
    config = load_config(recipe, [f"--run_dir={tmp_path / 'run'}", "--optimizer.momentum=0", "--max_steps=3"])
    run(config)
    trained = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    first = make_task(config.model, load_dataset(config.data)).new_module(config.seed).state_dict()
    assert torch.equal(trained["frozen.weight"], first["frozen.weight"])
    assert torch.equal(trained["second.weight"], trained["third.weight"])
    assert not torch.equal(trained["second.weight"], first["second.weight"])
    rate, decay = 0.05, 0.01
    torch.testing.assert_close(trained["unused.weight"], first["unused.weight"] * (1 - rate * decay) ** 3)
    assert torch.equal(trained["unused.bias"], first["unused.bias"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.class_path", f"{OWN}.Nett"], "has no Nett; did you mean Net?"),
        (
            ["--model.init_args", "{widht: 3}"],
            "model.init_args has widht, which Net does not take; did you mean width?",
        ),
        (["--model.class_path", f"{OWN}.no_module"], "the model is 3, no torch.nn.Module"),
        (["--model.class_path", f"{OWN}.Fails"], r"forward pass fails: RuntimeError: no such layer \(.*own_task.py"),
        (["--model.class_path", f"{OWN}.Grows"], "parameter scale was made after the start: no optimizer steps it"),
        (["--model.init_args", "{pixels: 9}"], "the model's forward pass fails: RuntimeError: mat1 and mat2"),
        (["--loss", f"{OWN}.mean_entropy"], r"gives \[\] for 2 samples.*loss.reduction mean"),
        (["--loss", f"{OWN}.of_columns"], r"gives \[2, 3\] for 2 samples.*\(sum, weight\)$"),
        (["--loss", f"{OWN}.no_tensor"], "gives a float for 2 samples"),
        (["--loss", f"{OWN}.no_tensor", "--loss.reduction", "mean"], "gives a float: with loss.reduction mean"),
        (["--loss", f"{OWN}.of_three"], "gives 3 things of the shapes .* must be a sum and its weight"),
        (["--loss", f"{OWN}.of_learned_weight"], "the weight of the loss depends on parameters"),
        (["--loss", f"{OWN}.of_negative_weight"], "its weight is -1: it must be 0 or more"),
        (["--loss", f"{OWN}.counted", "--loss.reduction", "mean"], "gives a tuple: with loss.reduction mean"),
        (
            ["--loss", f"{OWN}.counted", "--engine", "fused", "--learners_per_rank", "2"],
            "engine fused takes losses of one number a sample, and counted gives sum and weight: choose",
        ),
        (["--loss", f"{OWN}.of_nothing"], "does not depend on any parameter"),
        (["--metrics", f"{{right: {OWN}.of_all}}"], "the metric right fails"),
        (["--label_smoothing", "0.1"], "label_smoothing is 0.1: it must be 0 for"),
        (["--loss.reduction", "mean", "--data.tail", "keep"], "data.tail is 'keep': it must be drop or wrap"),
        (["--metrics", "{right: right}"], "metrics.right is 'right': it must be an import path"),
        (["--metrics", f"{{loss: {OWN}.of_all}}"], "other names than loss"),
        (
            ["--model.name", "lenet", "--model.init_args.width", "3"],
            "model.init_args is .*: it must be unset for lenet",
        ),
        (["--model.widths", "[3]"], "model.widths is .*counts for model.name fully_connected only"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_kept(
    tmp_path: Path, recipe: str, words: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        run(load_config(recipe, [f"--run_dir={tmp_path / 'run'}", *words]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("keys", [["--checkpoint.every_steps=6", "--evaluate.every_epochs=0"], []])
def test_a_parameter_that_comes_later_ends_the_run_where_the_model_is_taken(
    tmp_path: Path, recipe: str, keys: list[str]
) -> None:
    words = ["--model.class_path", f"{OWN}.GrowsLater", "--epochs=1", f"--run_dir={tmp_path / 'run'}", *keys]
    with pytest.raises(UsageError, match="the model's parameter scale was made after the start"):
        run(load_config(recipe, words))
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_mean_over_equal_batches_is_the_loss_of_each_of_its_samples(tmp_path: Path, recipe: str) -> None:
    words = ["--dtype", "float64"]
    mean = ["--loss", f"{OWN}.mean_entropy", "--loss.reduction", "mean", f"--run_dir={tmp_path / 'mean'}"]
    each = ["--loss", f"{OWN}.entropy", f"--run_dir={tmp_path / 'each'}"]
    results = [run(load_config(recipe, [*words, *more])).metrics["test"].values for more in (mean, each)]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-12)


def test_a_loss_of_sum_and_weight_is_kept_and_evaluated_as_their_quotient(tmp_path: Path, recipe: str) -> None:
    words = ["--loss", f"{OWN}.counted", "--loss.init_args", "{scale: 2}", f"--run_dir={tmp_path / 'run'}"]
    metrics = f"{{again: {{class_path: {OWN}.counted, init_args: {{scale: 4}}}}}}"
    config = load_config(recipe, [*words, "--metrics", metrics, "--accumulation_steps=5"])
    values = run(config).metrics["test"].values
    assert values["again"] == pytest.approx(2 * values["loss"])
    log = load_run(tmp_path / "run")
    steps, labels = log.iterations.groupby("epoch"), torch.as_tensor(load_dataset(config.data).train.targets)
    assert steps["loss_weight"].sum().tolist() == [float(labels.sum())] * 2
    expected = steps.apply(lambda own: (own["loss"] * own["loss_weight"]).sum() / own["loss_weight"].sum())
    assert log.epochs["train_loss"].tolist() == pytest.approx(expected.tolist())
    assert log.epochs["train_loss"].iloc[1] < log.epochs["train_loss"].iloc[0]


@pytest.mark.parametrize("name", ["cross_entropy", "squared_error"])
def test_accuracy_is_measured_where_classes_are_learned(name: str) -> None:
    config: Any = load_config(None, ["--data.name=synthetic", "--local_batch_size=1"])
    task = make_task(ModelConfig(), load_dataset(config.data), LossConfig(name=name))
    assert list(task.metrics) == ["loss", "accuracy"][: 2 if name == "cross_entropy" else 1]
    assert isinstance(task.loss, CrossEntropy) == (name == "cross_entropy")


def test_inputs_of_several_parts_are_arguments_by_name_or_place() -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - b

    task = make_task(
        ModelConfig(), load_dataset(load_config(None, ["--data.name=synthetic", "--local_batch_size=1"]).data)
    )
    one, two = torch.ones(3), torch.zeros(3)
    for inputs in ({"b": two, "a": one}, (one, two), [one, two]):
        assert torch.equal(task.forward(Two(), inputs), one)
