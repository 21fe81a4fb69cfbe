"""What comes with the package beside its modules: recipes, the template and the sites of Slurm, the figures' scripts.

In a checkout they are folders beside the package; pip puts them into ``share/hpcsgd`` of the environment.
"""

from __future__ import annotations

import os
import re
import site
import sysconfig
from itertools import takewhile
from pathlib import Path

import hpcsgd
from hpcsgd.config.paths import resolved
from hpcsgd.errors import UsageError, nearest

SENTENCE = re.compile(r"(?<!al)\.(?:\s|$)|:(?:\s|$)")
"""Where one ends."""


def shipped(folder: str, mark: str) -> Path:
    """The ``folder`` of the checkout, else what pip installed of it; ``mark`` is a file in it.

    Raises:
        UsageError: neither is there.
    """
    installed = [Path(root) / "share" / "hpcsgd" for root in (sysconfig.get_path("data"), site.getuserbase())]
    places = [place / folder for place in (Path(hpcsgd.__file__).parents[1], *installed)]
    for place in places:
        if (place / mark).is_file():
            return place
    raise UsageError(f"{mark} is in none of {', '.join(map(str, places))}: run from a checkout of hpcsgd")


def recipes() -> dict[str, Path]:
    """The recipes that come with hpcsgd, by name: their place in ``jobs/``, without the ending."""
    folder = shipped("jobs", "demo_sync_sgd.yaml")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_recipe(text: str) -> Path:
    """The recipe of a path, or of the name of one that comes with hpcsgd: that in full, or its last part.

    Raises:
        UsageError: there is neither.
    """
    path = resolved("the recipe", text)
    if path.suffix or path.exists() or os.path.isabs(text):
        return path
    known = recipes()
    found = [name for name in known if name == text or name.endswith(f"/{text}")]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise UsageError(f"there are several recipes {text}: {', '.join(found)}")
    last = [name.rpartition("/")[2] for name in known]
    hint = nearest(text, [*known, *last], "hpcsgd recipes lists those that come with hpcsgd")
    raise UsageError(f"{text} is neither a file nor a recipe that comes with hpcsgd; {hint}")


def meaning_of(recipe: Path) -> str:
    """What a recipe says of itself: the first sentence of its comment."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    words = [line.strip("# ") for line in takewhile(lambda line: line.startswith("#") and line.strip("# "), lines)]
    return SENTENCE.split(" ".join(words), maxsplit=1)[0]
