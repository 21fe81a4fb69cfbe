"""The house rules that can be read from the source: layers, who imports what, and sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = (
    {"hpcsgd"},
    {"errors"},
    {"files"},
    {"config"},
    {"study"},
    {"comm"},
    {"record"},
    {"data", "models", "optim"},
    {"tasks"},
    {"learners"},
    {"algorithms"},
    {"run"},
    {"train"},
    {"api", "trials"},
    {"launch"},
    {"cli"},
    {"__main__"},
)
"""Parts of the package: each imports itself and earlier layers only. ``hpcsgd`` is the package's own ``__init__``."""

ANALYSIS_LAYERS = ("published", "runs", "tables", "draw", "chapters")
"""The packages of analysis/, each of which imports itself and earlier ones; the scripts stand above them."""

HEAVY = {"torch", "mpi4py", "horovod"}
FORBIDDEN = {
    "hpcsgd/algorithms": {"mpi4py", "horovod"},
    "hpcsgd/learners": {"mpi4py", "horovod"},
    "hpcsgd/models": {"mpi4py", "horovod"},
    "hpcsgd/optim": {"mpi4py", "horovod"},
    "hpcsgd/data": {"mpi4py", "horovod"},
    "hpcsgd/record": {"mpi4py", "horovod"},
    "hpcsgd/tasks": {"mpi4py", "horovod"},
    "hpcsgd/trials": {"mpi4py", "horovod"},
    "hpcsgd/config": HEAVY | {"numpy", "pandas"},
    "hpcsgd/study": HEAVY,
    "hpcsgd/errors": HEAVY | {"numpy", "pandas"},
    "hpcsgd/files": HEAVY | {"numpy", "pandas"},
    "hpcsgd/paths": HEAVY | {"numpy", "pandas"},
    "hpcsgd/plain_yaml": HEAVY | {"numpy", "pandas"},
    "hpcsgd/recipe": HEAVY | {"numpy", "pandas"},
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
    "hpcsgd.run.start",
    "hpcsgd.trials.command",
    "hpcsgd.trials.status",
    "hpcsgd.config.recipe",
    "hpcsgd.record",
    "hpcsgd.record.reader",
    "hpcsgd.record.schema",
    "hpcsgd.record.frames",
    "hpcsgd.record.study_file",
    "hpcsgd.record.summary",
    "hpcsgd.data.dataset",
    "hpcsgd.data.fetch",
    "hpcsgd.data.places",
    "hpcsgd.data.shards",
    "hpcsgd.study.archive",
    "hpcsgd.study.budgets",
    "hpcsgd.study.learning_rate",
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


def imports(node: ast.AST, at_import_time: bool) -> Iterator[str]:
    """Dotted names imported under ``node``: all that run, or only those that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import: {ast.unparse(child)}"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif is_type_checking(child):
            yield from (name for other in child.orelse for name in imports(other, at_import_time))
        elif not (at_import_time and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield from imports(child, at_import_time)


def part_of(dotted: str) -> str:
    """The part of the package that ``hpcsgd.x.y`` belongs to; ``hpcsgd.__version__`` is the package's own."""
    word = dotted.split(".")[1:2]
    return "hpcsgd" if not word or word[0].startswith("__") else word[0]


def layer_of(part: str) -> int:
    found = [i for i, layer in enumerate(LAYERS) if part in layer]
    assert found, f"hpcsgd/{part} stands in no layer: give it one"
    return found[0]


def test_parts_import_only_earlier_layers() -> None:
    wrong = []
    for file in sources("hpcsgd"):
        inside = file.relative_to(ROOT / "hpcsgd")
        own = (
            "hpcsgd" if inside.name == "__init__.py" and len(inside.parts) == 1 else inside.parts[0].removesuffix(".py")
        )
        for dotted in imports(ast.parse(file.read_text()), at_import_time=False):
            if dotted.split(".")[0] != "hpcsgd":
                continue
            part = part_of(dotted)
            if part != own and layer_of(part) >= layer_of(own):
                wrong.append(f"{name_of(file)} imports {dotted}")
    assert not wrong


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
            tuple(f"hpcsgd.{part}" for part in ("errors", "files", "config.paths", "record", "run.streams", "study"))
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


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("train", "--help"),
        ("data", "--help"),
        ("info", "--help"),
        ("study", "--help"),
        ("study", "run", "--help"),
    ],
)
def test_help_loads_neither_torch_nor_mpi(words: tuple[str, ...]) -> None:
    call = "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code in (None, 0), stop.code"
    assert heavy_modules(f"import sys; sys.argv = {['hpcsgd', *words]!r}\nfrom hpcsgd.cli import main\n{call}") == ""


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
