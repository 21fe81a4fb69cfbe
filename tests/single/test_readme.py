"""The pages tell the truth: options and columns are those of the code, and what they name and link is there."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import subprocess
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcsgd.cli import COMMANDS, main
from hpcsgd.config import RunConfig
from hpcsgd.config.study import StudyConfig
from hpcsgd.record import load_run
from hpcsgd.record.schema import ITERATION_COLUMNS, RANK_COLUMNS, TABLES
from tests.pages.text import files

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("analysis", "hpcsgd", "jobs", "slurm", "tests")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
}
FIRST, WIDTH = "README.md", 125
GENERATED = {
    "jobs/OPTIONS.md": "<!-- options:",
    "jobs/studies/README.md": "<!-- study options:",
    "hpcsgd/record/README.md": "<!-- columns:",
    "analysis/README.md": "## All figures\n",
}
"""Pages with a generated part, and the mark that it begins with."""


def meanings(cls: type) -> dict[str, str]:
    """The text of each attribute in the docstring of a dataclass of the configuration."""
    text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(meaning.split()).replace("``", "`") for name, meaning in found}


def shown(default: Any) -> str:
    """A default as a recipe writes it; empty for unset."""
    if default is None or default is dataclasses.MISSING:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`"


def option_rows(cls: type = RunConfig, prefix: str = "") -> Iterator[str]:
    """The rows of the table of options."""
    hints, texts = typing.get_type_hints(cls), meanings(cls)
    for field in dataclasses.fields(cls):
        kind, key = hints[field.name], prefix + field.name
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from option_rows(kind, f"{key}.")
            continue
        meaning = texts[field.name]
        literals = [part for part in (kind, *typing.get_args(kind)) if typing.get_origin(part) is typing.Literal]
        named = literals and (kind is literals[0] or str in typing.get_args(kind))
        choices = typing.get_args(literals[0]) if named else ()
        if not all(f"`{choice}`" in meaning for choice in choices):
            begin = "One of" if kind is literals[0] else "The package's:"
            meaning += f" {begin} {', '.join(f'`{choice}`' for choice in choices)}."
        yield f"| `{key}` | {shown(field.default)} | {meaning} |"


def study_rows() -> Iterator[str]:
    """The rows of a study's options that a run does not have."""
    shared = {row.split("`")[1].partition(".")[0] for row in option_rows() if "." in row.split("`")[1]} - {"evaluate"}
    for row in option_rows(StudyConfig):
        if row.split("`")[1].partition(".")[0] not in shared:
            yield row


def table_of(rows: Callable[[], Iterator[str]]) -> str:
    """A table of options."""
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows()])


def log_tables() -> str:
    """The columns of the log, a table for each of its own."""
    lines = []
    parts = {"iterations` `[step]": ITERATION_COLUMNS, "iterations` `[step, rank]": RANK_COLUMNS} | TABLES
    for name, columns in parts.items():
        lines += ["", f"`/{name}`", "", "| column | unit | meaning |", "|---|---|---|"]
        lines += [
            f"| `{column.name}` | {column.unit} | {column.meaning.replace('|', chr(92) + '|')} |" for column in columns
        ]
    return "\n".join(lines).strip()


@pytest.mark.parametrize(
    ("page", "mark", "made"),
    [
        ("jobs/OPTIONS.md", "options", lambda: table_of(option_rows)),
        ("jobs/studies/README.md", "study options", lambda: table_of(study_rows)),
        ("hpcsgd/record/README.md", "columns", log_tables),
    ],
)
def test_the_tables_are_those_of_the_code(page: str, mark: str, made: Callable[[], str]) -> None:
    found = re.search(rf"<!-- {mark}:.*?-->\n(.*?)<!-- end of {mark} -->", PAGES[page], flags=re.DOTALL)
    assert found is not None
    assert found[1].strip() == made(), f"put this between the marks in {page}:\n\n{made()}"


def test_every_option_has_a_meaning() -> None:
    rows = list(option_rows())
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []


def prose(page: str) -> str:
    """A page without the part that is generated."""
    return PAGES[page].partition(GENERATED.get(page, "\0"))[0]


