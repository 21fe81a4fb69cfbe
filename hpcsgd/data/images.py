"""Image files, read by Pillow and brought to one size.

What an image is made of, and what is lost of it, is told and never silent. Gray and palette images are RGB without a
loss. Transparency is dropped, CMYK and the like are converted by Pillow's formulas, 16 bits a colour become 8, and of
several frames the first is taken: each is counted. So is an orientation that EXIF asks for, which is not applied, as
in torchvision's ``ImageFolder`` and in Goyal's pipeline. A gray image of more than 8 bits has no such rule (its range
is not known) and is refused.
"""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcsgd.data.remarks import printable
from hpcsgd.errors import UsageError
from hpcsgd.record.encoded import CHANNELS

__all__ = ["CHANNELS", "BadImageError", "check_pillow", "decode", "read_all", "read_file", "read_image", "why"]

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

LONGEST = 32
"""Sides that are further apart have their middle cut out before they are resized, not after: else one of 1 x 6000
takes a gigabyte. The pixels are the same but for the rounding of where they come from."""

_ORIENTATION = 0x0112
_WIDE_MODES = ("I", "F")
_WIDE_ENDINGS = (";16B", ";16L", ";16N")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_LOSSLESS_MODES = ("1", "L", "P", "RGB", *_ALPHA_MODES)
_OF_THE_FILE = {errno.ENOENT, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}
"""Errors of one file, as a link to nowhere; others, as a file system that is gone, are of all files."""


class BadImageError(UsageError):
    """A file is no image that can be read: this one, whatever is with the others."""


def check_pillow() -> None:
    """Say what to install where Pillow is missing.

    Raises:
        UsageError: it is.
    """
    if importlib.util.find_spec("PIL") is None:
        raise UsageError("images are read by Pillow, which is not installed: pip install pillow")


def read_image(file: Path, size: int, changes: Counter[str]) -> NDArray[np.uint8]:
    """An image, its shorter side brought to ``size`` and its middle cut out: uint8 [size, size, 3].

    Args:
        file: an image in any format that Pillow knows, whatever its ending.
        size: height and width.
        changes: counts what is lost or not applied of an image.

    Raises:
        BadImageError: the file is damaged, empty, no image, too large, or of pixels that do not go into 8 bits.
        UsageError: the machine cannot read it.
    """
    return _read(file, file, size, changes)


def read_file(file: Path, size: int, changes: Counter[str]) -> tuple[bytes, NDArray[np.uint8]]:
    """The bytes of a file, and the image that they are; see :func:`read_image`."""
    try:
        _check_file(file)
        content = file.read_bytes()
    except OSError as error:
        raise _as_told(file, error) from error
    return content, _read(file, content, size, changes)


def decode(content: bytes, size: int) -> NDArray[np.uint8]:
    """The image that the bytes of a file are, as :func:`read_image` gives it; what is lost of it is not told again.

    To be called by any thread: most of the work is done without the lock of the interpreter.

    Raises:
        Exception: of any kind, where they are damaged.
    """
    from PIL import Image

    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
        return np.asarray(_middle(opened if opened.mode == "RGB" else opened.convert("RGB"), size))


def _read(file: Path, source: Path | bytes, size: int, changes: Counter[str]) -> NDArray[np.uint8]:
    """An image, from the file itself or from its bytes; see :func:`read_image`."""
    try:
        _check_file(file)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", "Palette images with Transparency")  # counted by us
            seen: Counter[str] = Counter()
            image = _middle(_as_rgb(file, source, seen), size)
    except UsageError:
        raise
    except Exception as error:  # Pillow's readers raise errors of any kind on files that are damaged
        raise _as_told(file, error) from error
    seen.update({f"Pillow: {_one_line(warning.message)}" for warning in told if _matters(warning)})
    changes.update(seen.keys())
    return np.asarray(image, np.uint8)


def _as_told(file: Path, error: Exception) -> UsageError:
    """What the user is told of a file that cannot be read."""
    number = getattr(error, "errno", None)
    of_machine = isinstance(error, MemoryError) or not (number is None or number in _OF_THE_FILE)
    kind = UsageError if of_machine else BadImageError
    return kind(f"cannot read the image {printable(file)}: {why(error)}")


