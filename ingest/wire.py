"""Protobuf on the wire: the few of its fields that Prometheus' messages have, written and read.

https://protobuf.dev/programming-guides/encoding: a field is a key (number << 3 | form) and a
value, of which numbers (form 0) and length-delimited bytes (form 2) are known here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def number_field(number: int, value: int) -> bytes:
    """A field of a number."""
    return bytes([number << 3]) + varint(value)


def bytes_field(number: int, value: str | bytes) -> bytes:
    """A field of a text or of bytes, with its length."""
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; ValueError where it is too long, IndexError where it is cut."""
    value = shift = 0
    while shift < 63:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number that is too long")


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """(field number, where it lies) of each length-delimited field."""
    while at < end:
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key & 7 == 2:
            if at + value > end:
                raise ValueError("a field reaches beyond its message")
            yield key >> 3, (at, at + value)
            at += value
        elif key & 7:
            raise ValueError("a field of a form that no message here has")


def varints(
    block: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Many numbers at once: those that lie at start ≤ place < end."""
    out = np.zeros(len(starts), np.int64)
    padded = np.concatenate([block, np.zeros(10, np.uint8)])
    for index in range(int((ends - starts).max())):
        inside = starts + index < ends
        part = (padded[starts + index] & 0x7F).astype(np.int64) << (7 * index)
        out |= np.where(inside, part, 0)
    return out
