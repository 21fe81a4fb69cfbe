"""Images that can be learned, made from a seed."""

from __future__ import annotations

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import labelled
from hpcsgd.data.sets.base import Loaded
from hpcsgd.data.synthetic import make_synthetic


class Synthetic:
    """``data.name: synthetic``."""

    name = "synthetic"
    origin = "is made on the fly and needs no files"
    is_published = False

    def load(self, config: DataConfig, seed: int) -> Loaded:
        """Make it."""
        sizes = (config.synthetic_train_samples, config.synthetic_test_samples)
        train, test = make_synthetic(config.synthetic_shape, config.synthetic_classes, *sizes, seed)
        return Loaded(labelled(*train), labelled(*test), config.synthetic_classes)

    def num_train_samples(self, config: DataConfig) -> int:
        """As the recipe says."""
        return config.synthetic_train_samples
