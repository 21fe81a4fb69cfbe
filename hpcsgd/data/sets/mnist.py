"""MNIST: handwritten digits."""

from __future__ import annotations

from hpcsgd.data.idx import FILES, read_split
from hpcsgd.data.published import Layout
from hpcsgd.data.sets.files import FileSet

MNIST = FileSet(
    name="mnist",
    num_classes=10,
    sizes=(60000, 10000),
    # torchvision keeps it in the folders raw.
    layouts=(Layout(read_split, ("raw", "MNIST/raw"), FILES[:2], FILES[2:]),),
    addresses=("https://ossci-datasets.s3.amazonaws.com/mnist/",),
    downloads={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)
