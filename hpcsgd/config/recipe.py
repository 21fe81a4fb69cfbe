"""From a recipe and the command line to a configuration, of a run or of a study: defaults < recipe < command line."""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hpcsgd.config import RunConfig, plain_yaml
from hpcsgd.config.check import PATH, is_among, used_with_keys
from hpcsgd.config.explain import explain
from hpcsgd.config.own import (
    free_key,
    free_keys,
    import_paths,
    merged,
    plain_key,
    plain_words,
    take_free,
    with_free,
)
from hpcsgd.config.paths import resolved
from hpcsgd.config.shipped import find_recipe
from hpcsgd.config.study import StudyConfig
from hpcsgd.errors import UsageError, nearest

C = TypeVar("C")

ODD_NUMBER = re.compile(r"(?<![\w.:+-])[-+]?(0[0-9]+|[0-9]+(_[0-9]+)+|[0-9]+(:[0-9]+)+)(?![\w.:])")
COMMANDS = {"RunConfig": "train", "StudyConfig": "study run"}
"""The command that reads recipes of each configuration."""


def load_config(recipe: str | None, overrides: list[str]) -> RunConfig:
    """The run that ``recipe`` and ``overrides`` tell; see :func:`load`."""
    return load(RunConfig, recipe, overrides)


def load(cls: type[C], recipe: str | None, overrides: list[str]) -> C:
    """Read ``recipe`` (None: only defaults) and apply ``--dotted.key value`` or ``--dotted.key=value`` overrides.

    Args:
        cls: dataclass of the configuration.
        recipe: path of a YAML file, or the name of one that comes with hpcsgd.
        overrides: words of the command line.

    Raises:
        UsageError: an unreadable recipe, an unknown key, a wrong type or an impossible value; names the place.
    """
    from jsonargparse import ArgumentError

    path = find_recipe(recipe) if recipe is not None else None
    content = read_recipe(path) if path is not None else {}
    known, free = known_keys(cls), free_keys(cls)
    _check_command(cls, content, str(recipe))
    given = _check_keys(cls, _dotted(content, known), str(recipe))
    where = "the command line"
    try:
        overrides, own = take_free(plain_words(overrides, free), free)
        options = dict(_options(overrides))
        _check_keys(cls, ((key, None) for key in (*options, *own)), where)
        given = _of_other_choices_left_out(cls, given, options)
        own = merged([*((key, value) for key, value in given.items() if free_key(key, free)), *own.items()], free)
        given = {key: value for key, value in given.items() if not free_key(key, free)}
        _check_numbers(given, known, str(recipe))
        _check_numbers(options, known, where)
        where = str(recipe) if recipe is not None else "without a recipe"
        parser = make_parser(cls)
        parsed = parser.parse_object(_nested(given, known), defaults=True)
        if overrides:
            where = "the command line" if recipe is None else f"{recipe} with the command line"
            parsed = parser.parse_args(overrides, namespace=parsed)
        return _with_place(cls(**with_free(vars(parser.instantiate(parsed)), own)), path)
    except (ArgumentError, ValueError, TypeError) as error:
        raise UsageError(f"{where}: {explain(str(error), known)}") from error


