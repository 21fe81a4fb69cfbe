"""Text as sequences of tokens: any local text, by bytes or by words."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcsgd.config import DataConfig
from hpcsgd.data.contents import by_signature
from hpcsgd.data.places import own_place
from hpcsgd.errors import UsageError

BYTES = 256
UNKNOWN = 0
"""The token of words that are not in the vocabulary."""

TEST_SHARE = 10
"""One of so many sequences, the last ones, is in the test split."""

Tokens = NDArray[np.int64]


def read_text(config: DataConfig) -> tuple[tuple[Tokens, Tokens], tuple[Tokens, Tokens], int]:
    """The training and the test split of a text, and the size of its vocabulary.

    Each split is inputs [N, T] and labels [N, T], int64; a label is the token that follows. Sequences follow each other
    without a gap; the last tenth of them, at least one, is the test split. The vocabulary is of the training split:
    the most frequent words, the first in the alphabet where two are as frequent.

    Raises:
        UsageError: there is no text, or it is too short for two sequences.
    """
    content = _content(config)
    length = config.sequence_length
    words: Sequence[bytes] | bytes = content if config.tokens == "bytes" else content.split()
    count = (len(words) - 1) // length
    if count < 2:
        raise UsageError(
            f"{config.dir} has {len(words)} tokens ({config.tokens}), too few for two sequences of {length}: give a "
            "longer text or a smaller data.sequence_length"
        )
    num_train = count - max(1, count // TEST_SHARE)
    if isinstance(words, bytes):
        tokens, size = np.frombuffer(words, np.uint8).astype(np.int64), BYTES
    else:
        vocabulary = make_vocabulary(words[: num_train * length + 1], config.vocabulary)
        tokens, size = encode(words, vocabulary), len(vocabulary) + 1
    inputs = tokens[: count * length].reshape(count, length)
    labels = tokens[1 : count * length + 1].reshape(count, length)
    return (inputs[:num_train], labels[:num_train]), (inputs[num_train:], labels[num_train:]), size


def make_vocabulary(words: Sequence[bytes], most: int) -> dict[bytes, int]:
    """The tokens, from 1 on, of the ``most`` most frequent words."""
    counts = Counter(words)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:most]
    return {word: number for number, word in enumerate(frequent, start=UNKNOWN + 1)}


def encode(words: Sequence[bytes], vocabulary: dict[bytes, int]) -> Tokens:
    """Words to tokens, int64."""
    return np.array([vocabulary.get(word, UNKNOWN) for word in words], np.int64)


def text_files(config: DataConfig) -> tuple[list[Path], list[Path]]:
    """The text at ``data.dir``: its one file, or all .txt files of a folder by name; and what else the folder holds.

    Raises:
        UsageError: there is none, or some in folders below, whose order would be anyone's guess.
    """
    path = own_place(config, "a text file, or a folder of .txt files")
    if not path.is_dir():
        return [path], []
    inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in inside if entry.is_file() and _is_text(entry)]
    below = [file for entry in inside if entry.is_dir() for file in sorted(entry.rglob("*")) if _is_text(file)]
    if below:
        raise UsageError(f"data.dir {path} has texts in folders below ({below[0].relative_to(path)}): put all in one")
    if not files:
        raise UsageError(f"data.dir {path} holds no .txt file")
    return files, [entry for entry in inside if entry not in files]


def _is_text(file: Path) -> bool:
    """Whether a file is part of the text by its name."""
    return file.suffix.lower() == ".txt"


def _content(config: DataConfig) -> bytes:
    """The whole text. A byte order mark at the start of a file is no part of it."""
    try:
        contents = [file.read_bytes() for file in text_files(config)[0]]
    except OSError as error:
        raise UsageError(f"cannot read the text {error.filename}: {error.strerror}") from error
    content = b"\n".join(part.removeprefix(codecs.BOM_UTF8) for part in contents)
    what = by_signature(content)
    if what is not None:
        raise UsageError(f"data.dir {config.dir} is no text: it is {what}")
    if b"\0" in content:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        hint = "it is UTF-16, convert it to UTF-8" if wide else "there are zero bytes in it"
        raise UsageError(f"data.dir {config.dir} is no text: {hint}")
    return content
