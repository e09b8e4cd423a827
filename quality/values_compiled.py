"""The compiled form of `quality.values`: values found byte by byte. Needs numba.

Places are unsigned where it counts, for numba looks at every signed one for being negative.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_EQUALS, _QUOTE, _FIELD, _CUT, _KEEP, _HOLE = 61, 34, 1, 2, 4, 255
_OPEN, _CLOSED, _ESCAPE, _SPACE, _ASCII = 123, 125, 92, 32, 127
_0, _1, _BIT, _END = np.uint64(0), np.uint64(1), np.uint32(1), 256
_EIGHT, _REST, _HALF = np.uint64(8), np.uint64(56), np.uint64(32)
_PRIME, _ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@njit(cache=True, nogil=True)
def read(text, offsets, most, longest, word, names, name_ends, kinds, step, starts):
    """Of every line the number of its shape, and the end of its values in `spans` (from, to of
    each); the shapes met (a sign for each value) one after the other, and their ends."""
    lines = len(offsets) - 1
    codes, ends, filled = np.empty(lines, np.int64), np.empty(lines, np.int64), 0
    spans = np.empty(16 * lines + 8 * most + 8, np.int32)
    marked, origin = np.empty(2 * most + 2, np.uint8), np.empty(2 * most + 2, np.int32)
    shape = np.empty(2 * most + 2, np.uint8)
    shapes, shape_ends = np.empty(4 * most + 4096, np.uint8), np.zeros(1024, np.int64)
    keys, table, known = np.empty(1024, np.uint64), np.full(4096, -1, np.int64), 0
    for number in range(lines):
        line = text[offsets[number] : offsets[number + 1]]
        cut = int(len(line) >= longest)
        if filled + 4 * most + 4 > len(spans):
            spans = _longer(spans)
        mine = spans[filled:]
        if cut or _has(line, _EQUALS):
            size = _marked(line, cut, word, names, name_ends, marked, origin)
            count, size, key = _split(marked[:size], word, kinds, step, starts[cut], mine, shape)
            for place in range(count):
                mine[place] = origin[mine[place]]
            size = _unsigned(shape, size)
        else:
            count, size, key = _split(line, word, kinds, step, starts[cut], mine, shape)
        filled += count
        ends[number] = filled // 2
        at = _found(table, key, keys, shapes, shape_ends, shape[:size])
        if table[at] < 0:
            if known + 1 == len(shape_ends):
                keys, shape_ends = _longer(keys), _longer(shape_ends)
            while shape_ends[known] + size > len(shapes):
                shapes = _longer(shapes)
            shapes[shape_ends[known] : shape_ends[known] + size] = shape[:size]
            keys[known], shape_ends[known + 1] = key, shape_ends[known] + size
            table[at], codes[number] = known, known
            known += 1
            if 2 * known > len(table):
                table = _rehashed(keys[:known], 2 * len(table))
        else:
            codes[number] = table[at]
    return codes, ends, spans[:filled], shapes[: shape_ends[known]], shape_ends[: known + 1]


@njit(cache=True, nogil=True)
def filled(text, offsets, ends, spans, codes, lists, recipes, begins, words, word_ends):
    """Every parameter one after the other, and where each begins, and the end."""
    stops, at = np.zeros(lists[-1] + 1, np.int64), 0
    for line in range(len(codes)):
        recipe = recipes[begins[codes[line]] : begins[codes[line] + 1]]
        first = ends[line - 1] if line else 0
        for part in recipe:
            if part >= 0:
                size = spans[2 * (first + part) + 1] - spans[2 * (first + part)]
            else:
                size = word_ends[-part] - word_ends[-1 - part]
            stops[at + 1] = stops[at] + size
            at += 1
    content, at = np.empty(stops[-1], np.uint8), 0
    for line in range(len(codes)):
        recipe = recipes[begins[codes[line]] : begins[codes[line] + 1]]
        first = ends[line - 1] if line else 0
        for part in recipe:
            if part >= 0:
                begin = offsets[line] + spans[2 * (first + part)]
                _copied(text, begin, content[stops[at] : stops[at + 1]])
            else:
                _copied(words, word_ends[-1 - part], content[stops[at] : stops[at + 1]])
            at += 1
    return stops, content


@njit(cache=True)
def spoken(text, offsets, lines, longest, keys, key_ends, fields):
    """Which of some lines are plain JSON objects, what those say one after the other, and where
    each begins, and the end: the texts of the three `fields`, or the whole line where there is no
    message. `fields` says of which field each of the `keys` is."""
    plain, places = np.zeros(len(lines), np.bool_), np.empty((len(lines), 6), np.int32)
    ends = np.zeros(len(lines) + 1, np.int64)
    for number in range(len(lines)):
        line = text[offsets[lines[number]] : offsets[lines[number] + 1]]
        plain[number] = _is_plain(line, longest)
        if plain[number]:
            plain[number] = _parts(line, keys, key_ends, fields, places[number])
        size = 0
        if plain[number]:
            for part in range(0, 6, 2):
                size += places[number, part + 1] - places[number, part] + 1  # none: -1 and -2
            size -= 1
        ends[number + 1] = ends[number] + size
    content = np.empty(ends[-1], np.uint8)
    for number in range(len(lines)):
        at, among = ends[number], False
        for part in range(0, 6 if plain[number] else 0, 2):
            size = places[number, part + 1] - places[number, part]
            if size >= 0:
                if among:
                    content[at] = _SPACE
                    at += 1
                begin = offsets[lines[number]] + places[number, part]
                _copied(text, begin, content[at : at + size])
                at, among = at + size, True
    return plain, content, ends


@njit(cache=True)
def _is_plain(line, longest):
    """Whether a line is a JSON object without escapes, signs or line breaks in it."""
    odd = len(line) >= longest or line[0] != _OPEN or line[len(line) - 1] != _CLOSED
    for byte in line:
        odd |= byte < _SPACE or byte == _ESCAPE
    return not odd


@njit(cache=True)
def _parts(line, keys, key_ends, fields, places):
    """Where the text of each field stands, the first that is one; none: from -1 to -2. False where
    a space may stand that is none of ASCII's."""
    places[:] = -1
    places[1::2] = -2
    for at in range(len(line)):
        start = 0
        if line[at] != _QUOTE:
            continue
        for number in range(len(key_ends)):
            begin, size = start, key_ends[number] - start
            start += size
            after, part = at + 1 + size, 2 * fields[number]
            if after >= len(line) or line[at + 1] != keys[begin] or places[part] >= 0:
                continue
            if not _same(keys[begin:start], line[at + 1 : after]):
                continue
            while after < len(line) and line[after] == _SPACE:
                after += 1
            if after < len(line) and line[after] > _ASCII:
                return False
            if after == len(line) or line[after] != _QUOTE:
                continue
            end = after + 1
            while end < len(line) and line[end] != _QUOTE:
                end += 1
            if end < len(line):
                places[part], places[part + 1] = after + 1, end
    if places[2] < 0:
        places[:] = -1
        places[1::2] = -2
        places[2], places[3] = 0, len(line)
    return True


