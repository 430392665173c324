"""JSON texts that hold a checksum of themselves, and checksums as text."""

from __future__ import annotations

import zlib
from typing import Any

_DIGITS = 8
_NOTHING = "0" * _DIGITS


def checksum(data: Any, before: int = 0) -> int:
    """CRC-32 of bytes, that of what comes before them given."""
    return zlib.crc32(data, before)


def digits(value: int) -> str:
    """A checksum as text."""
    return f"{value:0{_DIGITS}x}"


def sealed(text: bytes) -> bytes:
    """A text with the checksum of the whole in the place of its first `"checksum": "00000000"`."""
    begin = _place(text)
    return text[:begin] + digits(checksum(text)).encode() + text[begin + _DIGITS :]


def seal(text: bytes) -> str:
    """The checksum that a text holds.

    Raises:
        ValueError: it holds none, or that of another text.
    """
    begin = _place(text)
    end = begin + _DIGITS
    found = text[begin:end].decode("ascii", "replace")
    if found != digits(checksum(text[:begin] + _NOTHING.encode() + text[end:])):
        raise ValueError("its checksum is that of another text")
    return found


def _place(text: bytes) -> int:
    key = b'"checksum": "'
    begin = text.find(key)
    if begin < 0 or begin + len(key) + _DIGITS > len(text):
        raise ValueError("it has no checksum")
    return begin + len(key)
