"""The data set of a job: every rank reads it on its own, and all have read the same."""

from __future__ import annotations

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import Dataset, load_dataset
from hpcsgd.data.identity import check_equal_data
from hpcsgd.data.remarks import tell


def load_together(config: DataConfig, comm: Communicator, node: str) -> Dataset:
    """Read the data set on all ranks; rank 0 says what of it was left out. Collective.

    Args:
        config: the recipe's section.
        comm: all ranks.
        node: this rank's, for the message.

    Raises:
        UsageError: on all ranks alike: one of them cannot read it, or they have read different data.
    """
    dataset = agree(comm, lambda: load_dataset(config))
    check_equal_data(comm, dataset.identity, node)
    if comm.rank == 0:
        tell(dataset.remarks)
    return dataset
