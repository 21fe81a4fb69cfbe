"""Published numbers: the tables beside this file, each with its source in its first lines."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

DIRECTORY = Path(__file__).resolve().parent


def read(name: str) -> pd.DataFrame:
    """The table ``name.csv``; lines that begin with # are its source."""
    return pd.read_csv(DIRECTORY / f"{name}.csv", comment="#")
