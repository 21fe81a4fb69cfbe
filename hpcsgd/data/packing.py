"""``hpcsgd data pack``: from folders of images to one file."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcsgd.data.folders import Folders, Sample, find_folders, mixed
from hpcsgd.data.images import CHANNELS, BadImageError, check_pillow, read_all, read_file, read_image
from hpcsgd.data.remarks import name_some, printable, tell, tell_changes
from hpcsgd.errors import UsageError, reason, told_as
from hpcsgd.files import whole
from hpcsgd.record.pack_writer import FRAME_BYTES, PackWriter


def pack(
    source: Path,
    target: Path,
    size: int,
    *,
    encoded: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
) -> str:
    """Pack the images below ``source`` into ``target``, each ``size`` x ``size``; a line on what was packed.

    Training images are written in one fixed random order: reading a stretch of them is reading all classes. What is
    left out or not kept of them goes to stderr.

    Args:
        source: folder of train/CLASS/IMAGE and val/CLASS/IMAGE.
        target: the pack.
        size: height and width.
        encoded: keep the files as they are: they are brought to ``size`` each time they are read.
        overwrite: replace a file that is there.
        skip_bad: leave out files that cannot be read, and name them.

    Raises:
        UsageError: there is nothing to pack, an image cannot be read, a class would have none left, there is no room,
            or ``target`` exists and is not to be replaced.
        DiskError: it cannot be written; nothing is left of it.
    """
    check_pillow()
    if target.is_dir() or (target.exists() and not overwrite):
        raise UsageError(
            f"{printable(target)} exists: give another name{'' if target.is_dir() else ', or --overwrite'}"
        )
    found = find_folders(source)
    tell(found.remarks)
    changes: Counter[str] = Counter()
    bad: list[BadImageError] = []
    with _leaving_on_sigterm(), told_as(target), _folder_of(target):
        room = _count_bytes(found) if encoded else None
        _check_room(target, found, size, room)
        with whole(target) as unfinished:
            counts = _write(unfinished, found, size, changes, bad if skip_bad else None, room)
            skipped = [str(error).removeprefix("cannot read the image ") for error in bad]
            tell([f"skipped files that cannot be read: {name_some(skipped)}"] if bad else [])
            _check_left(source, found, counts)
    tell(tell_changes(changes))
    train, test = (counts[split].total() for split in ("train", "test"))
    count = f", {len(bad)} skipped" if skip_bad else ""
    count += f", {sum(room.values()) / (train + test + len(bad)) / 1e3:.1f} kB an image" if room else ""
    return f"{printable(target)}: {train} training and {test} test images of {len(found.classes)} classes{count}"


def _write(
    unfinished: Path,
    found: Folders,
    size: int,
    changes: Counter[str],
    bad: list[BadImageError] | None,
    room: dict[str, int] | None,
) -> dict[str, Counter[int]]:
    """Write the pack, encoded where ``room`` is given; the samples of each class in each split.

    Bad images are gathered in ``bad``, or raised.
    """
    from tqdm import tqdm

    parts: dict[str, list[Sample]] = {"train": mixed(found.train), "test": found.test}
    sizes = {split: len(samples) for split, samples in parts.items()}
    writer = PackWriter(unfinished, sizes, (size, size, CHANNELS), found.classes, room)
    skip = None if bad is None else bad.append
    counts: dict[str, Counter[int]] = {}
    with tqdm(total=sum(sizes.values()), unit="image", file=sys.stderr) as bar:
        how = size, changes, bar.update, skip
        try:
            for split, samples in parts.items():
                if room is None:
                    labels = writer.write(split, read_all(samples, read_image, *how))
                else:
                    files = read_all(samples, read_file, *how)
                    labels = writer.write_encoded(split, ((*both, label) for both, label in files))
                counts[split] = Counter(labels.tolist())
        except BadImageError as error:
            raise UsageError(f"{error} (--skip_bad leaves such files out)") from error
    if all(counts.values()):
        writer.finish()
    return counts


def _check_left(source: Path, found: Folders, counts: dict[str, Counter[int]]) -> None:
    """Refuse a pack that lost all images of a split, or all training images of a class.

    Raises:
        UsageError: it did.
    """
    lost = [name for label, name in enumerate(found.classes) if not counts["train"][label]]
    if lost:
        raise UsageError(f"{printable(source)}: classes without a training image that can be read: {name_some(lost)}")
    if not counts["test"]:
        raise UsageError(f"{printable(source)}: no test image can be read")


def _count_bytes(found: Folders) -> dict[str, int]:
    """Bytes of the files of each split, at least 1; what cannot be looked at cannot be read either, and has none."""
    counts = {}
    for split, samples in (("train", found.train), ("test", found.test)):
        counts[split] = 1
        for file, _ in samples:
            with suppress(OSError):
                counts[split] += os.path.getsize(file)
    return counts


def _check_room(target: Path, found: Folders, size: int, room: dict[str, int] | None) -> None:
    """Refuse a disk that is too small now, not after hours; ``room`` are the bytes of encoded images.

    Raises:
        UsageError: it is.
    """
    needed = (len(found.train) + len(found.test)) * CHANNELS * size**2 if room is None else sum(room.values())
    needed += FRAME_BYTES
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise UsageError(
            f"{printable(target.parent)} has {free / 1e9:.3g} GB left, and the pack needs {needed / 1e9:.3g}: name "
            f"another place{', or a smaller --size' if room is None else ''}"
        )


@contextmanager
def _folder_of(target: Path) -> Iterator[None]:
    """The folder of a file, made where it is missing, and taken away again if the body fails.

    Raises:
        UsageError: it cannot be made.
    """
    missing = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {printable(target.parent)}: {reason(error)}") from error
    try:
        yield
    except BaseException:
        for folder in missing:
            folder.rmdir()
        raise


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM (the end of a job's time) is an exception: what is half written is taken away."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
