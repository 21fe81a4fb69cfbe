"""``hpcsgd data pack``: from folders of images to one file."""

from __future__ import annotations

import sys
from pathlib import Path

from hpcsgd.data.folders import CHANNELS, check_pillow, find_folders, mixed, read_all
from hpcsgd.errors import UsageError, told_as
from hpcsgd.record.pack import PackWriter


def pack(source: Path, target: Path, size: int, *, overwrite: bool = False) -> str:
    """Pack the images below ``source`` into ``target``, each ``size`` x ``size``; a line on what was packed.

    Training images are written in one fixed random order: reading a stretch of them is reading all classes.

    Raises:
        UsageError: there is nothing to pack, an image cannot be read, or ``target`` exists and is not to be replaced.
        DiskError: it cannot be written; nothing is left of it.
    """
    from tqdm import tqdm

    check_pillow()
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists: give another name, or --overwrite")
    found = find_folders(source)
    sizes = {"train": len(found.train), "test": len(found.test)}
    with told_as(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = PackWriter(target, sizes, (size, size, CHANNELS), found.classes)
        try:
            with tqdm(total=sum(sizes.values()), unit="image", file=sys.stderr) as bar:
                writer.write("train", read_all(mixed(found.train), size, bar.update))
                writer.write("test", read_all(found.test, size, bar.update))
            writer.finish()
        except BaseException:
            writer.give_up()
            raise
    return f"{target}: {sizes['train']} training and {sizes['test']} test images of {len(found.classes)} classes"