@njit(cache=True)
def _split(line, word, kinds, step, start, spans, shape):
    """Writes the values (from, to) of a line to `spans`, and the line with a sign for each to
    `shape`; returns how much of either is filled, and a hash of the shape."""
    at, size, count, end, key = _0, _0, _0, np.uint64(len(line)), _0
    after = np.uint8(0)
    while at < end:
        found = _match(line, at, start[after], kinds, step)
        some = _0
        if found > at:
            spans[count], spans[count + _1] = at, found
            count += _1 + _1
            at = found
            after = word[line[at - _1]]
            shape[size] = _HOLE
            size += _1
        else:
            after = word[line[at]]
            while True:
                some = (some << _EIGHT | some >> _REST) ^ np.uint64(line[at])
                shape[size] = line[at]
                size, at = size + _1, at + _1
                if not after or at == end or not word[line[at]]:
                    break  # no value begins within a word
        key = (key ^ some) * _PRIME + _ODD
        key ^= key >> _HALF
    return np.int64(count), np.int64(size), key


@njit(cache=True)
def _match(line, at, row, kinds, step):
    """Where the value that begins here ends; where it begins if there is none."""
    found, place, end = at, at, np.uint64(len(line))
    while place < end:
        told = step[row + kinds[line[place]]]
        if told & _BIT:
            found = place
        if told >> _BIT == row:  # goes on alike: no step waits for the one before
            place += _1
            while place < end and step[row + kinds[line[place]]] == told:
                place += _1
            if told & _BIT:
                found = place - _1
            continue
        row = told >> _BIT
        if row == 0:
            return found
        place += _1
    return end if step[row + kinds[_END]] & _BIT else found


@njit(cache=True)
def _marked(line, cut, word, names, name_ends, marked, origin):
    """Writes the line with `masks.read`'s signs, and where each byte comes from; its length."""
    size, at = 0, 0
    while at < len(line):
        marked[size], origin[size] = line[at], at
        size, at = size + 1, at + 1
        if line[at - 1] == _EQUALS:
            speaks = _speaks(line[: at - 1], word, names, name_ends)
            if speaks and at < len(line) and line[at] == _QUOTE:
                marked[size], origin[size] = _QUOTE, at
                size, at = size + 1, at + 1
            marked[size], origin[size] = _KEEP if speaks else _FIELD, at
            size += 1
    if cut:
        marked[size], origin[size] = _CUT, at
        size += 1
    origin[size] = at
    return size


@njit(cache=True)
def _speaks(before, word, names, name_ends):
    """Whether the last word is the name of a field whose value is kept."""
    first = len(before)
    while first > 0 and word[before[first - 1]]:
        first -= 1
    start = 0
    for end in name_ends:
        if end - start == len(before) - first and _same(names[start:end], before[first:]):
            return True
        start = end
    return False


@njit(cache=True)
def _unsigned(shape, size):
    """The length of a shape once its signs are taken out."""
    kept = 0
    for place in range(size):
        if not _FIELD <= shape[place] <= _KEEP:
            shape[kept] = shape[place]
            kept += 1
    return kept


@njit(cache=True)
def _found(table, key, keys, shapes, ends, shape):
    """Where a shape stands in the table, or where it would."""
    last = np.uint64(len(table) - 1)
    at = key & last
    while table[at] >= 0:
        other = table[at]
        if keys[other] == key and _same(shapes[ends[other] : ends[other + 1]], shape):
            break
        at = (at + _1) & last
    return at


@njit(cache=True)
def _rehashed(keys, size):
    table, last = np.full(size, -1, np.int64), np.uint64(size - 1)
    for number in range(len(keys)):
        at = keys[number] & last
        while table[at] >= 0:
            at = (at + _1) & last
        table[at] = number
    return table


@njit(cache=True)
def _same(one, other):
    if len(one) != len(other):
        return False
    apart = np.uint8(0)
    for place in range(len(one)):
        apart |= one[place] ^ other[place]
    return apart == 0


@njit(cache=True)
def _has(line, sign):
    count = 0
    for byte in line:
        count += byte == sign
    return count > 0


@njit(cache=True)
def _copied(text, begin, to):
    source = text[begin : begin + len(to)]
    for place in range(len(to)):
        to[place] = source[place]


@njit(cache=True)
def _longer(array):
    more = np.empty(2 * len(array), array.dtype)
    more[: len(array)] = array
    return more
