"""The house rules that can be read from the source: layers, who imports what, and sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MOST_FLOORS = 10
MOST_LOOSE_MODULES = 6

LAYERS = (
    {"hpcsgd", "errors", "files"},
    {"config", "study"},
    {"comm", "models", "record"},
    {"data", "export", "optim", "scaling"},
    {"tasks"},
    {"learners"},
    {"algorithms"},
    {"run"},
    {"cli", "launch", "train", "trials"},
    {"__main__", "api"},
)
"""Parts of the package: each imports itself and earlier layers only. ``hpcsgd`` is the package's own ``__init__``."""

TABLES = {"hpcsgd", "hpcsgd.cli"}
"""They name modules by strings, of public names and of commands, and import one when it is asked for. Like the entry
points of a distribution these are no imports: they say where a way in is, and need nothing of what is there."""

ANALYSIS_LAYERS = ("published", "runs", "tables", "draw", "chapters", "verdict", "page")
"""The packages of analysis/, each of which imports itself and earlier ones; the scripts stand above them."""

HEAVY = {"torch", "mpi4py", "horovod"}
FORBIDDEN = {
    "hpcsgd/algorithms": {"mpi4py", "horovod"},
    "hpcsgd/learners": {"mpi4py", "horovod"},
    "hpcsgd/export": HEAVY,
    "hpcsgd/models": {"mpi4py", "horovod"},
    "hpcsgd/optim": {"mpi4py", "horovod"},
    "hpcsgd/data": {"mpi4py", "horovod"},
    "hpcsgd/record": {"mpi4py", "horovod"},
    "hpcsgd/tasks": {"mpi4py", "horovod"},
    "hpcsgd/trials": {"mpi4py", "horovod"},
    "hpcsgd/config": HEAVY | {"numpy", "pandas"},
    "hpcsgd/scaling": HEAVY,
    "hpcsgd/study": HEAVY,
    "hpcsgd/errors": HEAVY | {"numpy", "pandas"},
    "hpcsgd/files": HEAVY | {"numpy", "pandas"},
    "analysis": HEAVY,
}
"""What may not be imported there at all, not even inside a function. Outside of ``record`` nobody imports h5py."""

LIGHT = (
    "hpcsgd",
    "hpcsgd.config",
    "hpcsgd.errors",
    "hpcsgd.files",
    "hpcsgd.config.paths",
    "hpcsgd.config.plain_yaml",
    "hpcsgd.cli",
    "hpcsgd.config.study",
    "hpcsgd.api.command",
    "hpcsgd.data.command",
    "hpcsgd.export.command",
    "hpcsgd.record.command",
    "hpcsgd.run.start",
    "hpcsgd.trials.command",
    "hpcsgd.trials.status",
    "hpcsgd.config.recipe",
    "hpcsgd.record",
    "hpcsgd.record.columns",
    "hpcsgd.record.reader",
    "hpcsgd.record.reduce",
    "hpcsgd.record.schema",
    "hpcsgd.record.frames",
    "hpcsgd.record.study_file",
    "hpcsgd.record.summary",
    "hpcsgd.scaling.explain",
    "hpcsgd.data.dataset",
    "hpcsgd.data.fetch",
    "hpcsgd.data.places",
    "hpcsgd.data.shards",
    "hpcsgd.scaling.command",
    "hpcsgd.scaling.fit",
    "hpcsgd.scaling.predict",
    "hpcsgd.scaling.compare_command",
    "hpcsgd.study.archive",
    "hpcsgd.study.budgets",
    "hpcsgd.study.learning_rate",
    "hpcsgd.study.machine",
    "hpcsgd.study.regimes",
    "hpcsgd.study.result",
    "hpcsgd.study.sources",
    "hpcsgd.study.space",
)
"""Modules that a laptop without torch and MPI can import."""


