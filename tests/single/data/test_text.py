"""Texts: tokens, vocabularies, sequences and splits; what is no text."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import numpy as np
import pytest

from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.text import encode, make_vocabulary
from hpcsgd.errors import UsageError


def text(place: Path, **changes: object) -> DataConfig:
    return DataConfig(name="text", dir=str(place), **{"sequence_length": 4, **changes})  # type: ignore[arg-type]


def test_bytes_come_back(tmp_path: Path) -> None:
    content = "Grüße an alle, die hier lesen und schreiben.\n".encode() * 3
    (tmp_path / "a.txt").write_bytes(content)
    data = load_dataset(text(tmp_path / "a.txt"))
    sequences = (len(content) - 1) // 4
    assert (len(data.train.targets), len(data.test.targets)) == (sequences - sequences // 10, sequences // 10)
    assert (data.shape, data.num_classes) == ((4,), 256)
    inputs = np.concatenate([data.train.inputs, data.test.inputs]).ravel()
    labels = np.concatenate([data.train.targets, data.test.targets]).ravel()
    assert inputs.astype(np.uint8).tobytes() == content[: 4 * sequences]
    assert labels.astype(np.uint8).tobytes() == content[1 : 4 * sequences + 1]


def test_the_most_frequent_words_of_the_training_split_are_known(tmp_path: Path) -> None:
    words = ["b a b c a b d"] * 6 + ["z"] * 9
    (tmp_path / "a.txt").write_text(" ".join(words))
    data = load_dataset(text(tmp_path / "a.txt", tokens="whitespace", vocabulary=2))
    assert data.num_classes == 3
    # b is 1, a is 2, all else 0; z is not in the training split at all.
    assert data.train.inputs[:2].tolist() == [[1, 2, 1, 0], [2, 1, 0, 1]]
    assert data.test.inputs.max() == 0
    assert make_vocabulary([b"y", b"x", b"x", b"y"], 5) == {b"x": 1, b"y": 2}
    assert encode([b"x", b"?"], {b"x": 1}).tolist() == [1, 0]


def test_a_folder_is_read_by_name_and_samples_are_held_out(tmp_path: Path) -> None:
    (tmp_path / "2.txt").write_text("b" * 40)
    (tmp_path / "1.txt").write_text("a" * 40)
    (tmp_path / "note.md").write_text("no part of it")
    data = load_dataset(text(tmp_path, validation_samples=3))
    assert data.val is not None
    assert [len(split) for split in (data.train, data.val, data.test)] == [15, 3, 2]
    assert bytes(data.train.inputs[0].astype(np.uint8)) == b"aaaa"
    assert bytes(data.test.inputs[-1].astype(np.uint8)) == b"bbbb"
    assert data.remarks == (f"{tmp_path}: left out, as they are no .txt files: 1 (note.md)",)


def test_a_folder_may_have_large_endings_and_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "1.TXT").write_text("a" * 40)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.txt").write_text("no part of it")
    data = load_dataset(text(tmp_path))
    assert (len(data.train.targets) + len(data.test.targets), data.remarks) == (9, ())


def test_texts_in_folders_below_are_not_left_out_in_silence(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("a" * 40)
    (tmp_path / "part" / "two").mkdir(parents=True)
    (tmp_path / "part" / "two" / "2.txt").write_text("b" * 40)
    with pytest.raises(UsageError, match=r"has texts in folders below \(part/two/2\.txt\): put all in one"):
        load_dataset(text(tmp_path))


@pytest.mark.parametrize("tokens", ["bytes", "whitespace"])
def test_byte_order_marks_are_no_part_of_a_text(tmp_path: Path, tokens: str) -> None:
    for name, mark in (("plain", b""), ("marked", codecs.BOM_UTF8)):
        (tmp_path / name).mkdir()
        for part in ("1.txt", "2.txt"):
            (tmp_path / name / part).write_bytes(mark + b"the words of the text " * 9)
    plain, marked = (load_dataset(text(tmp_path / name, tokens=tokens)) for name in ("plain", "marked"))
    assert marked.train.inputs.tobytes() == plain.train.inputs.tobytes()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252"])
def test_words_are_told_apart_in_any_encoding_and_with_any_line_ends(tmp_path: Path, encoding: str) -> None:
    for name, end in (("a", "\n"), ("b", "\r\n")):
        (tmp_path / name).write_bytes(f"größe über Straße{end}".encode(encoding) * 9)
    first, second = (load_dataset(text(tmp_path / name, tokens="whitespace")) for name in ("a", "b"))
    assert first.num_classes == second.num_classes == 4
    assert first.train.inputs.tobytes() == second.train.inputs.tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot read the text .*: No such file"),
        (lambda path: path.mkdir(), "holds no .txt file"),
        (lambda path: path.write_bytes(b"a\0b" * 20), "is no text: there are zero bytes in it"),
        (lambda path: path.write_bytes("ab".encode("utf-16") * 20), "is no text: it is UTF-16, convert it to UTF-8"),
        (lambda path: path.write_bytes(gzip.compress(b"a" * 99)), "is no text: it is a gzip file"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n" * 9), "it is a Git LFS pointer"),
        (lambda path: path.write_text(""), r"has 0 tokens \(bytes\), too few"),
        (lambda path: path.write_text("too few"), r"has 7 tokens \(bytes\), too few for two sequences of 4"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "x")
    with pytest.raises(UsageError, match=message):
        load_dataset(text(tmp_path / "x"))


def test_a_place_must_be_given() -> None:
    with pytest.raises(UsageError, match="no data.dir is given: name a text file"):
        load_dataset(DataConfig(name="text"))
