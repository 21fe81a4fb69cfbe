"""Folders of images, in memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import labelled
from hpcsgd.data.folders import Folders, find_folders
from hpcsgd.data.identity import files_checksum
from hpcsgd.data.images import CHANNELS, check_pillow, read_all, read_image
from hpcsgd.data.places import is_elsewhere, own_place
from hpcsgd.data.remarks import tell_changes
from hpcsgd.data.sets.base import Loaded
from hpcsgd.errors import UsageError

FOLDER_SIZE = 224
MOST_BYTES = 4 << 30
"""Of folders of images in memory."""


class ImageFolder:
    """``data.name: image_folder``."""

    name = "image_folder"
    origin = "is yours: data.dir names the folder of train/CLASS/IMAGE and val/CLASS/IMAGE"
    is_published = False

    def load(self, config: DataConfig, seed: int) -> Loaded:
        """Read all images."""
        found, size = _find(config), config.image_size or FOLDER_SIZE
        check_pillow()
        needed = (len(found.train) + len(found.test)) * CHANNELS * size**2
        if needed > MOST_BYTES:
            raise UsageError(
                f"{config.dir} would take {needed / 1e9:.0f} GB of memory on each rank, at most {MOST_BYTES / 1e9:.0f} "
                "are allowed: pack it (hpcsgd data pack), and set data.name to pack"
            )
        splits = []
        changes: Counter[str] = Counter()
        for samples in (found.train, found.test):
            images = np.stack([image.transpose(2, 0, 1) for image, _ in read_all(samples, read_image, size, changes)])
            splits.append(labelled(images, np.array([label for _, label in samples], np.int64)))
        remarks = (*found.remarks, *tell_changes(changes))
        classes, digest = tuple(found.classes), files_checksum([*found.train, *found.test], Path(str(config.dir)))
        return Loaded(splits[0], splits[1], len(classes), remarks=remarks, classes=classes, digest=digest)

    def num_train_samples(self, config: DataConfig) -> int | None:
        """Files of the training folders."""
        if is_elsewhere(config):
            return None
        return len(_find(config).train)


def _find(config: DataConfig) -> Folders:
    """The files."""
    place = own_place(config, "the folder of train/ and val/")
    if place.is_file():
        raise UsageError(f"data.dir {config.dir} is a file: name the folder of train/ and val/, or set data.name: pack")
    return find_folders(place)
