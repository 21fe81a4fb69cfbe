"""Images that were packed into one file, and stay on the disk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import ArraySplit, labelled
from hpcsgd.data.places import is_elsewhere, own_place
from hpcsgd.data.sets.base import Loaded
from hpcsgd.errors import UsageError
from hpcsgd.record.encoded import EncodedImages


class PackedImages:
    """``data.name: pack``."""

    name = "pack"
    origin = "is a file that hpcsgd data pack makes; data.stage_dir copies it to each node"
    is_published = False

    def load(self, config: DataConfig, seed: int) -> Loaded:
        """Open it."""
        # HDF5 takes long to import, and help texts come by here.
        from hpcsgd.record.pack import SPLITS, open_checked

        place = own_place(config, "the file of hpcsgd data pack")
        if place.is_dir():
            raise UsageError(
                f"data.dir {config.dir} is a directory: name a file of hpcsgd data pack, or set data.name: image_folder"
            )
        pack = open_checked(place)
        train, test = (_split(pack.images[name], pack.labels[name]) for name in SPLITS)
        stored = train.inputs.shape[2]
        crop = config.image_size or stored
        if crop > stored:
            raise UsageError(
                f"data.image_size is {crop}, but {config.dir} has images of {stored}: choose {stored} or less"
            )
        classes, moments = tuple(pack.classes), (pack.mean, pack.std)
        return Loaded(train, test, len(classes), moments, crop, classes=classes, digest=pack.digest)

    def num_train_samples(self, config: DataConfig) -> int | None:
        """As the file says."""
        if is_elsewhere(config):
            return None
        return len(self.load(config, 0).train)


def _split(images: NDArray[np.uint8] | EncodedImages, labels: NDArray[np.int64]) -> ArraySplit:
    """Images as a data set has them, [N, C, H, W]."""
    if isinstance(images, EncodedImages):
        return ArraySplit(images, labels)
    return labelled(images.transpose(0, 3, 1, 2), labels)
