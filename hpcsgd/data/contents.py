"""What a file is, by its first bytes: for messages on files that are not what their names say."""

from __future__ import annotations

GZIP = b"\x1f\x8b"
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file (git lfs pull brings it)"),
    (GZIP, "a gzip file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"BZh91AY&SY", "a bzip2 file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    *((bytes([0x80, protocol]), "a pickle") for protocol in range(2, 6)),
)
_TAR = slice(257, 262)


def by_signature(content: bytes | bytearray) -> str | None:
    """What ``content`` is, if it begins as files of a known format that is no text; a pointer of Git LFS too."""
    start = bytes(content[:512])
    for signature, what in _SIGNATURES:
        if start.startswith(signature):
            return what
    return "a tar archive" if start[_TAR] == b"ustar" else None


def describe(content: bytes | bytearray) -> str | None:
    """What ``content`` is, in a few words; None where that is not known."""
    start = bytes(content[:512])
    if not start:
        return "an empty file"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (perhaps of an error, or of a login)"
    known = by_signature(content)
    if known is None and start[:4].isascii() and start[:4].decode("ascii").isprintable():
        return "a text"
    return known


def not_expected(content: bytes | bytearray) -> str:
    """``: it is WHAT`` for the end of a message; empty where that is not known."""
    what = describe(content)
    return f": it is {what}" if what else ""