def test_pages_are_short() -> None:
    """The first one is for a minute, and none is longer than what one reads at once, but for what is generated."""
    assert PAGES[FIRST].count("\n") <= 120
    assert {name: count for name in PAGES if (count := prose(name).count("\n")) > 300} == {}


def test_lines_are_no_longer_than_a_screen_is_wide() -> None:
    """But in tables, and with links, which cannot be broken."""
    wide = [
        f"{name}: {line}"
        for name in set(PAGES) - {"CHANGELOG.md"}
        for line in prose(name).splitlines()
        if len(line) > WIDTH and not line.startswith(("|", "<!--")) and "](" not in line and "   #" not in line
    ]
    assert wide == []


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", without_code, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(name: str) -> Iterator[tuple[str, str, str]]:
    """The links of a page that stay in the repository: as written, the path from its root, and the anchor."""
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", PAGES[name]):
        if not re.match(r"\w+:", link):
            path, _, anchor = link.partition("#")
            place = (ROOT / name).parent / path if path else ROOT / name
            yield link, place.resolve().relative_to(ROOT).as_posix(), anchor


@pytest.mark.parametrize("name", PAGES)
def test_every_link_resolves(name: str) -> None:
    for link, path, anchor in links(name):
        assert (ROOT / path).exists(), f"{name} links {link}"
        assert not anchor or anchor in anchors(PAGES[path]), f"{name} links {link}"


def test_every_page_and_picture_is_found_from_the_first() -> None:
    seen, ahead = set(), [FIRST]
    while ahead:
        name = ahead.pop()
        seen.add(name)
        ahead += [path for _, path, _ in links(name) if path in PAGES and path not in seen] if name in PAGES else []
        seen |= {path for _, path, _ in links(name)} - set(PAGES)
    pictures = {path.relative_to(ROOT).as_posix() for path in (ROOT / "analysis" / "gallery").glob("*.png")}
    assert sorted((set(PAGES) | pictures) - seen) == []


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"CHANGELOG.md"}))
def test_files_that_a_page_names_are_there(name: str) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", PAGES[name])
    named = set(re.findall(r"(?<![\w/.])(?:jobs|analysis|hpcsgd|slurm|tests)/[\w/]+(?:\.\w+)+|\.ci/[\w-]+", text))
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


OF_OTHERS = {
    *("bind", "from", "job", "logdir", "map", "no", "ntasks", "oversubscribe", "signal", "variant", "with"),
    *("fetch", "goal", "metric", "only", "seconds", "target_accuracy", "tiny", "skip"),  # analysis, the GPU check
    *("encoded", "help", "prediction", "print_config", "size", "skip_bad"),  # hpcsgd data, and hpcsgd itself
    *("environment", "gpu", "mpi", "nv"),  # srun, podman-hpc, apptainer
}
"""Options that are not keys, nor of a command that makes jobs."""


