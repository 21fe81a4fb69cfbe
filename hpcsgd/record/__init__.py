"""What is kept of a run: the timer, the HDF5 log and its reader, provenance, and frames made of logs.

Importing this package imports neither h5py nor pandas: the reader takes them when it first reads.
"""

from __future__ import annotations

from hpcsgd.record.reader import Run, find_runs, load_run

__all__ = ["Run", "find_runs", "load_run"]
