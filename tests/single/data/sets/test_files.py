"""Published sets that are not as published: a user's own in the same format, or one that was cut."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.remarks import tell
from hpcsgd.data.sets import SETS, find_published
from hpcsgd.errors import UsageError

RECORD = bytes([4, 99]) + bytes(3072)


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """A CIFAR-100 whose published size is 5 + 3 samples, and where it lies."""
    monkeypatch.setitem(SETS, "cifar100", dataclasses.replace(find_published("cifar100"), sizes=(5, 3)))
    return DataConfig(name="cifar100", dir=str(tmp_path))


def write(config: DataConfig, num_train: int, num_test: int) -> None:
    assert config.dir is not None
    (Path(config.dir) / "train.bin").write_bytes(RECORD * num_train)
    (Path(config.dir) / "test.bin").write_bytes(RECORD * num_test)


@pytest.mark.parametrize(("sizes", "file"), [((4, 3), "train.bin"), ((1, 3), "train.bin"), ((5, 2), "test.bin")])
def test_one_that_was_cut_between_two_samples_is_refused(
    cifar100: DataConfig, sizes: tuple[int, int], file: str
) -> None:
    write(cifar100, *sizes)
    have, whole = (sizes[0], 5) if file == "train.bin" else (sizes[1], 3)
    said = f"{file}: this split has {have} samples, that of cifar100 {whole}, and the other one is whole: it was cut"
    with pytest.raises(UsageError, match=said):
        load_dataset(cifar100)


@pytest.mark.parametrize("sizes", [(5, 3), (4, 2), (6, 3), (2, 2)])
def test_other_sizes_are_a_users_own_and_told(
    cifar100: DataConfig, sizes: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    write(cifar100, *sizes)
    dataset = load_dataset(cifar100)
    tell(dataset.remarks)
    note = (
        f"hpcsgd: {cifar100.dir} has {sizes[0]} + {sizes[1]} samples, not the 5 + 3 of the published cifar100: "
        "taken as your own\n"
    )
    assert capsys.readouterr().err == ("" if sizes == (5, 3) else note)
    assert (len(dataset.train.targets), len(dataset.test.targets)) == sizes
