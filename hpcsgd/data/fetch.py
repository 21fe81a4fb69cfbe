"""Bring a published data set into a directory, verified."""

from __future__ import annotations

import errno
import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hpcsgd.config.paths import resolved
from hpcsgd.data.download import Opener, from_debian_archive, from_web, open_url
from hpcsgd.data.idx import read_bytes
from hpcsgd.data.places import cache_dir, describe_lack, existing_file, file_names, find_layout
from hpcsgd.data.sets import find_published
from hpcsgd.data.sets.files import FileSet
from hpcsgd.errors import UsageError

_Attempt = tuple[str, Callable[[Path], Path]]


def fetch(name: str, target: Path | None = None, source: str = "auto", *, opener: Opener = open_url) -> Path:
    """Bring data set ``name`` into ``target``, uncompressed and verified.

    A complete and verified ``target`` is left as it is. Else the files are made in a temporary folder beside it and
    renamed, so that ``target`` never holds half a data set. Progress goes to stderr.

    Args:
        name: data set.
        target: directory to make; None is the user's cache.
        source: a directory that has the files, ``debian`` (the installed package, else its download without root),
            ``web``, or ``auto``: all of these in order.
        opener: opens a web address; for tests.

    Returns:
        The directory.

    Raises:
        UsageError: an unknown name or source, a ``target`` that cannot be written or holds other files, or no
            source worked (the text gives the reason of each).
    """
    wanted = find_published(name)
    target = (cache_dir(name) if target is None else target.expanduser()).absolute()
    if _is_complete(wanted, target):
        checked = "verified" if wanted.sha256 else "of the right formats and sizes (no checksums are known)"
        _say(f"{name}: complete and {checked} in {target}")
        return target
    _check_replaceable(wanted, target)
    attempts = _attempts(wanted, source, opener)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as work:
            made = _first_that_works(wanted, attempts, Path(work))
            _install(wanted, made, target, Path(work) / "old")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error}") from None
    _say(f"{name}: {' + '.join(map(str, wanted.sizes))} samples verified in {target}")
    return target


def verify(wanted: FileSet, place: Path) -> None:
    """Check that ``place`` has the whole data set: formats, sizes, and checksums where they are known.

    Raises:
        UsageError: what is wrong.
    """
    found = find_layout(wanted, place)
    if found is None:
        raise UsageError(f"{place} {describe_lack(wanted, place)}")
    folder, layout = found
    for file, expected in wanted.sha256.items():
        path = existing_file(folder, file)
        assert path is not None
        digest = hashlib.sha256(read_bytes(path)).hexdigest()
        if digest != expected:
            raise UsageError(f"{path}: the SHA-256 of its content is {digest}, expected {expected}")
    sizes = tuple(len(split) for split in wanted.read(folder, layout))
    if sizes != wanted.sizes:
        raise UsageError(f"{folder} has {sizes} training and test samples, expected {wanted.sizes}")


def _is_complete(wanted: FileSet, target: Path) -> bool:
    """Whether ``target`` has the data set, verified."""
    if find_layout(wanted, target) is None:
        return False
    try:
        verify(wanted, target)
    except UsageError as error:
        _say(f"{wanted.name}: fetching again: {error}")
        return False
    return True


def _check_replaceable(wanted: FileSet, target: Path) -> None:
    """Refuse a ``target`` that holds anything but (damaged or missing) files of the data set."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file: name a directory")
    own = {name for layout in wanted.layouts for file in layout.files for name in file_names(file)}
    foreign = sorted(path.name for path in target.iterdir() if path.name not in own)
    if foreign:
        raise UsageError(f"{target} holds other files ({foreign[0]}): name an empty or a new directory")


def _attempts(wanted: FileSet, source: str, opener: Opener) -> list[_Attempt]:
    """The sources to try in order: a name, and a function that puts files in a folder and says where they are."""

    def web(work: Path) -> Path:
        from_web(wanted, work, opener)
        return work

    if source == "web":
        return [("web", web)]
    if source in ("auto", "debian"):
        if wanted.debian is None and source == "debian":
            raise UsageError(f"Debian has no package of {wanted.name}: choose web, or a directory that has the files")
        from_debian = [] if wanted.debian is None else _debian_attempts(*wanted.debian)
        return from_debian + ([("web", web)] if source == "auto" else [])
    directory = resolved("--from", source)
    if not directory.is_dir():
        raise UsageError(f"source {source!r} is not a directory, and not one of auto, debian, web")
    return [(str(directory), lambda work: directory)]


def _debian_attempts(package: str, directory: Path) -> list[_Attempt]:
    """The package where it is installed, else its download."""

    def download(work: Path) -> Path:
        from_debian_archive(package, work)
        return work / directory.relative_to("/")

    return [(f"package {package}", lambda work: directory), (f"apt-get download {package}", download)]


def _first_that_works(wanted: FileSet, attempts: list[_Attempt], work: Path) -> Path:
    """Run ``attempts`` until one gives the verified data set, and return the folder in ``work`` that has its files."""
    reasons = []
    for number, (label, attempt) in enumerate(attempts):
        _say(f"{wanted.name}: trying {label}")
        obtained, made = work / f"from{number}", work / f"new{number}"
        obtained.mkdir()
        made.mkdir()
        try:
            _copy_plain(wanted, attempt(obtained), made)
            verify(wanted, made)
            return made
        except UsageError as error:
            reasons.append(f"{label}: {error}")
    raise UsageError(f"data set {wanted.name} could not be fetched. " + "; ".join(reasons))


def _copy_plain(wanted: FileSet, place: Path, made: Path) -> None:
    """Copy the files of the data set from ``place`` into ``made``, unzipped."""
    found = find_layout(wanted, place)
    if found is None:
        raise UsageError(f"{place} {describe_lack(wanted, place)}")
    folder, layout = found
    for file in layout.files:
        path = existing_file(folder, file)
        assert path is not None
        (made / file).write_bytes(read_bytes(path))


def _install(wanted: FileSet, made: Path, target: Path, old: Path) -> None:
    """Rename ``made`` to ``target``; what ``target`` held goes to ``old``."""
    made.chmod(0o755)
    if target.exists():
        target.rename(old)
    try:
        made.rename(target)
    except OSError as error:
        # Another process may have fetched the same in the meantime: its copy is as good.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not _is_complete(wanted, target):
            raise


def _say(text: str) -> None:
    """A line of progress on stderr."""
    print(text, file=sys.stderr)
