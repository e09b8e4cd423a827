"""The compiled form of `ingest.xor`: one loop per chunk, chunks in parallel. Needs numba."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True)
def _bits(content, at, count):
    """Some bits from a bit position on, as a number."""
    found = np.uint64(0)
    left = count
    while left > 0:
        byte = content[at >> 3]
        free = 8 - (at & 7)
        take = min(free, left)
        part = (byte >> (free - take)) & ((1 << take) - 1)
        found = (found << np.uint64(take)) | np.uint64(part)
        at += take
        left -= take
    return found


@njit(cache=True)
def _varint(content, at):
    """A number in bytes of seven bits, low ones first, and where it ends."""
    number = np.uint64(0)
    for place in range(10):
        byte = _bits(content, at, 8)
        at += 8
        number |= (byte & np.uint64(127)) << np.uint64(7 * place)
        if byte < 128:
            break
    return number, at


@njit(cache=True)
def _change(content, at):
    """The change of the time's delta, and where its code ends."""
    size = 0
    if _bits(content, at, 1) == 0:
        return np.int64(0), at + 1
    if _bits(content, at + 1, 1) == 0:
        at, size = at + 2, 14
    elif _bits(content, at + 2, 1) == 0:
        at, size = at + 3, 17
    elif _bits(content, at + 3, 1) == 0:
        at, size = at + 4, 20
    else:
        return np.int64(_bits(content, at + 4, 64)), at + 68
    found = np.int64(_bits(content, at, size))
    if found > (1 << (size - 1)):
        found -= 1 << size
    return found, at + size


@njit(cache=True)
def _chunk(content, at, end, count, times, values):
    """The samples of one chunk; False where it ends too early."""
    number, at = _varint(content, at)
    time = np.int64(number >> np.uint64(1)) ^ -np.int64(number & np.uint64(1))
    value = _bits(content, at, 64)
    at += 64
    if at > end:
        return False
    times[0], values[0] = time, value
    delta = np.int64(0)
    leading, trailing = 0, 0
    for place in range(1, count):
        if at >= end:
            return False
        if place == 1:
            number, at = _varint(content, at)
            delta = np.int64(number)
        else:
            change, at = _change(content, at)
            delta += change
        time += delta
        if _bits(content, at, 1) == 0:
            at += 1
        else:
            if _bits(content, at + 1, 1) == 1:
                leading = np.int64(_bits(content, at + 2, 5))
                size = np.int64(_bits(content, at + 7, 6))
                trailing = 64 - leading - (64 if size == 0 else size)
                if trailing < 0:
                    return False
                at += 13
            else:
                at += 2
            width = 64 - leading - trailing
            if at + width > end:
                return False
            value ^= _bits(content, at, width) << np.uint64(trailing)
            at += width
        if at > end:
            return False
        times[place], values[place] = time, value
    return True


@njit(cache=True, parallel=True, nogil=True)
def decode(content, starts, ends, counts, first, times, values):
    """Fill times (ms) and values (bits) of all chunks; False where one ends too early."""
    sound = np.ones(len(starts), np.bool_)
    for place in prange(len(starts)):
        if counts[place] > 0:
            low, high = first[place], first[place + 1]
            sound[place] = _chunk(
                content,
                (starts[place] + 2) * 8,
                ends[place],
                counts[place],
                times[low:high],
                values[low:high],
            )
    return sound.all()


@njit(cache=True)
def _number(data, at):
    """A protobuf varint and where it ends; -1 for one that is too long or too great."""
    value = np.int64(0)
    shift = 0
    while at < len(data) and shift < 63:
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return np.int64(-1), at


@njit(cache=True)
def _field(data, at):
    """A field's number, its value (or length), whether it has a length, and where that begins;
    the number is -1 where it cannot be read."""
    key, at = _number(data, at)
    value, at = _number(data, at)
    if key < 0 or value < 0 or (key & 7 != 0 and key & 7 != 2):
        return np.int64(-1), value, False, at
    return key >> 3, value, key & 7 == 2, at


@njit(cache=True)
def frames(data):
    """The chunks of a stream of frames: where each lies, its type and its series; and where the
    labels of each series lie. `sound` is False where a field reaches beyond the end."""
    most = len(data) // 4 + 1
    chunks = np.empty((most, 4), np.int64)
    series = np.empty((most, 2), np.int64)
    found, known, at, sound = 0, 0, 0, True
    while at < len(data) and sound:
        size, at = _number(data, at)
        stop = at + 4 + size
        sound = size >= 0 and stop <= len(data)
        at += 4
        while at < stop and sound:
            number, value, long, at = _field(data, at)
            sound = number >= 0 and (not long or value <= stop - at)
            if not sound or not long:
                continue
            end = at + value
            if number != 1:
                at = end
                continue
            if known >= most:
                sound = False
                break
            series[known, 0], series[known, 1] = at, at
            while at < end and sound:
                number, value, long, at = _field(data, at)
                sound = number >= 0 and (not long or value <= end - at)
                if not sound or not long:
                    continue
                high = at + value
                if number == 1:
                    series[known, 1] = high
                elif number == 2:
                    if found >= most:
                        sound = False
                        break
                    chunks[found, 3] = known
                    chunks[found, 0], chunks[found, 1], chunks[found, 2] = 0, 0, 0
                    while at < high and sound:
                        number, value, long, at = _field(data, at)
                        sound = number >= 0 and (not long or value <= high - at)
                        if long and sound:
                            chunks[found, 0], chunks[found, 1] = at, at + value
                            at += value
                        elif number == 3:
                            chunks[found, 2] = value
                    found += 1
                at = high
            known += 1
            at = end
    return chunks[:found], series[:known], sound
