"""What a data set is in a few values: the same wherever equal data lies, another where anything is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.comm.communicator import SingleCommunicator, T
from hpcsgd.config import DataConfig
from hpcsgd.data import identity
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.identity import (
    check_equal_data,
    check_same_data,
    checksum,
    differences,
    files_checksum,
    known_classes,
)
from hpcsgd.errors import UsageError

SOUND = {"samples": {"train": 105, "test": 12}, "classes": ["ant", "bee"], "checksum": 7}


def test_equal_values_have_one_checksum_however_they_lie_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(60, dtype="<i8").reshape(6, 10)
    expected = checksum([values])
    assert expected == checksum([values.astype(">i8")]) == checksum([np.asfortranarray(values)])
    assert (
        expected == checksum([np.concatenate([values, values], axis=1)[:, :10]]) == checksum([values[:2], values[2:]])
    )
    monkeypatch.setattr(identity, "_BYTES", 100)
    assert checksum([values]) == expected
    assert checksum([values + (values == 59)]) != expected != checksum([values[::-1]])


def test_what_is_drawn_may_differ_in_its_last_bits_between_machines() -> None:
    labels, drawn = np.arange(4), np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
    assert checksum([drawn, labels]) == checksum([np.nextafter(drawn, 2), labels])


def test_files_are_told_by_name_label_and_content(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
    samples = [(tmp_path / "a", 0), (tmp_path / "b", 1)]
    expected = files_checksum(samples, tmp_path)
    assert expected != files_checksum([(tmp_path / "a", 1), (tmp_path / "b", 1)], tmp_path)
    assert expected != files_checksum(samples[::-1], tmp_path)
    (tmp_path / "b").write_bytes(b"3")
    assert expected != files_checksum(samples, tmp_path)
    with pytest.raises(UsageError, match="cannot read .*c: No such file"):
        files_checksum([(tmp_path / "c", 0)], tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"samples": {"train": 52, "test": 12}}, "train has 52 samples, not 105"),
        ({"samples": {"train": 105, "val": 3, "test": 12}}, "val has 3 samples, not 0"),
        ({"classes": ["bee", "cat"]}, "train has the new class 'cat' and lacks the class 'ant'"),
        ({"classes": ["bee", "ant"]}, "the classes come in another order"),
        ({"classes": ["ant", "bee", "c", "d", "e", "f"]}, "train has the new classes 'c', 'd', 'e', ..."),
        ({"classes": 10}, "there are 10 classes, not 2"),
        ({"checksum": 8}, "the content is another of the same size (by its checksum)"),
    ],
)
def test_what_differs_is_said(changed: dict[str, Any], said: str) -> None:
    assert differences(SOUND, SOUND | changed) == said
    check_same_data(None, SOUND, "runs/x")  # of an older version
    if said:
        with pytest.raises(UsageError, match="^runs/x was made with other data than this: here, "):
            check_same_data(SOUND, SOUND | changed, "runs/x")


@pytest.mark.parametrize("damaged", [5, {}, {"samples": 3}])
def test_a_damaged_note_of_the_data_is_no_traceback(damaged: object) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        check_same_data(damaged, SOUND, "runs/x")


def test_very_many_names_stay_small() -> None:
    assert known_classes(["ant", "bee"], 2) == ["ant", "bee"] and known_classes([], 10) == 10
    many = [f"class number {number}" for number in range(20_000)]
    assert len(str(known_classes(many, len(many)))) < 100
    assert known_classes(many, len(many)) != known_classes(many[::-1], len(many))


class TwoRanks(SingleCommunicator):
    """The other rank, on another node, has read ``other``."""

    def __init__(self, other: dict[str, Any]) -> None:
        super().__init__()
        self.other = other

    def allgather_object(self, value: T) -> list[T]:
        return [value, (self.other, "node-b")]  # type: ignore[list-item]


def test_ranks_that_read_other_data_are_named_with_their_nodes() -> None:
    check_equal_data(TwoRanks(SOUND), SOUND, "node-a")
    other = SOUND | {"samples": {"train": 52, "test": 12}}
    with pytest.raises(
        UsageError, match=r"rank 1 \(on node-b\) read other data than rank 0 \(on node-a\): train has 52 .* not 105"
    ):
        check_equal_data(TwoRanks(other), SOUND, "node-a")


def test_a_text_that_changes_in_its_last_token_is_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcdefghij" * 4 + b"x")
    (tmp_path / "b").write_bytes(b"abcdefghij" * 4 + b"y")
    found = [
        load_dataset(DataConfig(name="text", dir=str(tmp_path / name), sequence_length=10)).identity for name in "aab"
    ]
    assert found[0] == found[1] and found[0]["samples"] == {"train": 3, "test": 1}
    assert differences(found[0], found[2]).startswith("the content is another")


def test_the_size_of_what_is_drawn_counts() -> None:
    small = load_dataset(DataConfig(name="synthetic", synthetic_train_samples=20)).identity
    held = load_dataset(DataConfig(name="synthetic", synthetic_train_samples=20, validation_samples=5)).identity
    assert small["samples"] == {"train": 20, "test": 1024} and held["samples"] == {"train": 15, "val": 5, "test": 1024}
    assert small["classes"] == 10
