"""Bring a published data set into a directory, verified."""

from __future__ import annotations

import errno
import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hpcsgd.data.dataset import read_splits
from hpcsgd.data.download import Opener, from_debian_archive, from_web, open_url
from hpcsgd.data.idx import read_bytes
from hpcsgd.data.places import DEBIAN_DIRS, LAYOUTS, cache_dir, describe_lack, existing_file, find_layout
from hpcsgd.data.published import PUBLISHED
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
    if name not in PUBLISHED:
        what = "is made on the fly and needs no files" if name == "synthetic" else "is not known"
        raise UsageError(f"data set {name!r} {what}: choose one of {', '.join(PUBLISHED)}")
    target = (cache_dir(name) if target is None else target.expanduser()).absolute()
    if _is_complete(name, target):
        checked = "verified" if PUBLISHED[name].sha256 else "of the right formats and sizes (no checksums are known)"
        _say(f"{name}: complete and {checked} in {target}")
        return target
    _check_replaceable(name, target)
    attempts = _attempts(name, source, opener)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as work:
            made = _first_that_works(name, attempts, Path(work))
            _install(name, made, target, Path(work) / "old")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error}") from None
    _say(f"{name}: {' + '.join(map(str, PUBLISHED[name].sizes))} samples verified in {target}")
    return target


def verify(name: str, place: Path) -> None:
    """Check that ``place`` has the whole data set ``name``: formats, sizes, and checksums where they are known.

    Raises:
        UsageError: what is wrong.
    """
    found = find_layout(name, place)
    if found is None:
        raise UsageError(f"{place} {describe_lack(name, place)}")
    folder, layout = found
    for file, expected in PUBLISHED[name].sha256.items():
        path = existing_file(folder, file)
        assert path is not None
        digest = hashlib.sha256(read_bytes(path)).hexdigest()
        if digest != expected:
            raise UsageError(f"{path}: the SHA-256 of its content is {digest}, expected {expected}")
    sizes = tuple(len(split.labels) for split in read_splits(name, folder, layout))
    if sizes != PUBLISHED[name].sizes:
        raise UsageError(f"{folder} has {sizes} training and test samples, expected {PUBLISHED[name].sizes}")


def _is_complete(name: str, target: Path) -> bool:
    """Whether ``target`` has the data set, verified."""
    if find_layout(name, target) is None:
        return False
    try:
        verify(name, target)
    except UsageError as error:
        _say(f"{name}: fetching again: {error}")
        return False
    return True


def _check_replaceable(name: str, target: Path) -> None:
    """Refuse a ``target`` that holds anything but (damaged or missing) files of the data set."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file: name a directory")
    own = {file + suffix for layout in LAYOUTS[name] for file in layout.files for suffix in ("", ".gz")}
    foreign = sorted(path.name for path in target.iterdir() if path.name not in own)
    if foreign:
        raise UsageError(f"{target} holds other files ({foreign[0]}): name an empty or a new directory")


def _attempts(name: str, source: str, opener: Opener) -> list[_Attempt]:
    """The sources to try in order: a name, and a function that puts files in a folder and says where they are."""
    published = PUBLISHED[name]

    def installed(work: Path) -> Path:
        return DEBIAN_DIRS[name]

    def debian(work: Path) -> Path:
        from_debian_archive(published.debian_package, work)
        return work / DEBIAN_DIRS[name].relative_to("/")

    def web(work: Path) -> Path:
        from_web(published, work, opener)
        return work

    package = published.debian_package
    from_debian: list[_Attempt] = [(f"package {package}", installed), (f"apt-get download {package}", debian)]
    if source == "web":
        return [("web", web)]
    if source in ("auto", "debian"):
        if not package and source == "debian":
            raise UsageError(f"Debian has no package of {name}: choose web, or a directory that has the files")
        return (from_debian if package else []) + ([("web", web)] if source == "auto" else [])
    directory = Path(source).expanduser()
    if not directory.is_dir():
        raise UsageError(f"source {source!r} is not a directory, and not one of auto, debian, web")
    return [(str(directory), lambda work: directory)]


def _first_that_works(name: str, attempts: list[_Attempt], work: Path) -> Path:
    """Run ``attempts`` until one gives the verified data set, and return the folder in ``work`` that has its files."""
    reasons = []
    for number, (label, attempt) in enumerate(attempts):
        _say(f"{name}: trying {label}")
        obtained, made = work / f"from{number}", work / f"new{number}"
        obtained.mkdir()
        made.mkdir()
        try:
            _copy_plain(name, attempt(obtained), made)
            verify(name, made)
            return made
        except UsageError as error:
            reasons.append(f"{label}: {error}")
    raise UsageError(f"data set {name} could not be fetched. " + "; ".join(reasons))


def _copy_plain(name: str, place: Path, made: Path) -> None:
    """Copy the files of data set ``name`` from ``place`` into ``made``, unzipped."""
    found = find_layout(name, place)
    if found is None:
        raise UsageError(f"{place} {describe_lack(name, place)}")
    folder, layout = found
    for file in layout.files:
        path = existing_file(folder, file)
        assert path is not None
        (made / file).write_bytes(read_bytes(path))


def _install(name: str, made: Path, target: Path, old: Path) -> None:
    """Rename ``made`` to ``target``; what ``target`` held goes to ``old``."""
    made.chmod(0o755)
    if target.exists():
        target.rename(old)
    try:
        made.rename(target)
    except OSError as error:
        # Another process may have fetched the same in the meantime: its copy is as good.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not _is_complete(name, target):
            raise


def _say(text: str) -> None:
    """A line of progress on stderr."""
    print(text, file=sys.stderr)
