"""Recipes of runs and of studies: random edits of the shipped ones, then read, printed and trained with a tiny net."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from hpcsgd.config import RunConfig
from hpcsgd.config.recipe import known_keys
from hpcsgd.config.study import StudyConfig
from tests.fuzz.case import ROOT, SYNTHETIC, TINY, Case, Command, options, run_makes
from tests.fuzz.sound import STUDY
from tests.fuzz.text import encoded, lines_moved

VALUES = (
    "", "''", "' '", "~", "null", "yes", "no", "on", "off", "y", "true", "True", "TRUE", "'true'", "0", "1", "2",
    "-1", "3.0", "1.5", "010", "0o10", "0x10", "0b11", "1_000", "1e3", "1.0e3", "1E+3", "1e-3", ".5", "5.", "-0.0",
    "1e400", "1e-400", "1e30", "1e-30", ".inf", "-.inf", ".nan", "inf", "-inf", "nan", "NaN", "Infinity",
    "99999999999", "9223372036854775807", "9223372036854775808", "1" + "0" * 30, "1" + "0" * 5000, "-99999999999",
    "4294967296", "'1'", "\"0.1\"", "1,5", "1 000", "1/2", "2**3", "10%", "1k", "[1]", "[]", "[1, [2]]", "[a, b]",
    "[1, null]", "[1, 010]", "[.nan]", "[true]", "['1']", "[0.1, 1e3]", "{}", "{a: 1}", "{1: 2}", "{4: 1, 8: 2}",
    "{8: 1e0}", "2020-01-01", "12:30:45", "1:2", "é", "'日本'", '"\\0"', '"\\ud800"', '"a\\nb"', '"\\e[31m"', "'%s{0}'",
    "!!binary aGVsbG8=", "!!set {a}", "!!python/name:os.system", "!!python/object/apply:os.getcwd []", "!x y", "&a 1",
    "*nowhere", "|\n  text", "@x", "`x`", "a: b", "0.1 # c", "١٢", "１２", "²", "Ⅷ", "epoch:1", "epoch:٣",
    "step:99999999999999999999", "epoch:-1", "step:1e3", "first_lr_drop", "none", "None", "auto", "all", "cpu",
    "cuda", "x" * 5000, "[" * 2000, "test", "[test, test]", "[val]",
)  # fmt: skip
"""What stands in the place of a value, as YAML."""

PATHS = (
    "~/x", "~nobody/x", "$HOME/x", "$NOWHERE/x", "${NOWHERE}", "''", "' '", ".", "./x/", "x//y", "/dev/null",
    "/dev/null/x", "/proc/x", "recipe.yaml", "recipe.yaml/x", "größe", "'a b'", "'a\\b'", '"a\\nb"', '"a\\0b"',
    '"\\udcff"', "x" * 300, "'-x'", "'*'", "1", "010", "no", "2020-01-01", "1e3", "~", "[a]", "dangling",
    "dangling/x", "'%s{0}'", "'$(touch left)'", "\u202e", "1.0", "~/",
)  # fmt: skip
PATH_KEYS = {
    RunConfig: ("run_dir", "data.dir", "resume", "tuner.replay", "data.stage_dir"),
    StudyConfig: ("study_dir", "data.dir"),
}

ODD_KEYS = (
    "1", "null", "true", "1.5", "2020-01-01", "? [a, b]\n", "? {a: b}\n", "''", "' '", "'.'", "é", "data.flip",
    "model.name.x", "'data.flip '", "__class__", "self", "config", "cfg", "help", "print_config", "'--seed'", "model",
    "DATA", "Seed", "'x y'", '"\\0"', "'a.b.c'", "seed.x",
)  # fmt: skip

STRUCTURES: tuple[Callable[[str], str], ...] = (
    lambda text: f"{text}---\nepochs: 1\n",
    lambda text: f"---\n{text}...\n",
    lambda text: f"%YAML 1.1\n---\n{text}",
    lambda text: f"%YAML 9.9\n---\n{text}",
    lambda text: f"%FOO\n---\n{text}",
    lambda text: f"base: &b {{seed: 2}}\n<<: *b\n{text}",
    lambda text: f"<<: {{seed: 3}}\n{text}",
    lambda text: f"<<: [{{seed: 3}}, {{seed: 4}}]\n{text}",
    lambda text: f"<<: 3\n{text}",
    lambda text: f"{text}faults: &f {{check_finite: true}}\nlog: *f\n",
    lambda text: f"{text}faults: &f [*f]\n",
    lambda text: f"{text}faults: &f {{check_finite: *f}}\n",
    lambda text: f"{text}comm: {{allreduce: &a [&b [x, x, *b], *a]}}\n",
    lambda text: f"{text}evaluate: {{splits: {_laughs()}}}\n",
    lambda text: json.dumps(yaml.safe_load(text)),
    lambda text: json.dumps(yaml.safe_load(text), indent="\t"),
    lambda text: f"- {json.dumps(yaml.safe_load(text))}",
    lambda text: "text",
    lambda text: "3",
    lambda text: "[" * 3000,
    lambda text: "{a: " * 3000,
    lambda text: "!!python/object/apply:os.mkdir [left]",
    lambda text: f"{text}class_path: os.mkdir\ninit_args: {{path: left}}\n",
    *((lambda text, key=key: f"{text}{key}: 1\n") for key in ODD_KEYS),
)  # fmt: skip
"""What becomes of a whole recipe."""

DUPLICATES = (
    "seed: 1\nseed: 2\n", "faults: {check_finite: true}\nfaults: {check_finite: false}\n",
    "log: {enabled: true, enabled: true}\n", "log:\n  enabled: true\n  'enabled': false\n",
    "faults: {}\nfaults: {}\n", "'seed': 1\nseed: 1\n",
)  # fmt: skip


def _laughs() -> str:
    """Ten values, ten times in a list, and so on: short to write, long to show."""
    text = "&a0 [x, x, x, x, x, x, x, x, x]"
    for level in range(1, 9):
        text = f"&a{level} [{text}{f', *a{level - 1}' * 8}]"
    return text


LIKELY: dict[Any, tuple[str, ...]] = {
    int: ("0", "1", "2", "3", "5", "16", "010", "-1", "99999999999", "1e3", "2.0"),
    float: ("0", "0.5", "0.9", "1", "1e-3", "1e-30", "1e30", "-0.0", ".5", "2", "-1"),
    bool: ("yes", "no", "true", "false", "on", "off"),
    tuple: ("[]", "[1]", "[1, 2]", "[2, 1]", "[1, 1]", "[0]", "[3, 4, 5]", "[0.5]", "[test, train]"),
    dict: ("{16: 1, 64: 2}", "{8: 1, 32: 2}"),
}
"""Values of a type, odd ones among them."""

WRONG = {
    "<class 'int'>": ("true", "yes", "1.5", "null", "[1]", "{}", "x", "''", "2020-01-01"),
    "<class 'bool'>": ("2", "-1", "null", "[true]", "{}", "x", "''", "1.5"),
    "<class 'float'>": ("true", "no", "null", "[1]", "{}", "x", "''", "2020-01-01"),
    "int | None": ("true", "off", "1.5", "[1]", "{}", "x", "''"),
    "float | None": ("true", "on", "[1]", "{}", "x", "''"),
    "tuple": ("1", "[true]", "[x]", "[null]", "{}", "x", "{1: 2}", "null", "[[1]]"),
    "typing.Literal": ("null", "true", "3", "1.5", "[x]", "{}", "x", "''"),
}
"""Values that are not of a type."""


@dataclass
class Recipe:
    """A recipe that is edited.

    Attributes:
        cls: of its configuration.
        text: its content.
        words: of the command line.
        keys: those that the edit is about: nothing else may set them.
        codes: exit codes that are right.
    """

    cls: type
    text: str | bytes
    words: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0, 1, 2)


Edit = Callable[[Random, Recipe, str], None]


def other_value(rng: Random, recipe: Recipe, text: str) -> None:
    """A key has an odd value."""
    _set(recipe, text, {_some_key(rng, recipe, text): rng.choice(VALUES)})


def likely_value(rng: Random, recipe: Recipe, text: str) -> None:
    """One or two keys have another value of about the right type."""
    known = {key: kind for key, kind in known_keys(recipe.cls).items() if not isinstance(kind, type) or kind in LIKELY}
    chosen = rng.sample(sorted(known), rng.choice([1, 2]))
    _set(recipe, text, {key: str(rng.choice(_likely(known[key]))) for key in chosen})


def _likely(kind: Any) -> Sequence[str]:
    """Values of a type; for one of several types, of the first that has some."""
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)
    inside = next((_likely(part) for part in typing.get_args(kind) if part is not types.NoneType), PATHS)
    return LIKELY.get(kind) or LIKELY.get(typing.get_origin(kind)) or inside


def unchanged(rng: Random, recipe: Recipe, text: str) -> None:
    """Nothing is odd: always valid."""
    recipe.codes = (0,)


def other_word(rng: Random, recipe: Recipe, text: str) -> None:
    """A key has an odd value on the command line."""
    key = _some_key(rng, recipe, text)
    recipe.keys = (key,)
    name = rng.choice([key, key, key, key.replace("_", "-"), key[:-1], key.upper(), f"{key}.x", f"{key}+"])
    value = rng.choice(VALUES)
    recipe.words = rng.choice([(f"--{name}={value}",), (f"--{name}", value), (f"--{name}",), (value, f"--{name}")])


def other_path(rng: Random, recipe: Recipe, text: str) -> None:
    """A key that is a path has an odd one."""
    _set(recipe, text, {rng.choice(PATH_KEYS[recipe.cls]): rng.choice(PATHS)})


def two_values(rng: Random, recipe: Recipe, text: str) -> None:
    """Two keys have odd values."""
    _set(recipe, text, {_some_key(rng, recipe, text): rng.choice(VALUES) for _ in range(2)})


def not_finite(rng: Random, recipe: Recipe, text: str) -> None:
    """A number that is none, or no number that there is: never valid."""
    keys = [key for key, kind in known_keys(recipe.cls).items() if "float" in str(kind)]
    _set(recipe, text, {rng.choice(keys): rng.choice([".nan", ".inf", "-.inf", "1e400", "1.0e+400"])})
    recipe.codes = (2,)


def wrong_type(rng: Random, recipe: Recipe, text: str) -> None:
    """A value of another type than the key's: never valid."""
    kinds = {key: str(kind).partition("[")[0] for key, kind in known_keys(recipe.cls).items()}
    key = rng.choice([key for key, kind in kinds.items() if kind in WRONG])
    _set(recipe, text, {key: rng.choice(WRONG[kinds[key]])})
    recipe.codes = (2,)


