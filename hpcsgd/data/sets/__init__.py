"""All data sets by their names: each has a module here, with its facts and its reader."""

from __future__ import annotations

from hpcsgd.data.sets.base import DataSet
from hpcsgd.data.sets.cifar10 import CIFAR10
from hpcsgd.data.sets.cifar100 import CIFAR100
from hpcsgd.data.sets.fashion_mnist import FASHION_MNIST
from hpcsgd.data.sets.files import FileSet
from hpcsgd.data.sets.image_folder import ImageFolder
from hpcsgd.data.sets.mnist import MNIST
from hpcsgd.data.sets.pack import PackedImages
from hpcsgd.data.sets.synthetic import Synthetic
from hpcsgd.data.sets.text import Text
from hpcsgd.errors import UsageError

_ALL: tuple[DataSet, ...] = (
    FASHION_MNIST,
    MNIST,
    CIFAR10,
    CIFAR100,
    Synthetic(),
    Text(),
    ImageFolder(),
    PackedImages(),
)
SETS: dict[str, DataSet] = {known.name: known for known in _ALL}


def find_published(name: str) -> FileSet:
    """The published data set of this name.

    Raises:
        UsageError: there is none; names those that there are.
    """
    found = SETS.get(name)
    if isinstance(found, FileSet):
        return found
    what = f"{name} {found.origin}" if found else f"data set {name!r} is not known"
    published = [known.name for known in SETS.values() if known.is_published]
    raise UsageError(f"{what}: choose one of {', '.join(published)}")
