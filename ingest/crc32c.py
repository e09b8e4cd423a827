"""CRC-32C (Castagnoli, RFC 3720), the checksum of remote-read's frames, in columns.

A long message is cut into lanes of 256 bytes, whose checksums are computed side by side; what so
many zero bytes behind a checksum do to it is linear over its bits, so that lanes join in pairs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
_LANE = 256
_BITS = np.arange(32, dtype=np.uint32)


def _tables() -> Words:
    """By a byte, and by how many zero bytes follow it (0 to 7)."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, (first >> 1) ^ np.uint32(0x82F63B78), first >> 1)
    rows = [first]
    for _ in range(7):
        rows.append((rows[-1] >> 8) ^ first[rows[-1] & 255])
    return np.stack(rows)


TABLES = _tables()


def crc32c(data: bytes | npt.NDArray[np.uint8]) -> int:
    """The checksum of a message."""
    message = np.frombuffer(data, np.uint8).copy()
    if len(message) < 4:
        return _short(message)
    message[:4] ^= 255
    count = -(-len(message) // _LANE)
    lanes = np.zeros(count * _LANE, np.uint8)
    lanes[len(lanes) - len(message) :] = message
    found = np.zeros(count, np.uint32)
    for column in np.ascontiguousarray(lanes.reshape(count, _LANE).T):
        found = (found >> 8) ^ TABLES[0][(found ^ column) & 255]
    moved = np.uint32(1) << _BITS
    for _ in range(_LANE):
        moved = (moved >> 8) ^ TABLES[0][moved & 255]
    while len(found) > 1:
        if len(found) % 2:
            found = np.concatenate([np.zeros(1, np.uint32), found])
        found = _apply(moved, found[::2]) ^ found[1::2]
        moved = _apply(moved, moved)
    return int(found[0]) ^ 0xFFFFFFFF


def _apply(linear: Words, words: Words) -> Words:
    """What a linear map, told by where it takes each bit, makes of some words."""
    bits = (words[:, None] >> _BITS) & 1
    found: Words = np.bitwise_xor.reduce(np.where(bits == 1, linear, np.uint32(0)), axis=1)
    return found


def _short(message: npt.NDArray[np.uint8]) -> int:
    found = 0xFFFFFFFF
    for byte in message.tolist():
        found = (found >> 8) ^ int(TABLES[0][(found ^ byte) & 255])
    return found ^ 0xFFFFFFFF