def test_keys_that_the_pages_use_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {row.split("`")[1] for row in (*option_rows(), *study_rows())}
    keys |= {key.rpartition(".")[0] for key in keys}
    text = "\n".join(prose(name) for name in sorted(set(PAGES) - {"CHANGELOG.md"}))
    used = set(re.findall(r"`((?:comm|data|algorithm|log|model|space|stop|goal)\.[a-z_]+)", text))
    used |= set(re.findall(r"--([a-z_]+(?:\.[a-z_]+)?)", text)) - OF_OTHERS
    for command in ("submit", "scale", "sweep", "resubmit", "watch", "export", "predict", "compare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    used -= set(re.findall(r"--([a-z_]+)", capsys.readouterr().out))
    assert len(used) > 20
    assert sorted(used - keys - {"model.pt", "log.txt", "KEY"}) == []


RECORDED = r"""
keep() { local IFS=$'\x1f'; printf '%s\n' "$*" >&3; }
for name in hpcsgd mpirun python pip make sbatch git; do eval "$name() { keep $name \"\$@\"; }"; done
for name in cat cp python3; do eval "$name() { :; }"; done
. () { :; }
command_not_found_handle() { keep unknown "$@"; }
exec 3>commands
PATH=
"""
"""Shell that writes down what it is asked to run, with the words that a shell makes of a line."""


def commands(name: str, folder: Path) -> Iterator[list[str]]:
    """The commands of a page's blocks of shell, each as its words; what mpirun starts is a command of its own."""
    blocks = re.findall(r"^```sh\n(.*?)^```", prose(name), flags=re.MULTILINE | re.DOTALL)
    subprocess.run(["bash", "-c", RECORDED + "\n".join(blocks)], cwd=folder, capture_output=True, check=True)
    for line in (folder / "commands").read_text(encoding="utf-8").splitlines():
        words = line.split("\x1f")
        if words[0] == "mpirun":
            words = words[next(i for i, word in enumerate(words) if word in ("hpcsgd", "python")) :]
        yield words


def fewer(words: list[str]) -> list[str]:
    """The words of a command that makes jobs, for fewer of them, of a site, and not sent."""
    kept, ahead = [], iter(words)
    for word in ahead:
        if word == "--seeds":
            next(ahead)
            kept += [word, "1"]
        elif word in ("--launcher", "--site"):
            next(ahead)
        elif word not in ("--submit", "--check"):
            # Of many numbers the first and the last.
            kept.append(re.sub(r"=([\d.]+),.*,([\d.]+)$", r"=\1,\2", word))
    return [*kept, "--site", words[words.index("--site") + 1] if "--site" in words else "my_site.toml"]


def check_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Holds a command of hpcsgd to what takes it, as far as it trains, sends and draws nothing."""
    name, *rest = words
    assert name in COMMANDS
    if name in ("train", "check"):
        assert main(["train", *rest, "--print_config"]) == 0
    elif name == "study" and rest[0] == "run":
        assert main([name, *rest, "--print_config"]) == 0
    elif name in ("submit", "scale", "sweep"):
        end = rest.index("--") if "--" in rest else len(rest)
        assert main([name, *fewer(rest[:end]), *rest[end:]]) == 0
    elif name == "figures":
        assert (ROOT / "analysis" / f"{rest[0]}.py").is_file() or (ROOT / "analysis" / f"{rest[0]}_curves.py").is_file()
    elif name != "recipes":
        inner = rest[:1] if name in ("data", "study") else []
        with pytest.raises(SystemExit) as ended:
            main([name, *inner, "--help"])
        said = capsys.readouterr().out
        assert ended.value.code == 0
        assert [word for word in rest if word.startswith("--") and word not in said] == []


def check_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Holds a command to what is there."""
    program, *rest = words
    if program == "hpcsgd":
        check_command(rest, capsys)
    elif program == "make":
        targets = [word for word in rest if "=" not in word]
        makefile = (ROOT / "Makefile").read_text()
        assert targets and all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
    elif program == "python" and rest[0] == "-m":
        assert rest[1] == "pytest" or (ROOT / rest[1].replace(".", "/")).is_dir()
    elif program == "python":
        assert (ROOT / rest[0]).is_file()
    else:
        assert program == "pip"


@pytest.mark.parametrize("name", [name for name in PAGES if "```sh\n" in prose(name)])
def test_commands_that_a_page_shows_are_understood(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    shutil.copy(ROOT / "slurm" / "sites" / "generic.toml", tmp_path / "my_site.toml")
    for file, text in files(PAGES[name]).items():
        (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    found = list(commands(name, tmp_path))
    assert found
    for words in found:
        try:
            check_words(words, capsys)
        except (AssertionError, SystemExit) as error:
            raise AssertionError(f"{name}: {' '.join(words)}\n{capsys.readouterr().err}") from error


def test_the_program_that_the_first_page_shows_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(text for text in re.findall(r"```python\n(.*?)```", PAGES[FIRST], flags=re.DOTALL) if "fit(" in text)
    assert program.count("\n") <= 8
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "jobs" / "own")
    exec(program.replace("epochs=5", "max_steps=1"), {})
    assert load_run("runs/own").evaluations["metric"].tolist() == ["loss", "iou"]
