"""Where data sets are looked for, and what is said when they are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpcsgd.data import places
from hpcsgd.data.places import IDX_FILES, cache_dir, locate, search_dirs
from hpcsgd.errors import UsageError

Write = Callable[[Path, dict[str, bytes]], Path]
EMPTY = dict.fromkeys(IDX_FILES, b"")


@pytest.fixture(autouse=True)
def empty_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory, a cache and a Debian directory without data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HPCSGD_DATA", raising=False)
    monkeypatch.setattr(places, "DEBIAN_DIRS", {"fashion_mnist": tmp_path / "debian"})


def test_order_of_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCSGD_DATA", str(tmp_path / "mine"))
    expected = [
        tmp_path / "mine/fashion_mnist",
        Path("data/fashion_mnist"),
        cache_dir("fashion_mnist"),
        tmp_path / "debian",
    ]
    assert search_dirs("fashion_mnist") == expected
    assert search_dirs("cifar10") == [tmp_path / "mine/cifar10", Path("data/cifar10"), cache_dir("cifar10")]
    assert search_dirs("mnist", "~/x") == [Path.home() / "x"]


def test_cache_follows_xdg_and_else_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir("mnist") == tmp_path / "cache/hpcsgd/data/mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir("mnist") == tmp_path / "home/.cache/hpcsgd/data/mnist"


def test_first_complete_place_wins(tmp_path: Path, write_files: Write) -> None:
    write_files(tmp_path / "debian", {f"{name}.gz": b"" for name in IDX_FILES})
    assert locate("fashion_mnist")[0] == tmp_path / "debian"
    write_files(tmp_path / "data/fashion_mnist", {IDX_FILES[0]: b""})
    assert locate("fashion_mnist")[0] == tmp_path / "debian"
    write_files(tmp_path / "data/fashion_mnist", EMPTY)
    assert locate("fashion_mnist")[0] == Path("data/fashion_mnist")


def test_an_explicit_directory_is_the_only_one(tmp_path: Path, write_files: Write) -> None:
    write_files(tmp_path / "debian", EMPTY)
    with pytest.raises(UsageError, match=r"Searched: .*elsewhere \(no such directory\)\. .*name another data\.dir"):
        locate("fashion_mnist", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("name", "subfolder", "files", "format_found"),
    [
        (
            "cifar10",
            "cifar-10-batches-bin",
            [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"],
            "cifar_binary",
        ),
        ("cifar10", "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], "cifar_python"),
        ("cifar100", "cifar-100-binary", ["train.bin", "test.bin"], "cifar_binary"),
        ("cifar100", "cifar-100-python", ["train", "test"], "cifar_python"),
    ],
)
def test_cifar_in_its_subfolder_or_without(
    tmp_path: Path, write_files: Write, name: str, subfolder: str, files: list[str], format_found: str
) -> None:
    for folder in (tmp_path / "a", tmp_path / "b" / subfolder):
        write_files(folder, dict.fromkeys(files, b""))
    for place, folder in (("a", tmp_path / "a"), ("b", tmp_path / "b" / subfolder)):
        found, layout = locate(name, str(tmp_path / place))
        assert (found, layout.format) == (folder, format_found)
        assert set(layout.files) == set(files)


def test_what_each_place_lacks_is_said(tmp_path: Path, write_files: Write) -> None:
    write_files(tmp_path / "data/mnist", {name: b"" for name in IDX_FILES[:3]})
    (tmp_path / "cache/hpcsgd/data").mkdir(parents=True)
    (tmp_path / "cache/hpcsgd/data/mnist").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        locate("mnist")
    text = str(caught.value)
    assert "data/mnist (lacks t10k-labels-idx1-ubyte)" in text
    assert "cache/hpcsgd/data/mnist (a file, not a directory)" in text
    assert "`hpcsgd data fetch mnist`" in text
    write_files(tmp_path / "few", {IDX_FILES[0]: b""})
    with pytest.raises(UsageError, match=r"few \(lacks train-labels-idx1-ubyte and 2 more\)"):
        locate("mnist", str(tmp_path / "few"))
