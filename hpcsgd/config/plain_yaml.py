"""YAML of which nothing is read otherwise than it looks: no key twice, and no number or date out of an odd text.

PyYAML keeps the last of two equal keys, reads ``010`` as 8, ``1:30`` as 90, ``no`` as false and ``2026-11-28`` as a
date, and ``1e-3`` as a text (YAML 1.1). Here numbers are decimal, as in YAML 1.2; one with a leading zero, on which the
two disagree, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

NUMBERS = {
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "bool": "true|True|TRUE|false|False|FALSE",
    "null": "~|null|Null|NULL|",
}
"""Plain texts that are no texts, by their tag: the core schema of YAML 1.2."""

LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
MOST_NESTED = 50
MOST_PARTS = 100_000


def load(text: str) -> Any:
    """The content of a YAML document.

    Raises:
        yaml.YAMLError: it is none.
        ValueError: it has a key twice or a number with a leading zero, or is nested too deeply; says where.
    """
    import yaml

    try:
        content = yaml.load(text, Loader=_loader())
        _check_size(content)
    except RecursionError as error:
        raise ValueError("its parts are nested too deeply") from error
    return content


def _check_size(content: Any) -> None:
    """Refuse what contains itself, or unfolds to more than a person writes."""
    parts, seen = [(content, 0)], 0
    while parts:
        part, depth = parts.pop()
        seen += 1
        if depth > MOST_NESTED or seen > MOST_PARTS:
            raise RecursionError
        inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        parts += [(other, depth + 1) for other in inside]


def _loader() -> type[yaml.SafeLoader]:
    """A loader class; PyYAML keeps what a loader knows on its class."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            _refuse_twice(self, node)
            return super().construct_mapping(node, deep)

        def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
            text = str(self.construct_scalar(node))
            if LEADING_ZERO.fullmatch(text):
                line, plain = node.start_mark.line + 1, int(text)
                raise ValueError(f"line {line}: {text} has a leading zero: write {plain}, or '{text}' for a text")
            return int(text, 0)

    for tag, pattern in NUMBERS.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), None)
    Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    return Loader


def _refuse_twice(loader: yaml.SafeLoader, node: yaml.MappingNode) -> None:
    """Raise ``ValueError`` where a mapping has a key twice."""
    import yaml

    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ValueError(f"{key.value} is given twice, in lines {lines[key.value]} and {line}: give it once")
        lines[key.value] = line