def moved_key(rng: Random, recipe: Recipe, text: str) -> None:
    """A key is misspelt, in another section, or too deep."""
    content = yaml.safe_load(text)
    section = rng.choice([content, *(part for part in content.values() if isinstance(part, dict))])
    key = rng.choice(list(section))
    value = section.pop(key)
    place = rng.randrange(len(key))
    other = rng.choice([content, *(part for part in content.values() if isinstance(part, dict))])
    new = rng.choice(
        [key, key, f"{key[:place]}{key[place + 1 :]}", f"{key[:place]}x{key[place:]}", key.upper(), f"{key} "]
    )
    other[new] = rng.choice([value, value, {key: value}, [value]])
    recipe.text = yaml.safe_dump(content)


def whole(rng: Random, recipe: Recipe, text: str) -> None:
    """Documents, anchors, merge keys, tags, keys that are no texts, JSON."""
    recipe.text = rng.choice(STRUCTURES)(text)


def duplicate(rng: Random, recipe: Recipe, text: str) -> None:
    """A key is there twice: never valid."""
    lines = text.splitlines(keepends=True)
    tops = [line for line in lines if line[0] not in "# \n" and not line.rstrip().endswith(":")]
    recipe.text = text + rng.choice([*DUPLICATES, rng.choice(tops)])
    recipe.codes = (2,)


