"""Fetching: verified, all or nothing, and never over somebody's other files."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hpcsgd.data import fetch as fetch_module
from hpcsgd.data.fetch import fetch, verify
from hpcsgd.data.sets import SETS, find_published
from hpcsgd.data.sets.files import FileSet
from hpcsgd.errors import UsageError

Files = dict[str, bytes]
Write = Callable[[Path, Files], Path]
Web = Callable[[Files], Callable[[str], AbstractContextManager[Any]]]


def no_web(url: str) -> AbstractContextManager[Any]:
    raise OSError("no web here")


@pytest.fixture(autouse=True)
def small_fashion_mnist(idx_files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the published Fashion-MNIST be the small one, and this machine have no Debian package of it."""
    small = dataclasses.replace(
        find_published("fashion_mnist"),
        sizes=(60, 20),
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in idx_files.items()},
        addresses=("http://x/",),
        debian=("dataset-fashion-mnist", tmp_path / "debian"),
    )
    monkeypatch.setitem(SETS, "fashion_mnist", small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def no_apt(package: str, folder: Path) -> None:
        raise UsageError("no apt here")

    monkeypatch.setattr(fetch_module, "from_debian_archive", no_apt)


def contents(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def zip_all(files: Files) -> Files:
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


def test_from_a_directory_unzipped(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    source = write_files(tmp_path / "source", zip_all(idx_files))
    target = fetch("fashion_mnist", tmp_path / "new" / "target", str(source))
    assert target == tmp_path / "new" / "target"
    assert contents(target) == idx_files
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_the_cache_is_the_default_target(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    target = fetch("fashion_mnist", source=str(write_files(tmp_path / "source", idx_files)))
    assert target == tmp_path / "cache/hpcsgd/data/fashion_mnist"
    assert contents(target) == idx_files


def test_a_verified_target_is_left_alone(
    tmp_path: Path, idx_files: Files, write_files: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_files(tmp_path / "target", zip_all(idx_files) | {"notes": b"mine"})
    assert fetch("fashion_mnist", target, "web", opener=no_web) == target
    assert capsys.readouterr().err == f"fashion_mnist: complete and verified in {target}\n"
    assert contents(target) == zip_all(idx_files) | {"notes": b"mine"}


def test_a_damaged_target_is_replaced(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    name = "train-images-idx3-ubyte"
    damaged = idx_files | {name: idx_files[name][:-1] + b"?"}
    target = write_files(tmp_path / "target", damaged)
    with pytest.raises(UsageError, match=f"{name}: the SHA-256 of its content is .*, expected"):
        verify(find_published("fashion_mnist"), target)
    with pytest.raises(UsageError, match="could not be fetched. web: http://x/train-images-idx3-ubyte.gz: no web here"):
        fetch("fashion_mnist", target, "web", opener=no_web)
    assert contents(target) == damaged
    fetch("fashion_mnist", target, str(write_files(tmp_path / "source", idx_files)))
    assert contents(target) == idx_files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_other_files_are_never_replaced(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    source = str(write_files(tmp_path / "source", idx_files))
    target = write_files(tmp_path / "target", {"thesis.tex": b"mine", "train-images-idx3-ubyte": b""})
    with pytest.raises(UsageError, match=r"holds other files \(thesis\.tex\): name an empty or a new directory"):
        fetch("fashion_mnist", target, source)
    assert contents(target) == {"thesis.tex": b"mine", "train-images-idx3-ubyte": b""}
    with pytest.raises(UsageError, match="is a file: name a directory"):
        fetch("fashion_mnist", target / "thesis.tex", source)
    with pytest.raises(UsageError, match="below cannot be written: .*thesis.tex"):
        fetch("fashion_mnist", target / "thesis.tex" / "below", source)


def test_auto_names_every_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        fetch("fashion_mnist", tmp_path / "target", opener=no_web)
    assert str(caught.value) == (
        "data set fashion_mnist could not be fetched. "
        f"package dataset-fashion-mnist: {tmp_path / 'debian'} no such directory; "
        "apt-get download dataset-fashion-mnist: no apt here; "
        "web: http://x/train-images-idx3-ubyte.gz: no web here"
    )
    assert list(tmp_path.iterdir()) == []


def test_auto_takes_the_installed_package_first(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    write_files(tmp_path / "debian", zip_all(idx_files))
    assert contents(fetch("fashion_mnist", tmp_path / "target", opener=no_web)) == idx_files


def test_auto_goes_on_where_a_source_is_not_the_real_data(
    tmp_path: Path, idx_files: Files, write_files: Write, fake_web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "debian", idx_files | {"t10k-labels-idx1-ubyte": idx_files["train-labels-idx1-ubyte"]})
    pages = {f"http://x/{name}": content for name, content in zip_all(idx_files).items()}
    assert contents(fetch("fashion_mnist", tmp_path / "target", opener=fake_web(pages))) == idx_files
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "trying" in line] == [
        "fashion_mnist: trying package dataset-fashion-mnist",
        "fashion_mnist: trying apt-get download dataset-fashion-mnist",
        "fashion_mnist: trying web",
    ]
    assert lines[-1] == f"fashion_mnist: 60 + 20 samples verified in {tmp_path / 'target'}"


def test_debian_archive(tmp_path: Path, idx_files: Files, write_files: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(package: str, folder: Path) -> None:
        assert package == "dataset-fashion-mnist"
        write_files(folder / (tmp_path / "debian").relative_to("/"), zip_all(idx_files))

    monkeypatch.setattr(fetch_module, "from_debian_archive", unpacked)
    assert contents(fetch("fashion_mnist", tmp_path / "target", "debian")) == idx_files


def test_mnist_of_the_wrong_size(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    source = write_files(tmp_path / "source", idx_files)
    with pytest.raises(UsageError, match=r"has \(60, 20\) training and test samples, expected \(60000, 10000\)"):
        fetch("mnist", tmp_path / "target", str(source))
    assert not (tmp_path / "target").exists()


def test_cifar_from_an_archive_on_the_web(
    tmp_path: Path,
    cifar10_files: Files,
    fake_web: Web,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in (cifar10_files | {"readme.html": b"text"}).items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = stream.getvalue()
    small = dataclasses.replace(
        find_published("cifar10"), sizes=(20, 4), downloads={"cifar-10-binary.tar.gz": hashlib.md5(archive).hexdigest()}
    )
    monkeypatch.setitem(SETS, "cifar10", small)
    opener = fake_web({"https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz": archive})
    assert contents(fetch("cifar10", tmp_path / "target", opener=opener)) == cifar10_files
    capsys.readouterr()
    fetch("cifar10", tmp_path / "target", opener=no_web)
    assert "complete and of the right formats and sizes (no checksums are known) in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("fashon_mnist", "auto", "'fashon_mnist' is not known: choose one of fashion_mnist, mnist, cifar10, cifar100"),
        ("synthetic", "auto", "synthetic is made on the fly and needs no files"),
        ("cifar10", "debian", "Debian has no package of cifar10: choose web, or a directory"),
        ("mnist", "debain", "source 'debain' is not a directory, and not one of auto, debian, web"),
    ],
)
def test_wrong_words(tmp_path: Path, name: str, source: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fetch(name, tmp_path / "target", source)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_lacks_files(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    del idx_files["train-labels-idx1-ubyte"]
    source = write_files(tmp_path / "source", idx_files)
    with pytest.raises(UsageError, match="source lacks train-labels-idx1-ubyte"):
        fetch("fashion_mnist", tmp_path / "target", str(source))


def test_another_process_may_fetch_the_same_meanwhile(
    tmp_path: Path, idx_files: Files, write_files: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, source = tmp_path / "target", write_files(tmp_path / "source", idx_files)

    def verify_while_another_installs(wanted: FileSet, place: Path) -> None:
        verify(wanted, place)
        write_files(target, zip_all(idx_files))

    monkeypatch.setattr(fetch_module, "verify", verify_while_another_installs)
    original = Path.rename

    def rename(path: Path, to: Path) -> Path:
        if path == target:
            # The other process came back between our two renames.
            original(path, to)
            return write_files(target, zip_all(idx_files))
        return original(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    assert contents(fetch("fashion_mnist", target, str(source))) == zip_all(idx_files)
