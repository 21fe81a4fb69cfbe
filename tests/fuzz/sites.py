"""Site files: random edits of the shipped ones, and the script that ``hpcsgd submit`` makes of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.case import ROOT, Case, Command
from tests.fuzz.text import encoded, lines_moved

VALUES = (
    '""', '" "', '"x"', '"a b"', "0", "1", "-1", "4", "010", "0x10", "1_000", "1e3", "1.5", "inf", "nan", "-inf",
    "true", "yes", "null", "[]", "[1]", '["a", 1]', '[""]', "[[]]", "{}", '{a = 1}', "{a = {b = 1}}",
    "1979-05-27T07:32:00Z", "07:32:00", '"größe"', '"\\u0000"', '"\\n"', '"a\\nb"', "'''\na\n'''", '"$(touch left)"',
    '"`touch left`"', "'\"'", '"\'"', '"#"', '"; touch left"', '"99999999999999999999"', "9223372036854775808",
    "1" + "0" * 5000, '"' + "x" * 5000 + '"', '"01:00"', '"1-00"', '"-5"', '"0"', '"\\u0661"', '"٣"', '"--x"',
    '["--mem=1G"]', '["--x\\n"]', '"%j"', '"{{ 1 }}"', '"{% raw %}"', "", "=", '"unclosed',
)  # fmt: skip
KEYS = (
    "title",
    "launcher",
    "tasks_per_node",
    "exports.A",
    '"a b"',
    "név",
    "name",
    "Launcher",
    "time",
    "exports",
    "''",
    "a.b",
    "setup",
)


def other_value(rng: Random, text: str) -> str:
    """A key has another value."""
    lines = text.splitlines()
    places = [number for number, line in enumerate(lines) if "=" in line and not line.startswith(("#", " "))]
    place = rng.choice(places)
    lines[place] = f"{lines[place].partition('=')[0]}= {rng.choice(VALUES)}"
    return "\n".join(lines) + "\n"


def more_keys(rng: Random, text: str) -> str:
    """A key, known or not, that the file may have already."""
    line = f"{rng.choice(KEYS)} = {rng.choice(VALUES)}\n"
    return rng.choice([line + text, text + line])


def other_key(rng: Random, text: str) -> str:
    """A key is misspelt."""
    key = rng.choice([line.partition("=")[0].strip() for line in text.splitlines() if "=" in line and line[0] != "#"])
    place = rng.randrange(len(key)) if key else 0
    return text.replace(key, key[:place] + rng.choice(["", "x", "-", "_", ".", " "]) + key[place + 1 :], 1)


EDITS: tuple[Callable[[Random, str], str | bytes], ...] = (
    other_value, other_value, other_value, other_value, more_keys, more_keys, other_key, lines_moved, encoded,
)  # fmt: skip


def make(rng: Random, work: Path, sound: Path) -> Case:
    """Edit a site file, and make a script for it."""
    original = rng.choice(sorted((ROOT / "slurm" / "sites").glob("*.toml")))
    shutil.copyfile(ROOT / "jobs" / "demo_local_sgd.yaml", work / "demo.yaml")
    edit = rng.choice(EDITS)
    edited = edit(rng, original.read_text())
    (work / "site.toml").write_bytes(edited if isinstance(edited, bytes) else edited.encode())
    required = ("--account", "a") if rng.random() < 0.8 else ()
    words = ("hpcsgd", "submit", "demo.yaml", "--site", "site.toml", "--nodes", "2", *required)
    return Case(f"{original.name}: {edit.__name__}", (Command(words), Command((*words[:2], "--doctor", *words[3:]))))
