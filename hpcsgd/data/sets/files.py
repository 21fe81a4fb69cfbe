"""A published data set, read from its files."""

from __future__ import annotations

from pathlib import Path

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import ArraySplit, check_labels
from hpcsgd.data.places import existing_file, find, is_elsewhere, locate
from hpcsgd.data.published import Layout, Published
from hpcsgd.data.sets.base import Loaded
from hpcsgd.errors import UsageError


class FileSet(Published):
    """A data set that is one fixed set of files."""

    origin = "is published: hpcsgd data fetch brings it"
    is_published = True

    def load(self, config: DataConfig, seed: int) -> Loaded:
        """Find and read it."""
        folder, layout = locate(self, config.dir)
        train, test = self.read(folder, layout)
        return Loaded(train, test, self.num_classes, remarks=self._compare(folder, layout, train, test))

    def num_train_samples(self, config: DataConfig) -> int:
        """Those of the files, where they are here, else those of the published set."""
        if is_elsewhere(config) or (config.dir is None and find(self) is None):
            return self.sizes[0]
        folder, layout = locate(self, config.dir)
        return len(self._read_split(folder, layout, layout.train))

    def read(self, folder: Path, layout: Layout) -> tuple[ArraySplit, ArraySplit]:
        """Read and check the training and the test split from the files in ``folder``.

        Raises:
            UsageError: a file is truncated, of a wrong format, or contradicts another.
        """
        train, test = (self._read_split(folder, layout, files) for files in (layout.train, layout.test))
        shapes = train.inputs.shape[1:], test.inputs.shape[1:]
        if shapes[0] != shapes[1]:
            raise UsageError(f"{folder}: training images are {shapes[0]}, test images {shapes[1]}")
        return train, test

    def _compare(self, folder: Path, layout: Layout, train: ArraySplit, test: ArraySplit) -> tuple[str, ...]:
        """A remark where there are other samples than the published ones: a user's own in the same format.

        Raises:
            UsageError: one split is whole and the other is short, in files that do not say how many samples they have.
        """
        sizes = len(train), len(test)
        if sizes == self.sizes:
            return ()
        for place, files in enumerate((layout.train, layout.test)):
            other = 1 - place
            if not layout.has_counts and sizes[other] == self.sizes[other] and sizes[place] < self.sizes[place]:
                raise UsageError(
                    f"{existing_file(folder, files[-1])}: this split has {sizes[place]} samples, that of {self.name} "
                    f"{self.sizes[place]}, and the other one is whole: it was cut. Fetch it again; data.train_fraction "
                    "trains on a part"
                )
        own, known = (" + ".join(map(str, pair)) for pair in (sizes, self.sizes))
        return (f"{folder} has {own} samples, not the {known} of the published {self.name}: taken as your own",)

    def _read_split(self, folder: Path, layout: Layout, files: tuple[str, ...]) -> ArraySplit:
        """Read and check one split."""
        paths = [path for file in files if (path := existing_file(folder, file)) is not None]
        assert len(paths) == len(files), "find() finds folders with every file"
        split = layout.read(paths)
        if len(split) == 0:
            raise UsageError(f"{paths[0]} holds no samples")
        check_labels(split.targets, self.num_classes, str(paths[-1]))
        return split
