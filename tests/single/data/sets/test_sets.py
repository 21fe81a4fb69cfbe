"""The registry of data sets: all that a recipe may name, and nobody else asks for one by its name."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from hpcsgd.config.workload import DatasetName
from hpcsgd.data.sets import SETS, find_published
from hpcsgd.data.sets.files import FileSet
from hpcsgd.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[4] / "hpcsgd"
PUBLISHED = ("fashion_mnist", "mnist", "cifar10", "cifar100")


def test_every_name_of_a_recipe_has_a_data_set() -> None:
    # What a program brings with it has the name of none.
    assert (*SETS, "given") == get_args(DatasetName)
    assert all(known.name == name for name, known in SETS.items())


def test_published_sets_are_files_and_the_others_say_where_they_come_from() -> None:
    for name, known in SETS.items():
        assert known.is_published == isinstance(known, FileSet) == (name in PUBLISHED)
        if known.is_published:
            assert find_published(name) is known
        else:
            with pytest.raises(UsageError, match=f"^{name} is .*: choose one of {', '.join(PUBLISHED)}$"):
                find_published(name)


def test_files_and_checksums_fit_together() -> None:
    for name in PUBLISHED:
        known = find_published(name)
        assert set(known.sha256) <= set(known.layouts[0].files)
        assert known.addresses and known.downloads


def test_no_other_module_knows_a_data_set_by_its_name() -> None:
    names = set(SETS) - {"text", "pack"}  # words of other meanings too
    wrong = [
        f"{file.relative_to(PACKAGE)}:{node.lineno} {node.value}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not file.relative_to(PACKAGE).as_posix().startswith(("config/", "data/sets/"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not wrong