def sources(*folders: str) -> list[Path]:
    """All Python files under ``folders``; there must be some."""
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    assert files, folders
    return files


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def names_in(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Dotted names that a statement imports."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    assert statement.level == 0, f"relative import: {ast.unparse(statement)}"
    yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def imports(node: ast.AST, at_import_time: bool) -> Iterator[str]:
    """Dotted names imported under ``node``: all that run, or only those that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield from names_in(child)
        elif is_type_checking(child):
            yield from (name for other in child.orelse for name in imports(other, at_import_time))
        elif not (at_import_time and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield from imports(child, at_import_time)


def module_of(file: Path) -> str:
    """``hpcsgd.x.y``, of a file of the package."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def known_module(dotted: str, modules: Iterable[str]) -> str:
    """The longest beginning of ``hpcsgd.x.name`` that is one of the ``modules``."""
    while dotted not in modules:
        dotted = dotted.rpartition(".")[0]
    return dotted


@cache
def graph() -> dict[str, set[str]]:
    """For each module of the package the others that it imports: at its import, in a function, or for types alone.

    The public names of ``hpcsgd`` are not counted: their types stand beside the table, for the tools that read them.
    """
    trees = {module_of(file): ast.parse(file.read_text()) for file in sources("hpcsgd")}
    found = {}
    for module, tree in trees.items():
        statements = (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
        names = imports(tree, at_import_time=False) if module == "hpcsgd" else chain(*map(names_in, statements))
        found[module] = {known_module(name, trees) for name in names if name.split(".")[0] == "hpcsgd"} - {module}
    return found


def part_of(dotted: str) -> str:
    """The part of the package that a module belongs to."""
    return dotted.split(".")[min(1, dotted.count("."))]


def layer_of(part: str) -> int:
    found = [i for i, layer in enumerate(LAYERS) if part in layer]
    assert found, f"hpcsgd/{part} stands in no layer: give it one"
    return found[0]


def test_parts_import_only_earlier_layers() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if part_of(other) != part_of(module) and layer_of(part_of(other)) >= layer_of(part_of(module))
    ]
    assert not wrong


def test_the_house_has_few_floors() -> None:
    """A part stands one floor above the highest of those that it imports."""
    needs: dict[str, set[str]] = {}
    for module, others in graph().items():
        needs.setdefault(part_of(module), set()).update({part_of(other) for other in others} - {part_of(module)})
    floors: dict[str, int] = {}
    for part in TopologicalSorter(needs).static_order():
        floors[part] = 1 + max((floors[other] for other in needs[part]), default=0)
    assert floors["hpcsgd"] == 1 and max(floors.values()) <= MOST_FLOORS, floors
    assert len(list((ROOT / "hpcsgd").glob("*.py"))) <= MOST_LOOSE_MODULES


def test_no_files_import_each_other() -> None:
    """Not by way of others either, nor in functions, nor for types; else the error names the circle."""
    TopologicalSorter(graph()).prepare()


def test_only_the_tables_name_modules_by_strings() -> None:
    """An import by a string of one's own would be hidden from the floors."""
    named = {module: set() for module in graph()}
    for file in sources("hpcsgd"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and str(node.value).partition(":")[0] in named:
                named[module_of(file)].add(part_of(str(node.value).partition(":")[0]))
    assert {module for module, found in named.items() if found - {part_of(module), "hpcsgd"}} == TABLES


def test_the_readme_of_the_package_has_the_same_layers() -> None:
    table = (ROOT / "hpcsgd" / "README.md").read_text().partition("|---|---|\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)(?:/|\.py)`", row.split("|")[1]) for row in table.splitlines()]
    assert [{"hpcsgd" if part == "__init__" else part for part in row} for row in rows] == list(LAYERS)


def test_forbidden_imports() -> None:
    wrong = []
    for file in sources("hpcsgd", "analysis"):
        name = name_of(file)
        bad = set() if name.startswith("hpcsgd/record/") else {"h5py"}
        for where, names in FORBIDDEN.items():
            if name.startswith((f"{where}/", f"{where}.py")):
                bad |= names
        for dotted in imports(ast.parse(file.read_text()), at_import_time=False):
            if dotted.split(".")[0] in bad:
                wrong.append(f"{name} imports {dotted}")
    assert not wrong


def test_mpi_and_horovod_are_imported_inside_functions_only() -> None:
    wrong = [
        f"{name_of(file)} imports {dotted}"
        for file in sources("hpcsgd")
        for dotted in imports(ast.parse(file.read_text()), at_import_time=True)
        if dotted.split(".")[0] in ("mpi4py", "horovod")
    ]
    assert not wrong


def test_analysis_reads_the_log_and_nothing_else_of_the_package() -> None:
    wrong = [
        f"{name_of(file)} imports {dotted}"
        for file in sources("analysis")
        for dotted in imports(ast.parse(file.read_text()), at_import_time=False)
        if dotted.split(".")[0] == "hpcsgd"
        and not dotted.startswith(
            tuple(
                f"hpcsgd.{part}"
                for part in ("errors", "files", "config.paths", "record", "run.streams", "scaling", "study")
            )
        )
    ]
    assert not wrong


def test_analysis_is_built_in_layers() -> None:
    """Runs, then tables of them, then drawings of these; no package knows a script."""
    folders = {file.parent.name for file in sources("analysis") if file.parent.name != "analysis"}
    assert folders == set(ANALYSIS_LAYERS)
    scripts = {file.stem for file in (ROOT / "analysis").glob("*.py")}
    wrong = []
    for file in sources("analysis"):
        own = file.parent.name
        known = ANALYSIS_LAYERS[: ANALYSIS_LAYERS.index(own) + 1] if own in ANALYSIS_LAYERS else ANALYSIS_LAYERS
        for dotted in imports(ast.parse(file.read_text()), at_import_time=False):
            package = dotted.split(".")[0]
            is_script_of_one = package in scripts and own in ANALYSIS_LAYERS
            if is_script_of_one or (package in ANALYSIS_LAYERS and package not in known):
                wrong.append(f"{name_of(file)} imports {dotted}")
    assert not wrong


def heavy_modules(code: str) -> str:
    """Which of torch, mpi4py and horovod a fresh interpreter has loaded after ``code``."""
    ask = f"import sys; sys.stderr.write(' '.join(sorted({HEAVY!r} & set(sys.modules))))"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['analysis']\n{code}\n{ask}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_check_for_heavy_modules_sees_one() -> None:
    assert heavy_modules("import mpi4py") == "mpi4py"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_neither_torch_nor_mpi(module: str) -> None:
    assert heavy_modules(f"import {module}") == ""


def test_analysis_loads_neither_torch_nor_mpi() -> None:
    names = [
        ".".join(file.relative_to(ROOT / "analysis").with_suffix("").parts).removesuffix(".__init__")
        for file in sources("analysis")
    ]
    assert heavy_modules(f"import {', '.join(names)}") == ""


def test_functions_and_files_are_small() -> None:
    large = []
    for file in sources("hpcsgd", "analysis", "tests"):
        text = file.read_text()
        limit = 500 if name_of(file).startswith("tests/") else 300
        if text.count("\n") > limit:
            large.append(f"{name_of(file)}: {text.count(chr(10))} lines, {limit} at most")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 80:
                    large.append(f"{name_of(file)}:{node.lineno} {node.name}: {length} lines, 80 at most")
    assert not large


def test_every_module_has_a_docstring_and_postponed_annotations() -> None:
    wrong = []
    for file in sources("hpcsgd", "analysis", "tests"):
        tree = ast.parse(file.read_text())
        if ast.get_docstring(tree) is None:
            wrong.append(f"{name_of(file)}: no docstring")
        annotated = any(isinstance(node, (ast.FunctionDef, ast.AnnAssign)) for node in ast.walk(tree))
        if annotated and "__future__.annotations" not in set(imports(tree, at_import_time=True)):
            wrong.append(f"{name_of(file)}: no postponed annotations")
    assert not wrong