def other_lines(rng: Random, recipe: Recipe, text: str) -> None:
    """Lines are gone, twice there, moved, indented, cut."""
    recipe.text = lines_moved(rng, text)


def other_bytes(rng: Random, recipe: Recipe, text: str) -> None:
    """Other encodings and ends of lines."""
    recipe.text = encoded(rng, text)


EDITS: tuple[Edit, ...] = (
    *4 * (other_value,), *6 * (likely_value,), unchanged, *2 * (other_word,), *2 * (other_path,), *2 * (two_values,),
    *2 * (whole,), *2 * (not_finite,), *2 * (wrong_type,), moved_key, duplicate, other_lines, other_bytes,
)  # fmt: skip


def _some_key(rng: Random, recipe: Recipe, text: str) -> str:
    """A key of the recipe or any other, now and then a section."""
    present = [key for key, _ in _dotted(yaml.safe_load(text))]
    return rng.choice(rng.choice([present, list(known_keys(recipe.cls))]))


def _dotted(content: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    return [
        pair
        for key, value in content.items()
        for pair in (_dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)])
    ]


def _set(recipe: Recipe, text: str, values: Mapping[str, str]) -> None:
    """Put values, as YAML, at dotted keys."""
    content = yaml.safe_load(text)
    for number, key in enumerate(values):
        *sections, last = key.split(".")
        part = content
        for section in sections:
            inner = part.get(section)
            part[section] = part = inner if isinstance(inner, dict) else {}
        part[last] = f"VALUE{number}"
    recipe.text = yaml.safe_dump(content, sort_keys=False, width=10**9)
    for number, value in enumerate(values.values()):
        recipe.text = recipe.text.replace(f"VALUE{number}", value)
    recipe.keys = tuple(values)