def read_recipe(path: Path) -> dict[str, Any]:
    """The content of a YAML recipe.

    Raises:
        UsageError: there is no such file, or it is no YAML mapping.
    """
    import yaml

    try:
        content = plain_yaml.load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the recipe {path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must be a mapping of keys to values, not {type(content).__name__}")
    return content


def to_yaml(config: Any) -> str:
    """The whole configuration as a recipe that gives it again."""
    import yaml

    return str(yaml.safe_dump(to_dict(config), sort_keys=False))


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested dicts and lists of plain values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        return list(value) if isinstance(value, tuple) else value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result


def check_paths(config: Any, prefix: str = "") -> None:
    """Refuse paths with variables that are not set here, where the configuration is put to work.

    Raises:
        UsageError: names the key and the variable.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check_paths(value, f"{prefix}{field.name}.")
        elif value is not None and field.metadata.get(PATH):
            resolved(prefix + field.name, value)


def known_keys(cls: type = RunConfig, prefix: str = "") -> dict[str, Any]:
    """All dotted keys of a recipe with their types, sections too."""
    hints = typing.get_type_hints(cls)
    keys: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        keys[prefix + field.name] = kind
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            keys |= known_keys(kind, f"{prefix}{field.name}.")
    return keys


def make_parser(cls: type = RunConfig) -> Any:
    """The jsonargparse parser of all keys."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"hpcsgd {COMMANDS[cls.__name__]} RECIPE", exit_on_error=False, default_env=False)
    parser.add_class_arguments(cls, as_group=False)
    return parser


def _dotted(content: Mapping[Any, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested mappings, with their values; a mapping that is a value is not gone into."""
    for key, value in content.items():
        full = f"{prefix}{key}"
        if isinstance(value, str) and f"{full}.init_args" in known:
            yield f"{full}.name", value
            continue
        yield plain_key(full, known), value
        is_value = full in known and not dataclasses.is_dataclass(known[full])
        if isinstance(value, dict) and not is_value:
            yield from _dotted(value, known, f"{full}.")


def _with_place(config: C, recipe: Path | None) -> C:
    """A configuration with import paths has a directory to look for them in: unless it says one, its recipe's."""
    if recipe is None or not import_paths(config) or getattr(config, "import_from", "") is not None:
        return config
    changed: C = dataclasses.replace(config, import_from=str(recipe.parent))  # type: ignore[type-var]
    return changed


def _options(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The keys and values of ``--key=value`` and ``--key value``."""
    for word, following in itertools.zip_longest(overrides, overrides[1:], fillvalue=""):
        if word.startswith("--"):
            key, sign, value = word[2:].partition("=")
            yield key, value if sign else following


def _check_numbers(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Refuse texts that are read as other numbers than they look, where a key is no text.

    The parser reads ``010`` as 8 or as 10, ``1:30`` as 90 and ``1_0`` as 10 (YAML 1.1), by where it stands.
    """
    for key, value in given.items():
        found = ODD_NUMBER.search(value) if isinstance(value, str) else None
        if found and str not in (known[key], *typing.get_args(known[key])):
            raise UsageError(f"{where}: {key} is {value}: write {found[0]} as a plain decimal number")


def _nested(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings, whichever way they were written."""
    content: dict[str, Any] = {}
    for key, value in given.items():
        if not dataclasses.is_dataclass(known[key]):
            section = content
            *outer, name = key.split(".")
            for part in outer:
                section = section.setdefault(part, {})
            section[name] = value
    return content


def _of_other_choices_left_out(cls: type, given: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """A recipe's keys without those of a choice that the command line has replaced.

    ``data.synthetic_shape`` belongs to ``data.name: synthetic``: with ``--data.name mnist`` it goes too.
    """
    left = dict(given)
    for key, (switch, values, default) in used_with_keys(cls).items():
        replaced = switch in options and not is_among(options[switch], values)
        gone = switch in given and switch not in left and not is_among(default, values)
        if key not in options and (replaced or gone):
            left.pop(key, None)
    for key in free_keys(cls):
        name = f"{key.rpartition('.')[0]}.name"
        if name in options and options[name] != left.get(name):
            left = {other: value for other, value in left.items() if free_key(other, {key}) is None}
    return left


def _check_command(cls: type, content: Mapping[Any, Any], where: str) -> None:
    """Refuse a recipe of another command: all the keys that are unknown here are known there."""
    unknown = content.keys() - known_keys(cls).keys()
    for other in (RunConfig, StudyConfig):
        if unknown and unknown <= known_keys(other).keys():
            key, right, wrong = sorted(unknown)[0], COMMANDS[other.__name__], COMMANDS[cls.__name__]
            raise UsageError(f"{where} is a recipe of hpcsgd {right}, not of hpcsgd {wrong}: it has the key {key}")


def _check_keys(cls: type, items: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """The keys with their values.

    Raises:
        UsageError: an unknown key (names the nearest known one), a key given in two ways, or a section that is no
            mapping of keys.
    """
    known = known_keys(cls)
    given: dict[str, Any] = {}
    for key, value in items:
        if key in given:
            raise UsageError(f"{where}: {key} is given twice, in its section and with dots: give it once")
        given[key] = value
        if key not in known and not free_key(key, free_keys(cls)):
            otherwise = f"hpcsgd {COMMANDS[cls.__name__]} --help lists the keys"
            # A right name in the wrong section, or without one, is nearest of all.
            same = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
            hint = nearest(key, same, nearest(key.replace("-", "_"), known, otherwise, cutoff=0.5), cutoff=0)
            raise UsageError(f"{where}: unknown key {key}; {hint}")
        if dataclasses.is_dataclass(known.get(key)) and not isinstance(value, dict):
            inside = ", ".join(k for k in known if k.startswith(f"{key}."))
            raise UsageError(f"{where}: {key} is a section, not a value; its keys are {inside}")
    return given


def print_help(cls: type = RunConfig) -> None:
    """Print all keys of a recipe with their meaning and defaults."""
    parser = make_parser(cls)
    parser.usage = f"hpcsgd {COMMANDS[cls.__name__]} [RECIPE] [--print_config] [--KEY VALUE ...]"
    parser.print_help()


def dotted(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested mappings with the values that are no mappings."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
