"""The data set of a job: every rank reads it on its own, and all have read the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import Dataset, load_dataset
from hpcsgd.data.identity import check_equal_data
from hpcsgd.data.remarks import tell

if TYPE_CHECKING:
    from hpcsgd.data.own.data import OwnData

D = TypeVar("D", "Dataset", "OwnData")


def load_together(config: DataConfig, comm: Communicator, node: str) -> Dataset:
    """Read one of the package's data sets on all ranks; rank 0 says what of it was left out. Collective.

    Args:
        config: the recipe's section.
        comm: all ranks.
        node: this rank's, for the message.

    Raises:
        UsageError: on all ranks alike: one of them cannot read it, or they have read different data.
    """
    return _checked(agree(comm, lambda: load_dataset(config)), comm, node)


def open_together(config: DataConfig, comm: Communicator, node: str, given: Any = None) -> Dataset | OwnData:
    """The same, also of a user's own data. Collective.

    Args:
        config, comm, node: as of :func:`load_together`.
        given: what a program brings with it, in the place of what the recipe names.

    Raises:
        UsageError: see :func:`load_together`.
    """
    if not config.is_own:
        return load_together(config, comm, node)
    # Not above: help texts and submissions come by this package without torch.
    from hpcsgd.data.own.data import open_own

    return _checked(agree(comm, lambda: open_own(config, given)), comm, node)


def _checked(data: D, comm: Communicator, node: str) -> D:
    """Data of which all ranks have read the same."""
    check_equal_data(comm, data.identity, node)
    if comm.rank == 0:
        tell(data.remarks)
    return data