def _write(recipe: Recipe, work: Path) -> None:
    (work / "dangling").symlink_to("nowhere")
    content = recipe.text if isinstance(recipe.text, bytes) else recipe.text.encode("utf-8", "surrogateescape")
    (work / "recipe.yaml").write_bytes(content)


COUNTS_FOR = {"data.name": "data.", "model.name": "model."}
"""Options that count only for one value of a key."""


def _unless_edited(keys: Mapping[str, str], recipe: Recipe) -> tuple[str, ...]:
    """Options, without those that would hide the edit; what bounds the run stays."""
    if recipe.codes == (2,):
        # Nothing is run, and a key may count only beside others that an option would change.
        return ()
    edited = set(recipe.keys) - {"max_steps", "epochs"}
    prefixes = [COUNTS_FOR.get(key, f"{key}.") for key in edited]
    hidden = {key for key in keys if key in edited or key.startswith(tuple(prefixes))}
    return options({key: value for key, value in keys.items() if key not in hidden})


RUN = {
    **TINY,
    **SYNTHETIC,
    "run_dir": "run",
    "global_batch_size": "null",
    "epochs": "1",
    "model.zero_gamma": "false",
    "tuner.windows": "1",
    "tuner.window_seconds": "0.001",
    "tuner.max_learners": "2",
    # Kernels would take half a minute to make.
    "compile_backend": "eager",
}
"""What bounds the run of any recipe."""


def _is_study(recipe: Path) -> bool:
    """Whether a recipe is one of a study."""
    return "batch_sizes" in yaml.safe_load(recipe.read_text())


def make_run(rng: Random, work: Path, sound: Path) -> Case:
    """Edit a recipe of a run; print and train it, or make a job script of it."""
    original = rng.choice([path for path in sorted((ROOT / "jobs").rglob("*.yaml")) if not _is_study(path)])
    recipe, note = _edited(rng, RunConfig, original)
    _write(recipe, work)
    words = (*_unless_edited(RUN, recipe), *recipe.words)
    if rng.random() < 0.1:
        submit = ("hpcsgd", "submit", "recipe.yaml", "--site", "generic", "--nodes", "1", "--", *recipe.words)
        return Case(note, (Command(submit, recipe.codes),))
    makes = ("*", "~/*") if {"run_dir", "data.stage_dir"} & {*recipe.keys} else run_makes("run")
    return Case(note, _print_and_run(("hpcsgd", "train"), recipe, words, makes))


def make_study(rng: Random, work: Path, sound: Path) -> Case:
    """Edit a recipe of a study; print it and run it."""
    original = rng.choice([path for path in sorted((ROOT / "jobs").rglob("*.yaml")) if _is_study(path)])
    recipe, note = _edited(rng, StudyConfig, original)
    sizes = yaml.safe_load(original.read_text())["batch_sizes"][:2]
    _write(recipe, work)
    keys = {key: value for key, value in STUDY.items() if not key.startswith("space")}
    keys |= {"study_dir": "study", "trials": "1", "batch_sizes": str(sizes), "data.synthetic_train_samples": "200"}
    makes = ("*", "~/*") if "study_dir" in recipe.keys else ("study", "study/*")
    words = (*_unless_edited(keys, recipe), *recipe.words)
    return Case(note, _print_and_run(("hpcsgd", "study", "run"), recipe, words, makes))


def _edited(rng: Random, cls: type, original: Path) -> tuple[Recipe, str]:
    """An edited recipe, and what was done."""
    edit, text = rng.choice(EDITS), original.read_text()
    recipe = Recipe(cls, text)
    edit(rng, recipe, text)
    return recipe, f"{original.name}: {edit.__name__} {', '.join(recipe.keys)}"


def _print_and_run(
    command: Sequence[str], recipe: Recipe, words: Sequence[str], makes: tuple[str, ...]
) -> tuple[Command, ...]:
    printed = Command((*command, "recipe.yaml", "--print_config", *recipe.words), recipe.codes)
    return printed, Command((*command, "recipe.yaml", *words), recipe.codes, makes=makes)
