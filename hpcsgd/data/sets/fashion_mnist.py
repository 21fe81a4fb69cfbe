"""Fashion-MNIST: articles of clothing, as MNIST."""

from __future__ import annotations

from pathlib import Path

from hpcsgd.data.idx import FILES, read_split
from hpcsgd.data.published import Layout
from hpcsgd.data.sets.files import FileSet

FASHION_MNIST = FileSet(
    name="fashion_mnist",
    num_classes=10,
    sizes=(60000, 10000),
    # torchvision keeps it in the folders raw.
    layouts=(Layout(read_split, ("raw", "FashionMNIST/raw"), FILES[:2], FILES[2:]),),
    addresses=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    # No MD5: the files are zipped differently here and there, and SHA-256 guards their content.
    downloads={
        "train-images-idx3-ubyte.gz": "",
        "train-labels-idx1-ubyte.gz": "",
        "t10k-images-idx3-ubyte.gz": "",
        "t10k-labels-idx1-ubyte.gz": "",
    },
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    debian=("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
)
