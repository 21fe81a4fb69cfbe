"""Command lines of the form ``[RECIPE] [--print_config] [--key value ...]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hpcsgd.config.recipe import print_help, to_yaml
from hpcsgd.errors import UsageError

C = TypeVar("C")


def recipe_of(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The recipe of a command line, which comes first, and the other words."""
    recipe = words[0] if words and not words[0].startswith("-") else None
    return recipe, list(words[recipe is not None :])


def asked(
    words: Sequence[str], cls: type[C], load: Callable[[str | None, list[str]], C]
) -> tuple[str | None, C | None, UsageError | None] | None:
    """The recipe, and its configuration or what is wrong with it; None: only help or the configuration was wanted.

    Raises:
        UsageError: the configuration is to be printed, and something is wrong with it.
    """
    if "-h" in words or "--help" in words:
        print_help(cls)
        return None
    recipe, overrides = recipe_of([word for word in words if word != "--print_config"])
    try:
        config = load(recipe, overrides)
    except UsageError as error:
        if "--print_config" in words:
            raise
        return recipe, None, error
    if "--print_config" in words:
        print(to_yaml(config), end="")
        return None
    return recipe, config, None
