"""A user's own data: of which kinds it may be, what is refused, and that nothing depends on who reads it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from hpcsgd.config import DataConfig, EvaluateConfig, ModelConfig, RunConfig
from hpcsgd.data.batches import Batch, Loader
from hpcsgd.data.dataset import num_train_samples
from hpcsgd.data.make import evaluated, make_loader, make_split
from hpcsgd.data.own.data import OwnData, open_own
from hpcsgd.data.own.items import SampleError
from hpcsgd.data.shards import epoch_permutation
from hpcsgd.errors import DataError, UsageError
from hpcsgd.record import load_run
from hpcsgd.tasks.build import make_task
from hpcsgd.tasks.given import Given
from hpcsgd.train import run
from tests.single.data.own.own_data import Files, Rows, arrays, numbers

CPU = torch.device("cpu")
HERE = "tests.single.data.own.own_data"
GIVEN = DataConfig(name="given", workers=0)


class Pair(NamedTuple):
    """A named tree."""

    left: Any
    right: Any


def loader_of(data: OwnData, config: DataConfig = GIVEN, **changes: Any) -> Loader:
    """A loader of one learner of one rank, unless ``changes`` say otherwise."""
    options: dict[str, Any] = {"seed": 3, "learner": 0, "num_learners": 1, "local_batch_size": 8, "device": CPU,
                               "dtype": torch.float32, "channels_last": False}  # fmt: skip
    return make_loader(data, config, **(options | changes))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


def test_arrays_and_tensors_are_trees_in_the_order_of_the_seed() -> None:
    inputs, targets = numbers(20)
    tree = {"x": Pair(inputs, torch.arange(20)), "y": [inputs[:, :1].astype(">f4")]}
    data = open_own(GIVEN, {"train": (tree, {"mask": targets > 0, "value": inputs[:, 0]})})
    batch = loader_of(data).batch(1)
    samples = epoch_permutation(3, 0, 20)[8:16]
    assert isinstance(batch.inputs["x"], Pair) and isinstance(batch.inputs["y"], list)
    assert batch.inputs["x"].left.dtype == torch.float32
    np.testing.assert_allclose(batch.inputs["x"].left, inputs[samples].astype(np.float32))
    assert batch.inputs["x"].right.tolist() == samples.tolist()
    np.testing.assert_allclose(batch.inputs["y"][0], inputs[samples, :1].astype(np.float32))
    assert batch.targets["mask"].dtype == torch.bool
    assert (data.shape, data.num_classes) == (None, None)


def test_arrays_say_their_shape_and_classes() -> None:
    data = open_own(GIVEN, arrays)
    assert (data.shape, data.num_classes, data.num_train) == ((4,), 3, 40)
    assert data.identity["samples"] == {"train": 40, "test": 12}
    both = open_own(GIVEN, {"train": TensorDataset(torch.zeros(4, 2), torch.zeros(4)), "classes": 7})
    assert (both.shape, both.num_classes) == ((2,), 7)
    assert loader_of(both, local_batch_size=2).batch(0).inputs.shape == (2, 2)


def test_four_axes_are_in_the_memory_order_of_the_model() -> None:
    data = open_own(GIVEN, {"train": (np.zeros((8, 3, 4, 5)), np.zeros(8, int)), "test": (np.ones((3, 3, 4, 5)),) * 2})
    last = torch.channels_last
    assert loader_of(data, channels_last=True).batch(0).inputs.is_contiguous(memory_format=last)
    split = make_split(data, data.splits["test"], device=CPU, dtype=torch.float32, channels_last=True)
    batch, _ = next(split.batches(0, 2, 2))
    assert batch.is_contiguous(memory_format=last) and batch.shape == (2, 3, 4, 5)


def test_samples_do_not_depend_on_ranks_learners_or_the_order_of_asking() -> None:
    data = open_own(GIVEN, Files)
    whole = loader_of(data)
    batches = [whole.batch(step) for step in range(12)]
    assert not torch.equal(batches[0].inputs, batches[5].inputs), "another epoch, another order and noise"
    again = loader_of(data)
    assert all(same(again.batch(step), batches[step]) for step in (11, 3, 3, 4, 0))
    for own in (1, 2):
        parts = [
            loader_of(data, learner=i, num_learners=4, local_batch_size=2, own_learners=own) for i in range(0, 4, own)
        ]
        for step in (0, 7):
            found = [part.batch(step) for part in parts]
            assert torch.equal(torch.cat([batch.inputs for batch in found]), batches[step].inputs)
            assert found[0].sizes == [2] * own


def test_the_noise_of_a_sample_follows_from_seed_epoch_and_number() -> None:
    data = open_own(GIVEN, Files)
    split = data.splits["train"].dataset  # type: ignore[union-attr]
    for seed, step in ((3, 0), (3, 5), (4, 0)):
        batch = loader_of(data, seed=seed).batch(step)
        samples = epoch_permutation(seed, step // 5, 40)[:8]
        noise = batch.inputs - torch.from_numpy(split.inputs[samples]).float()
        assert len(torch.unique(noise[:, 0])) == len(torch.unique(noise[:, 2])) == 8
        # The same sample has the same noise wherever it stands.
        alone = loader_of(data, seed=seed, learner=7, num_learners=8, local_batch_size=1).batch(step)
        assert torch.equal(alone.inputs[0], batch.inputs[7])


def test_the_training_generators_are_left_alone() -> None:
    data = open_own(GIVEN, Files)
    loader, states = loader_of(data), (random.getstate(), np.random.get_state()[2], torch.get_rng_state())
    loader.batch(0)
    list(evaluation(data).batches(0, 12, 5))
    assert random.getstate() == states[0] and np.random.get_state()[2] == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def evaluation(data: OwnData, name: str = "test", config: DataConfig = GIVEN) -> Any:
    return make_split(data, data.splits[name], config, device=CPU, dtype=torch.float32, channels_last=False)


def test_an_evaluation_reads_each_sample_once_in_its_order() -> None:
    data = open_own(GIVEN, {"train": Rows(8), "val": Rows(12, 1)})
    split = evaluation(data, "val")
    batches = list(split.batches(2, 12, 4))
    assert [len(targets) for _, targets in batches] == [4, 4, 2]
    assert torch.cat([targets for _, targets in batches]).tolist() == Rows(12, 1).targets[2:].tolist()
    assert torch.equal(next(split.batches(2, 3, 1))[0][0], batches[0][0][0]), "noise, the same each time"
    assert list(split.batches(5, 5, 4)) == []


@pytest.mark.parametrize("kind", ["arrays", "Files"])
def test_samples_are_held_out_and_shared_as_of_any_data(kind: str) -> None:
    config = DataConfig(name=f"{HERE}.{kind}", validation_samples=10, train_fraction=0.5)
    data, whole = open_own(config), open_own(DataConfig(name=f"{HERE}.{kind}"))
    assert data.identity["samples"] == {"train": 15, "test": 12, "val": 10}
    targets = torch.cat([t for _, t in evaluation(data, "val").batches(0, 10, 4)])
    expected = torch.cat([t for _, t in evaluation(whole, "train").batches(30, 40, 4)])
    assert targets.tolist() == expected.tolist()
    assert loader_of(data).steps_per_epoch == 1
    assert open_own(dataclasses.replace(config, train_fraction=1.0)).num_train == 30


def test_a_kept_tail_may_leave_a_learner_without_samples() -> None:
    data = open_own(GIVEN, Files(train=10))
    config = dataclasses.replace(GIVEN, tail="keep")
    ranks = [loader_of(data, config, learner=i, num_learners=4, local_batch_size=2) for i in range(4)]
    assert [len(rank.batch(1)) for rank in ranks] == [1, 1, 0, 0]
    assert ranks[3].batch(1).inputs.shape == (0, 4) and ranks[3].batch(1).targets.shape == (0,)


def test_a_collate_function_of_the_users() -> None:
    config = DataConfig(name=f"{HERE}.Files", workers=0, collate=f"{HERE}.doubled")
    batch = loader_of(open_own(config), config).batch(0)
    plain = loader_of(open_own(config)).batch(0)
    torch.testing.assert_close(batch.inputs["x"], 2 * plain.inputs)
    wrong = dataclasses.replace(config, collate=f"{HERE}.Rows")
    with pytest.raises(SampleError, match="samples .* of the split train cannot be put together"):
        loader_of(open_own(wrong), wrong).batch(0)
    with pytest.raises(UsageError, match=r"data.collate is .* has no dubled; did you mean doubled\?"):
        loader_of(open_own(config), dataclasses.replace(config, collate=f"{HERE}.dubled"))


class Odd(Dataset[Any]):
    """A sample is of another shape."""

    def __init__(self, odd: Any = None) -> None:
        self.odd = odd
        self.size = 8

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> Any:
        return (torch.zeros(3), 1) if number != 5 or self.odd is None else self.odd


def test_what_is_wrong_with_samples_is_said_with_their_numbers() -> None:
    shapes = loader_of(open_own(GIVEN, {"train": Odd((torch.zeros(4), 1))}))
    with pytest.raises(
        SampleError, match=r"samples .* of the split train cannot be put together: sample \d is "
    ) as info:
        shapes.batch(0)
    assert "(float32 [4], int)" in str(info.value) and "stack expects each tensor" in str(info.value.__cause__)
    with pytest.raises(SampleError, match=r"sample 5 of the split train is float32 \[4\]: it must be a pair"):
        loader_of(open_own(GIVEN, {"train": Odd(torch.zeros(4))}), local_batch_size=8).batch(0)
    gone = loader_of(open_own(GIVEN, {"train": Rows(40, bad=8)}), local_batch_size=40)
    with pytest.raises(SampleError, match="sample 8 of the split train cannot be read") as failed:
        gone.batch(0)
    assert "row 8 is gone" in str(failed.value.__cause__)


def test_a_data_set_whose_length_changes_is_refused() -> None:
    rows = Odd()
    loader = loader_of(open_own(GIVEN, {"train": rows}), local_batch_size=4)
    loader.batch(0)
    rows.size = 7
    loader.batch(1)
    with pytest.raises(DataError, match="split train had 8 samples, and has 7 now: its length must stay"):
        loader.batch(2)


class Endless(IterableDataset[Any]):
    """Without a state."""

    def __iter__(self) -> Iterator[Any]:
        yield torch.zeros(2), 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: None, "the data is NoneType: it must have a split train"),
        ({"training": Rows(3)}, "the data is a mapping of training: it must have a split train"),
        ({"train": Rows(3), "valid": Rows(3)}, "the data has a split valid: splits are called train, test, val"),
        ({"train": 3}, "the split train of the data is of type int: give a tuple of inputs and targets"),
        ({"train": (np.zeros(3),) * 3}, "the split train of the data is a tuple of 3: it must be one of inputs"),
        ({"train": (np.zeros((3, 1)), np.zeros(4))}, "the split train of the data: inputs and targets are not as many"),
        ({"train": (np.zeros((3, 1)), 4)}, "the targets of the split train are of type int: give arrays or tensors"),
        ({"train": Rows(0)}, "the split train of the data has no samples"),
        ({"train": Endless()}, "the split train of the data is iterable, but of type Endless has no state_dict"),
        ({"train": Rows(3), "test": Endless()}, "the split test of the data is iterable: an evaluation is of all"),
        (
            {"train": Rows(3, bad=1)},
            r"data: sample 1 of the split train cannot be read: OSError: row 1 is gone \(.*own",
        ),
        ({"train": (np.array(["a"] * 3), np.zeros(3))}, "an array of the data is of type <U1, which torch has not"),
    ],
)
def test_what_cannot_be_used_is_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_own(GIVEN, given)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": f"{HERE}.Filse"}, r"has no Filse; did you mean Files\?"),
        ({"name": "tests.no_such.Data"}, "but tests .*has no no_such"),
        ({"name": f"{HERE}.Files", "init_args": {"trian": 3}}, r"data.init_args has trian, .*did you mean train\?"),
        ({"name": f"{HERE}.Files", "validation_samples": 40}, "data.validation_samples is 40, but the training split"),
        ({"name": f"{HERE}.Files", "steps_per_epoch": 4}, "data.steps_per_epoch is for iterable data, and the split"),
        ({"name": f"{HERE}.broken"}, "data: broken fails: RuntimeError: no disk"),
        ({"name": f"{HERE}.nothing"}, "the data is NoneType"),
        ({"name": "given"}, "data.name is 'given', but no data was"),
    ],
)
def test_what_a_recipe_cannot_ask_for(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_own(DataConfig(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a.B", "flip": True}, "data.flip is True, which counts for data.name fashion_mnist or"),
        ({"name": "a.B", "crop_padding": 2}, "data.crop_padding is 2, which counts for data.name"),
        ({"name": "a.B", "dir": "x"}, "data.dir is 'x', which counts for data.name"),
        ({"workers": 3}, "data.workers is 3, which counts for data.name given or an import path or pack only"),
        ({"init_args": {"a": 1}}, "data.init_args is {'a': 1}: it must be unset for fashion_mnist"),
        ({"name": "a.B", "workers": -1}, "data.workers is -1: it must be 0 to"),
        ({"name": "a.B", "collate": "mean"}, "data.collate is 'mean': it must be an import path"),
        ({"name": "fashion"}, r"data.name is 'fashion': it must be one of .*did you mean fashion_mnist\?"),
    ],
)
def test_keys_that_do_not_count_are_refused_by_their_names(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DataConfig(**changes)


def test_a_submission_imports_nothing() -> None:
    assert num_train_samples(DataConfig(name="no.such.Module")) is None


def test_splits_to_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    data = open_own(GIVEN, {"train": Rows(8), "val": Rows(3)})
    assert evaluated(data, EvaluateConfig(), tells=True) == ["val"]
    assert "no split test: val is evaluated in its place" in capsys.readouterr().err
    only = open_own(GIVEN, {"train": Rows(8)})
    with pytest.raises(UsageError, match="evaluate.splits has test, which given has not: choose of train, or"):
        evaluated(only, EvaluateConfig(), tells=True)
    assert evaluated(only, EvaluateConfig(every_epochs=0), tells=True) == []


def test_identity_sees_what_has_changed() -> None:
    one, other = ({"train": (numbers(20)[0], numbers(20)[1])} for _ in range(2))
    assert open_own(GIVEN, one).identity == open_own(GIVEN, other).identity
    other["train"][0][7, 2] += 1e-9
    assert open_own(GIVEN, one).identity != open_own(GIVEN, other).identity
    rows, changed = Rows(40), Rows(40)
    assert open_own(GIVEN, {"train": rows}).identity == open_own(GIVEN, {"train": changed}).identity
    changed.inputs[39] += 1
    assert open_own(GIVEN, {"train": rows}).identity != open_own(GIVEN, {"train": changed}).identity
    changed.checksum = rows.checksum = "v1"  # type: ignore[attr-defined]
    assert open_own(GIVEN, {"train": rows}).identity == open_own(GIVEN, {"train": changed}).identity


def test_a_network_for_pictures_says_that_it_needs_them() -> None:
    data = open_own(GIVEN, {"train": Rows(8)})
    with pytest.raises(
        UsageError, match=r"model.name is 'resnet8', which is for pictures .* has inputs of shape \[4\], "
    ):
        make_task(ModelConfig(name="resnet8"), data)
    with pytest.raises(UsageError, match="fully_connected.* no classes that are known .its attribute classes says"):
        make_task(ModelConfig(), data)
    assert make_task(ModelConfig(widths=()), open_own(GIVEN, Files)).new_module(0)(torch.zeros(2, 4)).shape == (2, 3)


def test_a_run_learns_own_data_and_is_gone_on_with(tmp_path: Path) -> None:
    config = RunConfig(
        local_batch_size=8,
        epochs=3,
        progress="none",
        threads=1,
        model=ModelConfig(widths=(16,)),
        data=DataConfig(name=f"{HERE}.Files", workers=0),
        run_dir=str(tmp_path / "whole"),
    )
    whole = run(config)
    losses = load_run(tmp_path / "whole").iterations["loss"].tolist()
    assert len(losses) == 15
    cut = dataclasses.replace(
        config,
        run_dir=str(tmp_path / "cut"),
        max_steps=7,
        checkpoint=dataclasses.replace(config.checkpoint, every_steps=7),
    )
    run(cut)
    again = run(dataclasses.replace(cut, max_steps=None, resume="auto"))
    assert load_run(tmp_path / "cut").iterations["loss"].tolist() == losses
    assert again.metrics == whole.metrics
    given = run(dataclasses.replace(config, run_dir=str(tmp_path / "given")), given=Given(data=Files))
    assert given.metrics == whole.metrics
    assert load_run(tmp_path / "given").config["data"]["name"] == "given"
