"""What is known for certain about the published data sets: addresses, checksums, sizes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """One published data set.

    Attributes:
        sizes: training and test samples.
        addresses: web folders that hold ``downloads``; tried in order.
        downloads: files to download, each with the MD5 of its bytes ("" where none is needed).
        sha256: of the uncompressed content of files, by name.
        debian_package: Debian package that has the files; "" where there is none.
    """

    sizes: tuple[int, int]
    addresses: tuple[str, ...]
    downloads: dict[str, str]
    sha256: dict[str, str] = field(default_factory=dict)
    debian_package: str = ""


PUBLISHED = {
    "fashion_mnist": Published(
        sizes=(60000, 10000),
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
        debian_package="dataset-fashion-mnist",
    ),
    "mnist": Published(
        sizes=(60000, 10000),
        addresses=("https://ossci-datasets.s3.amazonaws.com/mnist/",),
        downloads={
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "cifar10": Published(
        sizes=(50000, 10000),
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        downloads={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    ),
    "cifar100": Published(
        sizes=(50000, 10000),
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        downloads={"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
    ),
}