def _check_file(file: Path) -> None:
    """Refuse what is no file (to open a pipe is to wait for ever), and an empty one."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadImageError(f"cannot read the image {printable(file)}: it is no regular file")
    if status.st_size == 0:
        raise BadImageError(f"cannot read the image {printable(file)}: it is empty")


def _as_rgb(file: Path, source: Path | bytes, seen: Counter[str]) -> Image:
    """The first frame of an image as RGB; ``seen`` gets what is lost."""
    from PIL import Image

    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
        if opened.mode.startswith(_WIDE_MODES):
            raise BadImageError(
                f"cannot read the image {printable(file)}: its pixels (mode {opened.mode}) have more than 8 bits, of a "
                "range that is not known: scale it to 8 bits first"
            )
        if any(_is_wide(tile[0], tile[3]) for tile in opened.tile):
            seen["16 bits a colour, brought to 8"] += 1
        image = opened.convert("RGB")
        if _is_transparent(opened):
            seen["transparency, which is dropped"] += 1
        if opened.mode not in _LOSSLESS_MODES:
            seen[f"{opened.mode} colours, converted by Pillow"] += 1
        _look_beside(opened, seen)
    return image


def _is_wide(codec: str, how: object) -> bool:
    """Whether the stored colours have more than 8 bits, from what Pillow's decoder is told of them."""
    words = how if isinstance(how, tuple) else (how,)
    if codec.startswith("ppm"):
        return any(isinstance(word, int) and word > 255 for word in words)
    return any(isinstance(word, str) and word.endswith(_WIDE_ENDINGS) for word in words)


def _look_beside(opened: Image, seen: Counter[str]) -> None:
    """What there is in a file beside the pixels that are taken."""
    try:
        if getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO":
            seen["several frames, of which the first is taken"] += 1
        if opened.getexif().get(_ORIENTATION, 1) != 1:
            seen["an EXIF orientation, which is not applied"] += 1
    except Exception:  # as above; the pixels are read, and are right
        seen["more frames or EXIF data that cannot be read"] += 1


def _is_transparent(opened: Image) -> bool:
    """Whether any pixel of an image that is loaded is less than opaque."""
    if not ("transparency" in opened.info or opened.mode in _ALPHA_MODES):
        return False
    return opened.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _middle(image: Image, size: int) -> Image:
    """The middle of an RGB image whose shorter side is brought to ``size``."""
    from PIL.Image import Resampling

    shorter = min(image.size)
    if max(image.size) > LONGEST * shorter:
        left, top = ((side - shorter) / 2 for side in image.size)
        return image.resize((size, size), Resampling.BILINEAR, (left, top, left + shorter, top + shorter))
    scale = size / shorter
    width, height = (max(size, round(side * scale)) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size)) if max(width, height) > size else image


def _matters(warning: warnings.WarningMessage) -> bool:
    """Whether Pillow warns of the content of a file; not of its size, or of Pillow's own plans."""
    from PIL.Image import DecompressionBombWarning

    return not issubclass(warning.category, DecompressionBombWarning | DeprecationWarning | ResourceWarning)


def why(error: Exception) -> str:
    """Why an image cannot be read, without its name."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is in no format that Pillow knows"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return _one_line(error)


def _one_line(error: object) -> str:
    """The text of an error or a warning, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def read_all(
    samples: Sequence[tuple[Path, int]],
    read: Callable[[Path, int, Counter[str]], T],
    size: int,
    changes: Counter[str],
    show: Callable[[], object] = lambda: None,
    skip: Callable[[BadImageError], object] | None = None,
) -> Iterator[tuple[T, int]]:
    """Images with their labels, in order.

    Args:
        samples: files and labels.
        read: :func:`read_image` or :func:`read_file`.
        size: height and width.
        changes: as for :func:`read_image`.
        show: called after each image.
        skip: called for each file that is bad, which is then left out; None raises the error.
    """
    for file, label in samples:
        try:
            image = read(file, size, changes)
        except BadImageError as error:
            if skip is None:
                raise
            skip(error)
        else:
            yield image, label
        show()
