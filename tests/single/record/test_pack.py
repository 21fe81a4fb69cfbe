"""A pack gives back what was written, is known by its content, and is refused where it is not what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record.encoded import EncodedImages
from hpcsgd.record.pack import open_checked, open_pack
from hpcsgd.record.pack_images import stored
from hpcsgd.record.pack_writer import PackWriter
from tests.single.record.pack_files import (
    CLASSES,
    SIDE,
    contents_of,
    images_of,
    write_encoded_pack,
    write_first_version,
    write_pack,
)


@pytest.mark.parametrize("skipped", [0, 3])
def test_a_pack_holds_what_was_written(tmp_path: Path, skipped: int) -> None:
    pack = open_pack(write_pack(tmp_path / "a.h5", skipped=skipped))
    for split, count in (("train", 9), ("test", 4)):
        images, labels = zip(*images_of(0, count), strict=True)
        assert (pack.images[split] == np.stack(images)).all()
        assert pack.labels[split].tolist() == list(labels)
        assert isinstance(pack.images[split], np.memmap)
    assert pack.classes == CLASSES
    np.testing.assert_allclose(pack.mean, pack.images["train"].mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(pack.std, pack.images["train"].std(axis=(0, 1, 2)))
    assert pack.is_whole()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["train/images"].chunks is None
        assert file["train/images"].shape[0] == file["train/labels"].shape[0] == 9 + skipped
        assert (file["train/labels"][9:] == -1).all()


@pytest.mark.parametrize("skipped", [0, 3])
def test_an_encoded_pack_holds_the_files_that_were_written(tmp_path: Path, skipped: int) -> None:
    pack = open_pack(write_encoded_pack(tmp_path / "a.h5", skipped=skipped))
    for split, count in (("train", 9), ("test", 4)):
        images = pack.images[split]
        assert isinstance(images, EncodedImages) and isinstance(images.content, np.memmap)
        assert [images.read(number) for number in range(len(images))] == contents_of(0, count)
        assert images.shape == (count, 3, SIDE, SIDE)
        last = images[2:][np.array([1, 0])]
        assert [last.read(number) for number in (0, 1)] == [contents_of(0, count)[number] for number in (3, 2)]
        assert last.name(0) == f"{tmp_path}/a.h5: image 3 of {split}"
        assert last.nbytes == sum(map(len, contents_of(0, count)[2:4]))
    decoded = open_pack(write_pack(tmp_path / "b.h5"))
    assert (pack.mean, pack.std, pack.classes) == (decoded.mean, decoded.std, decoded.classes)
    assert pack.is_whole() and pack.digest != decoded.digest


def test_the_digest_of_an_encoded_pack_is_of_its_content(tmp_path: Path) -> None:
    def digest(**changes: int) -> str:
        return open_pack(write_encoded_pack(tmp_path / "a.h5", **changes)).digest

    same = digest()
    assert digest(skipped=2) == same, "what was skipped is no content"
    assert len({same, digest(seed=1), digest(shift=1), digest(files=1)}) == 4
    path = write_encoded_pack(tmp_path / "a.h5")
    content = bytearray(path.read_bytes())
    content[content.index(max(contents_of(0, 9), key=len))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="was altered: its images are not those that were packed"):
        open_checked(path)


def test_files_that_have_grown_are_not_written_over_others(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path / "a.h5", {"train": 1, "test": 1}, (SIDE, SIDE, 3), CLASSES, {"train": 3, "test": 3})
    with pytest.raises(UsageError, match="files of the split train have grown since"):
        writer.write_encoded("train", [(b"four", images_of(0, 1)[0][0], 0)])


def test_many_long_names_of_classes(tmp_path: Path) -> None:
    names = [f"{number:05}{'x' * 200}" for number in range(4100)]
    assert open_pack(write_pack(tmp_path / "a.h5", classes=names)).classes == names


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    def digest(**changes: object) -> str:
        return open_pack(write_pack(tmp_path / "a.h5", **changes)).digest  # type: ignore[arg-type]

    same = digest()
    assert same.startswith("sha256:") and len(same) == 7 + 64
    assert digest() == same
    assert digest(skipped=2) == same, "what was skipped is no content"
    others = {digest(seed=1), digest(shift=1), digest(classes=["ant", "bee", "cow"])}
    assert len(others | {same}) == 4


def test_packs_of_the_first_version_are_told_apart(tmp_path: Path) -> None:
    found = [
        open_pack(write_first_version(tmp_path / f"{seed}{shift}.h5", seed, shift))
        for seed in (0, 1)
        for shift in (0, 1)
    ]
    assert found[0].classes == ["ant", "bee", "cow"]
    assert (found[0].images["train"] == np.stack([image for image, _ in images_of(0, 9)])).all()
    assert len({pack.digest for pack in found}) == 4
    assert all(pack.digest.startswith("parts-sha256:") for pack in found)
    assert not found[0].is_whole(), "not known"
    again = open_pack(write_first_version(tmp_path / "again.h5"))
    assert again.digest == found[0].digest


def test_an_image_that_was_altered_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pack(tmp_path / "a.h5")
    content = bytearray(path.read_bytes())
    content[content.index(images_of(0, 9)[7][0].tobytes())] ^= 1
    path.write_bytes(content)
    assert not open_pack(path).is_whole()
    with pytest.raises(UsageError, match="was altered: its images are not those that were packed"):
        open_checked(path)
    monkeypatch.setattr("hpcsgd.record.pack.CHECKED_BYTES", 12 * SIDE**2 * 3)
    assert len(open_checked(path).images["train"]) == 9, "more bytes than are read again at each start"


def _replace(file: h5py.File, name: str, content: object, **options: object) -> None:
    del file[name]
    file.create_dataset(name, data=content, **options)


IMAGES = np.zeros((9, SIDE, SIDE, 3), np.uint8)
WRONG: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no version": (lambda file: file.attrs.__delitem__("version"), "is no pack of version 2 or 3"),
    "a later version": (lambda file: file.attrs.modify("version", 4), "is no pack of version 2 or 3"),
    "versions": (lambda file: file.attrs.create("version", [2, 2]), "is no pack of version 2 or 3"),
    "a version in words": (lambda file: file.attrs.create("version", "two"), "is no pack of version 2 or 3"),
    "no split": (lambda file: file.__delitem__("test"), "(object|attribute|float)"),
    "no labels": (lambda file: file.__delitem__("train/labels"), "(object|attribute|float)"),
    "no classes": (lambda file: file.__delitem__("classes"), "(object|attribute|float)"),
    "no digest": (lambda file: file.attrs.__delitem__("digest"), "(object|attribute|float)"),
    "no mean": (lambda file: file.attrs.__delitem__("mean"), "(object|attribute|float)"),
    "a mean in words": (lambda file: file.attrs.create("mean", "abc"), "(object|attribute|float)"),
    "a mean of one channel": (lambda file: file.attrs.create("mean", [1.0]), "are not of 3 channels"),
    "a standard deviation of 0": (lambda file: file.attrs.create("std", [1.0, 0, 1]), "are not of 3 channels"),
    "a mean that is no number": (lambda file: file.attrs.create("mean", [1.0, np.nan, 1]), "are not of 3 channels"),
    "another mean": (
        lambda file: file.attrs.create("mean", [1.0, 2, 3]),
        "was altered: its labels, classes or moments",
    ),
    "another label": (lambda file: file["train/labels"].__setitem__(0, 2), "was altered"),
    "another class": (lambda file: file["classes"].__setitem__(0, b"asp"), "was altered"),
    "fewer samples": (lambda file: file["train"].attrs.modify("num_samples", 8), "was altered"),
    "more samples": (lambda file: file["train"].attrs.modify("num_samples", 10), "num_samples is 10, expected 1 to 9"),
    "no samples": (lambda file: file["train"].attrs.modify("num_samples", 0), "num_samples is 0, expected 1 to 9"),
    "a label too high": (lambda file: file["test/labels"].__setitem__(1, 3), "go from 0 to 3, expected 0 to 2"),
    "a label below 0": (lambda file: file["test/labels"].__setitem__(0, -1), "go from -1 to 2, expected 0 to 2"),
    "fewer labels": (
        lambda file: (
            _replace(file, "train/labels", np.zeros(8, np.int64)),
            file["train"].attrs.modify("num_samples", 8),
        ),
        "train has 9 images, but 8 labels",
    ),
    "labels of fractions": (
        lambda file: _replace(file, "train/labels", np.zeros(9)),
        r"float64 \[9\], expected int64 \[N\]",
    ),
    "a group of labels": (
        lambda file: (file.__delitem__("train/labels"), file.create_group("train/labels")),
        "is no dataset",
    ),
    "images of fractions": (lambda file: _replace(file, "train/images", IMAGES / 2), "is float64 .*, expected uint8"),
    "flat images": (
        lambda file: _replace(file, "train/images", IMAGES.reshape(9, -1)),
        r"\[9, 75\], expected uint8 \[N, H, H, C\]",
    ),
    "images that are no squares": (
        lambda file: _replace(file, "train/images", IMAGES[:, 1:]),
        r"\[9, 4, 5, 3\], expected",
    ),
    "other test images": (lambda file: _replace(file, "test/images", IMAGES[:4, 1:, 1:]), "test images"),
    "images in chunks": (
        lambda file: _replace(file, "train/images", IMAGES, chunks=(1, SIDE, SIDE, 3)),
        "is not contiguous",
    ),
    "no images": (
        lambda file: _replace(file, "test/images", np.zeros((4, 0, 0, 3), np.uint8)),
        "/test/images is empty",
    ),
}
WRONG_ENCODED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no bytes": (lambda file: file.__delitem__("test/bytes"), "(object|attribute|float)"),
    "bytes of fractions": (lambda file: _replace(file, "train/bytes", np.zeros(9)), "is float64 .*, expected uint8"),
    "bytes that are cut": (lambda file: _replace(file, "train/bytes", np.zeros(9, np.uint8)), "train/bounds are not"),
    "an image of nothing": (lambda file: _bound(file, 2, 1), "train/bounds are not where images of"),
    "a start that is none": (lambda file: file["train/bounds"].__setitem__(0, 1), "train/bounds are not where"),
    "another bound": (lambda file: _bound(file, 1, 1, by=True), "was altered"),
    "fewer bounds": (lambda file: _replace(file, "train/bounds", np.arange(9)), r"\[9\], expected int64 \[10\]"),
    "no shape": (lambda file: file.attrs.__delitem__("shape"), "(object|attribute|float)"),
    "no square": (lambda file: file.attrs.modify("shape", [5, 4, 3]), r"shape is \[5, 4, 3\], expected H, H, 3"),
    "no colours": (lambda file: file.attrs.modify("shape", [5, 5, 1]), r"shape is \[5, 5, 1\], expected H, H, 3"),
    "another shape": (lambda file: file.attrs.modify("shape", [6, 6, 3]), "was altered"),
    "fewer samples": (lambda file: file["train"].attrs.modify("num_samples", 8), "was altered"),
    "a later version": (lambda file: file.attrs.modify("version", 4), "is no pack of version 2 or 3"),
    "the version before": (lambda file: file.attrs.modify("version", 2), "(object|attribute|float)"),
}


def _bound(file: h5py.File, place: int, before: int, by: bool = False) -> None:
    """Set where an image of the training split begins: to where the one ``before`` does, or ``by`` a byte further."""
    bounds = file["train/bounds"]
    bounds[place] = bounds[place] + 1 if by else bounds[place - before]


@pytest.mark.parametrize(
    ("write", "cases", "case"),
    [(write_pack, WRONG, case) for case in WRONG]
    + [(write_encoded_pack, WRONG_ENCODED, case) for case in WRONG_ENCODED],
)
def test_a_pack_that_is_not_what_it_says_is_refused(
    tmp_path: Path,
    write: Callable[[Path], Path],
    cases: dict[str, tuple[Callable[[h5py.File], object], str]],
    case: str,
) -> None:
    change, message = cases[case]
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UsageError, match=rf"a\.h5.*{message}") as caught:
        open_pack(path)
    assert "\n" not in str(caught.value)


def test_no_pack_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        open_pack(tmp_path / "a.h5")
    with pytest.raises(UsageError, match="it is no file"):
        open_pack(tmp_path)
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file["step/loss"] = np.zeros(3)
    with pytest.raises(UsageError, match="is no pack of version 2 or 3: make one by hpcsgd data pack"):
        open_pack(tmp_path / "log.h5")


@pytest.mark.parametrize("write", [write_pack, write_encoded_pack])
def test_a_damaged_pack_is_refused_or_gives_what_was_written(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    whole, path = write(tmp_path / "a.h5"), tmp_path / "b.h5"
    content, good = whole.read_bytes(), open_pack(whole)
    generator = np.random.default_rng(0)
    for cut in range(0, len(content), 97):
        path.write_bytes(content[:cut])
        with pytest.raises(UsageError):
            open_pack(path)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[generator.integers(len(content))] ^= 1 << generator.integers(8)
        path.write_bytes(damaged)
        try:
            pack = open_pack(path)
        except UsageError:
            continue
        if pack.is_whole():
            assert pack.digest == good.digest
            assert all((stored(pack.images[split]) == stored(good.images[split])).all() for split in good.images)


def test_a_writer_without_room_says_so_before_hdf5_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, f"no room for {len(content)}")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(OSError, match="no room for 6"):
        PackWriter(tmp_path / "a.h5", {"train": 1, "test": 1}, (2, 2, 3), ["a"])


def test_a_pack_may_be_moved(tmp_path: Path) -> None:
    path = write_pack(tmp_path / "a.h5")
    digest = open_pack(path).digest
    shutil.move(path, tmp_path / "b.h5")
    assert open_pack(tmp_path / "b.h5").digest == digest
