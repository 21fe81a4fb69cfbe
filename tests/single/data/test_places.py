"""Where data sets are looked for, and what is said when they are not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcsgd.data.cifar import read_binary, read_python
from hpcsgd.data.idx import FILES
from hpcsgd.data.places import cache_dir, existing_file, locate, search_dirs
from hpcsgd.data.published import Published
from hpcsgd.data.sets import find_published
from hpcsgd.data.sets.cifar10 import CIFAR10
from hpcsgd.data.sets.fashion_mnist import FASHION_MNIST
from hpcsgd.data.sets.mnist import MNIST
from hpcsgd.errors import UsageError

Write = Callable[[Path, dict[str, bytes]], Path]
EMPTY = dict.fromkeys(FILES, b"")


@pytest.fixture(autouse=True)
def empty_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory, a cache and a Debian directory without data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HPCSGD_DATA", raising=False)


@pytest.fixture
def fashion_mnist(tmp_path: Path) -> Published:
    """Fashion-MNIST, with a Debian package that puts it elsewhere."""
    return dataclasses.replace(FASHION_MNIST, debian=("package", tmp_path / "debian"))


def test_order_of_the_search(tmp_path: Path, fashion_mnist: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HPCSGD_DATA", str(tmp_path / "mine"))
    expected = [
        tmp_path / "mine/fashion_mnist",
        Path("data/fashion_mnist"),
        cache_dir("fashion_mnist"),
        tmp_path / "debian",
    ]
    assert search_dirs(fashion_mnist) == expected
    assert search_dirs(CIFAR10) == [tmp_path / "mine/cifar10", Path("data/cifar10"), cache_dir("cifar10")]
    assert search_dirs(MNIST, "~/x") == [Path.home() / "x"]


def test_cache_follows_xdg_and_else_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir("mnist") == tmp_path / "cache/hpcsgd/data/mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir("mnist") == tmp_path / "home/.cache/hpcsgd/data/mnist"


def test_first_complete_place_wins(tmp_path: Path, fashion_mnist: Published, write_files: Write) -> None:
    write_files(tmp_path / "debian", {f"{name}.gz": b"" for name in FILES})
    assert locate(fashion_mnist)[0] == tmp_path / "debian"
    write_files(tmp_path / "data/fashion_mnist", {FILES[0]: b""})
    assert locate(fashion_mnist)[0] == tmp_path / "debian"
    write_files(tmp_path / "data/fashion_mnist", EMPTY)
    assert locate(fashion_mnist)[0] == Path("data/fashion_mnist")


def test_an_explicit_directory_is_the_only_one(tmp_path: Path, fashion_mnist: Published, write_files: Write) -> None:
    write_files(tmp_path / "debian", EMPTY)
    with pytest.raises(UsageError, match=r"Searched: .*elsewhere \(no such directory\)\. .*name another data\.dir"):
        locate(fashion_mnist, str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("name", "subfolder", "files", "reader"),
    [
        (
            "cifar10",
            "cifar-10-batches-bin",
            [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"],
            read_binary,
        ),
        ("cifar10", "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], read_python),
        ("cifar100", "cifar-100-binary", ["train.bin", "test.bin"], read_binary),
        ("cifar100", "cifar-100-python", ["train", "test"], read_python),
    ],
)
def test_cifar_in_its_subfolder_or_without(
    tmp_path: Path, write_files: Write, name: str, subfolder: str, files: list[str], reader: object
) -> None:
    for folder in (tmp_path / "a", tmp_path / "b" / subfolder):
        write_files(folder, dict.fromkeys(files, b""))
    for place, folder in (("a", tmp_path / "a"), ("b", tmp_path / "b" / subfolder)):
        found, layout = locate(find_published(name), str(tmp_path / place))
        assert (found, layout.read.keywords["read"].func) == (folder, reader)
        assert set(layout.files) == set(files)


def test_what_each_place_lacks_is_said(tmp_path: Path, write_files: Write) -> None:
    write_files(tmp_path / "data/mnist", {name: b"" for name in FILES[:3]})
    (tmp_path / "cache/hpcsgd/data").mkdir(parents=True)
    (tmp_path / "cache/hpcsgd/data/mnist").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        locate(MNIST)
    text = str(caught.value)
    assert "data/mnist (lacks t10k-labels-idx1-ubyte)" in text
    assert "cache/hpcsgd/data/mnist (a file, not a directory)" in text
    assert "`hpcsgd data fetch mnist`" in text
    write_files(tmp_path / "few", {FILES[0]: b""})
    with pytest.raises(UsageError, match=r"few \(lacks train-labels-idx1-ubyte and 2 more\)"):
        locate(MNIST, str(tmp_path / "few"))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", [".", "raw", "MNIST/raw"])
def test_mnist_as_others_name_and_keep_it(tmp_path: Path, write_files: Write, folder: str, suffix: str) -> None:
    names = [name.replace("-idx", ".idx") + suffix for name in FILES]
    write_files(tmp_path / "root" / folder, dict.fromkeys(names, b""))
    found, layout = locate(MNIST, str(tmp_path / "root"))
    assert found == tmp_path / "root" / folder
    assert [path.name for file in layout.files if (path := existing_file(found, file))] == names


def test_a_torchvision_root_has_a_folder_for_each_set(tmp_path: Path, write_files: Write) -> None:
    for folder in ("MNIST/raw", "FashionMNIST/raw"):
        write_files(tmp_path / folder, EMPTY)
    assert locate(MNIST, str(tmp_path))[0] == tmp_path / "MNIST/raw"
    assert locate(FASHION_MNIST, str(tmp_path))[0] == tmp_path / "FashionMNIST/raw"


def test_an_archive_is_to_be_unpacked(tmp_path: Path, write_files: Write) -> None:
    write_files(tmp_path / "a", {"cifar-10-python.tar.gz": b""})
    with pytest.raises(UsageError, match=r"and 5 more; it has cifar-10-python\.tar\.gz: unpack it there\)"):
        locate(CIFAR10, str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nowhere", "HPCSGD_DATA is nowhere, which is no directory: name one with a folder for each data set"),
        ("$UNKNOWN_ROOT/data", "HPCSGD_DATA is '\\$UNKNOWN_ROOT/data': UNKNOWN_ROOT is not set"),
    ],
)
def test_a_variable_that_points_nowhere_is_refused(value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCSGD_DATA", value)
    with pytest.raises(UsageError, match=said):
        locate(MNIST)
