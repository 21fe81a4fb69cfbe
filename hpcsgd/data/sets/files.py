"""A published data set, read from its files."""

from __future__ import annotations

from pathlib import Path

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import ArraySplit, check_labels
from hpcsgd.data.places import existing_file, find, locate
from hpcsgd.data.published import Layout, Published
from hpcsgd.data.sets.base import Loaded
from hpcsgd.errors import UsageError


class FileSet(Published):
    """A data set that is one fixed set of files."""

    origin = "is published: hpcsgd data fetch brings it"
    is_published = True

    def load(self, config: DataConfig, seed: int) -> Loaded:
        """Find and read it."""
        train, test = self.read(*locate(self, config.dir))
        return Loaded(train, test, self.num_classes)

    def num_train_samples(self, config: DataConfig) -> int:
        """Those of the files, where they are here, else those of the published set."""
        found = find(self, config.dir)
        if found is None:
            return self.sizes[0]
        folder, layout = found
        return len(self._read_split(folder, layout, layout.train).labels)

    def read(self, folder: Path, layout: Layout) -> tuple[ArraySplit, ArraySplit]:
        """Read and check the training and the test split from the files in ``folder``.

        Raises:
            UsageError: a file is truncated, of a wrong format, or contradicts another.
        """
        train, test = (self._read_split(folder, layout, files) for files in (layout.train, layout.test))
        shapes = train.images.shape[1:], test.images.shape[1:]
        if shapes[0] != shapes[1]:
            raise UsageError(f"{folder}: training images are {shapes[0]}, test images {shapes[1]}")
        return train, test

    def _read_split(self, folder: Path, layout: Layout, files: tuple[str, ...]) -> ArraySplit:
        """Read and check one split."""
        paths = [path for file in files if (path := existing_file(folder, file)) is not None]
        assert len(paths) == len(files), "find() finds folders with every file"
        split = layout.read(paths)
        if len(split.labels) == 0:
            raise UsageError(f"{paths[0]} holds no samples")
        check_labels(split.labels, self.num_classes, str(paths[-1]))
        return split
