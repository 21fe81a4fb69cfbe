"""A text of the user's own: a file, or a folder of files."""

from __future__ import annotations

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import labelled
from hpcsgd.data.places import is_elsewhere
from hpcsgd.data.remarks import name_some
from hpcsgd.data.sets.base import Loaded
from hpcsgd.data.text import read_text, text_files


class Text:
    """``data.name: text``."""

    name = "text"
    origin = "is yours: data.dir names a file, or a folder of .txt files"
    is_published = False

    def load(self, config: DataConfig, seed: int) -> Loaded:
        """Read it."""
        train, test, size = read_text(config)
        _, left_out = text_files(config)
        names = name_some([file.name for file in left_out])
        remarks = (f"{config.dir}: left out, as they are no .txt files: {names}",) if left_out else ()
        return Loaded(labelled(*train), labelled(*test), size, moments=((), ()), remarks=remarks)

    def num_train_samples(self, config: DataConfig) -> int | None:
        """Sequences of the text, which is read."""
        if is_elsewhere(config):
            return None
        return len(self.load(config, 0).train)
