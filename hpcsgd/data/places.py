"""Where a data set's files may lie, and how they are called."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hpcsgd.config import DataConfig
from hpcsgd.config.paths import resolved
from hpcsgd.data.published import Layout, Published
from hpcsgd.errors import UsageError

_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


def cache_dir(name: str) -> Path:
    """The user's cache directory of data set ``name``: where ``fetch`` brings it by default.

    Raises:
        UsageError: the user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return resolved("the cache's directory", base) / "hpcsgd" / "data" / name


def own_place(config: DataConfig, what: str) -> Path:
    """``data.dir`` of a data set of the user's own, which is ``what``.

    Raises:
        UsageError: it is not given, or no path.
    """
    if config.dir is None:
        raise UsageError(f"data.name is {config.name}, but no data.dir is given: name {what}")
    return resolved("data.dir", config.dir)


def is_elsewhere(config: DataConfig) -> bool:
    """Whether ``data.dir`` is given and not on this machine."""
    return config.dir is not None and not Path(config.dir).exists()


def search_dirs(wanted: Published, explicit: str | None = None) -> list[Path]:
    """The directories that may hold the files of ``wanted``, best first: only ``explicit``, where it is given.

    Raises:
        UsageError: ``explicit`` or the variable ``HPCSGD_DATA`` cannot be a place.
    """
    if explicit is not None:
        return [resolved("data.dir", explicit)]
    places = []
    if os.environ.get("HPCSGD_DATA"):
        root = resolved("HPCSGD_DATA", os.environ["HPCSGD_DATA"])
        if not root.is_dir():
            raise UsageError(f"HPCSGD_DATA is {root}, which is no directory: name one with a folder for each data set")
        places.append(root / wanted.name)
    places.append(Path("data") / wanted.name)
    with contextlib.suppress(UsageError):
        # Without a home there is no cache; the data may be elsewhere.
        places.append(cache_dir(wanted.name))
    if wanted.debian is not None:
        places.append(wanted.debian[1])
    return places


def file_names(file: str) -> tuple[str, ...]:
    """The names that a published file goes by: as it is, with a dot for a dash before ``idx``, and gzipped."""
    plain = dict.fromkeys((file, file.replace("-idx", ".idx")))
    return tuple(name + suffix for suffix in ("", ".gz") for name in plain)


def existing_file(folder: Path, file: str) -> Path | None:
    """The file in ``folder``, by any of its names; None where there is none."""
    return next((path for name in file_names(file) if (path := folder / name).is_file()), None)


def _folders(layout: Layout, place: Path) -> list[Path]:
    """The folders of ``place`` that may have the files."""
    return [place, *(place / name for name in layout.subfolders)]


def find_layout(wanted: Published, place: Path) -> tuple[Path, Layout] | None:
    """The folder in ``place`` (itself or an archive's usual subfolder) that has every file of one layout."""
    for layout in wanted.layouts:
        for folder in _folders(layout, place):
            if all(existing_file(folder, file) for file in layout.files):
                return folder, layout
    return None


def find(wanted: Published, explicit: str | None = None) -> tuple[Path, Layout] | None:
    """The folder of the files of ``wanted`` and their layout, in ``explicit`` or the usual places; None: nowhere."""
    for place in search_dirs(wanted, explicit):
        found = find_layout(wanted, place)
        if found is not None:
            return found
    return None


def locate(wanted: Published, explicit: str | None = None) -> tuple[Path, Layout]:
    """Find the files of a data set.

    Args:
        wanted: the data set.
        explicit: the only directory to look in; None searches the usual places.

    Returns:
        The folder of the files and their layout.

    Raises:
        UsageError: no place has all files; the text says what each place lacks and how to fetch them.
    """
    found = find(wanted, explicit)
    if found is not None:
        return found
    name, places = wanted.name, search_dirs(wanted, explicit)
    searched = "; ".join(f"{place} ({describe_lack(wanted, place)})" for place in places)
    hint = "name another data.dir" if explicit is not None else "set data.dir"
    raise UsageError(
        f"data set {name} was not found. Searched: {searched}. Fetch it with `hpcsgd data fetch {name}`, or {hint}."
    )


def describe_lack(wanted: Published, place: Path) -> str:
    """What keeps ``place`` from being used, in a few words."""
    if not place.is_dir():
        return "a file, not a directory" if place.exists() else "no such directory"
    lacks = []
    for layout in wanted.layouts:
        for folder in _folders(layout, place):
            lacks.append([file for file in layout.files if existing_file(folder, file) is None])
    fewest = min(lacks, key=len)
    more = f" and {len(fewest) - 1} more" if len(fewest) > 1 else ""
    archives = sorted(path.name for path in place.iterdir() if path.name.endswith(_ARCHIVES))
    return f"lacks {fewest[0]}{more}" + (f"; it has {archives[0]}: unpack it there" if archives else "")
