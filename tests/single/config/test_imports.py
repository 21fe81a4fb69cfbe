"""A user's own code is found by its import path, or it is said what is wrong with it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcsgd.config.imports import build, check_arguments, find_object, look_in, sources
from hpcsgd.errors import UsageError

NETS = """
class Net:
    class Small:
        pass

    def __init__(self, width: int, depth: int = 2) -> None:
        self.sizes = width, depth
        if width < 0:
            raise ValueError("no width")


def make(*, width):
    return Net(width)


NUMBER = 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of modules, that is looked in."""
    known = set(sys.modules)
    (tmp_path / "own_nets").mkdir()
    (tmp_path / "own_nets" / "__init__.py").write_text("")
    (tmp_path / "own_nets" / "flat.py").write_text(NETS)
    (tmp_path / "own_nets" / "broken.py").write_text("x = 1\ny = 1 / 0\n")
    (tmp_path / "own_nets" / "unfinished.py").write_text("def f(:\n")
    (tmp_path / "own_nets" / "needy.py").write_text("import not_installed_anywhere\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    look_in(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("own_nets"):
            del sys.modules[name]


def test_what_a_path_names_is_found_and_called(place: Path) -> None:
    assert find_object("own_nets.flat.NUMBER", "model.class_path") == 3
    assert find_object("own_nets.flat.Net.Small", "model.class_path").__qualname__ == "Net.Small"
    assert build("own_nets.flat.Net", {"width": 5}, "model").sizes == (5, 2)
    assert build("own_nets.flat.Net", {"depth": 7}, "model", 4).sizes == (4, 7)
    assert build("own_nets.flat.make", {"width": 4}, "model").sizes == (4, 2)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("Net", "model.class_path is 'Net': it must be an import path"),
        ("own nets.Net", "it must be an import path"),
        ("own_nits.flat.Net", "there is no module 'own_nits'"),
        ("own_nets.flat.Nte", "has no Nte; did you mean Net?"),
        ("own_nets.flatt.Net", "own_nets .*has no flatt"),
        ("own_nets.broken.y", r"cannot be imported: ZeroDivisionError: division by zero \(.*broken.py, line 2\)"),
        ("own_nets.unfinished.f", r"cannot be imported: SyntaxError: .* \(.*unfinished.py, line 1\)"),
        ("own_nets.needy.f", "whose module own_nets.needy needs 'not_installed_anywhere'"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(place: Path, path: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_object(path, "model.class_path")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 1, "dept": 2}, "model.init_args has dept, which Net does not take; did you mean depth?"),
        ({"width": 1, "zzz": 2}, "it takes width, depth"),
        ({}, "model.init_args has no width, which Net must be given"),
        ({"width": -1}, r"model: Net fails: ValueError: no width \(.*flat.py, line 9\)"),
    ],
)
def test_wrong_arguments_are_refused(place: Path, arguments: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build("own_nets.flat.Net", arguments, "model")


def test_what_cannot_be_called_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        build("own_nets.flat.NUMBER", {}, "model")


def test_functions_that_take_any_argument_and_those_without_a_signature_are_left_to_say_it_themselves() -> None:
    check_arguments(lambda **anything: anything, {"a": 1}, "model")
    check_arguments(dict, {"a": 1}, "model")


def test_sources_tell_the_file_and_its_content(place: Path) -> None:
    found = sources({"model.class_path": "own_nets.flat.Net", "loss.class_path": "math.sqrt"})
    file = place / "own_nets" / "flat.py"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["model.class_path"] == {"path": "own_nets.flat.Net", "file": str(file), "sha256": digest}
    assert found["loss.class_path"]["path"] == "math.sqrt"
