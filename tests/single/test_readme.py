"""README.md tells the truth: its options are those of the code, and what it names is there."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
import shlex
import shutil
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcsgd.cli import COMMANDS, main
from hpcsgd.config import RunConfig
from hpcsgd.config.study import StudyConfig
from hpcsgd.record import load_run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
OPTIONS_OF_THEIR_OWN = ("hpcsgd.launch.", "hpcsgd.export.")
"""Parts whose commands have options that are no keys of a recipe."""


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
    """The rows of README's table of options."""
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


@pytest.mark.parametrize(("mark", "rows"), [("options", option_rows), ("study options", study_rows)])
def test_the_table_of_options_is_the_docstrings(mark: str, rows: Callable[[], Iterator[str]]) -> None:
    expected = "\n".join(["| key | default | meaning |", "|---|---|---|", *rows()])
    found = re.search(rf"<!-- {mark}:.*?-->\n(.*?)<!-- end of {mark} -->", README, flags=re.DOTALL)
    assert found is not None
    assert found[1].strip() == expected, f"put this between the marks in README.md:\n\n{expected}"


def test_every_option_has_a_meaning() -> None:
    rows = list(option_rows())
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:jobs|analysis|hpcsgd|docs)/[\w/]+\.\w+|\.ci/[\w-]+", README)))
)
def test_files_that_the_readme_names_are_there(path: str) -> None:
    assert (ROOT / path).is_file()


def test_make_targets_that_the_readme_names_are_there() -> None:
    targets = set(re.findall(r"^(?:\w+=\S+ )?make (?:MPI=\S+ )?([a-z]+)", README, flags=re.MULTILINE))
    assert {"demo", "test", "setup"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in sorted(targets) if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []


def test_keys_that_the_readme_uses_are_options() -> None:
    keys = {row.split("`")[1] for row in (*option_rows(), *study_rows())}
    prose = README.partition("<!-- options")[0]
    of_others = {"print_config", "from", "no", "oversubscribe", "size", "logdir"}
    used = set(re.findall(r"--([a-z_]+(?:\.[a-z_]+)?) ", prose)) - of_others
    used |= set(re.findall(r"`((?:comm|data|algorithm|log|model|space|stop|goal)\.[a-z_]+)", prose)) - {"model.pt"}
    assert used
    shown = io.StringIO()
    for command in (name for name, entry in COMMANDS.items() if entry.place.startswith(OPTIONS_OF_THEIR_OWN)):
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
            main([command, "--help"])
    used -= set(re.findall(r"--([a-z_]+)", shown.getvalue()))
    keys |= {key.rpartition(".")[0] for key in keys}
    assert sorted(used - keys) == []


def test_the_program_that_the_readme_shows_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "fit(" in block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "jobs" / "own")
    exec(program.replace("epochs=5", "max_steps=1"), {})
    assert load_run("runs/own").evaluations["metric"].tolist() == ["loss", "iou"]


def test_commands_for_sites_that_the_readme_shows_make_their_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = re.findall(r"^hpcsgd ((?:submit|scale|sweep) .*--site .*?)(?: {2,}#.*)?$", README, flags=re.MULTILINE)
    assert len(lines) >= 6
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    shutil.copy(ROOT / "slurm" / "sites" / "generic.toml", tmp_path / "my_site.toml")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        words = [word for word in shlex.split(line) if word not in ("--submit", "--check")]
        assert main(words) == 0
        assert "#!/bin/bash" in capsys.readouterr().out or list(tmp_path.glob("runs/*/*.sbatch"))
