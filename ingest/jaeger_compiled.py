"""The compiled form of `ingest.jaeger_json`: where each field of each span stands. Needs numba.

Read is what Jaeger writes; at anything else (no JSON, a field of another type, a name that is
escaped) it gives up, and the interpreted form says what is wrong, or reads it. Before and after
the text is a byte that is of no JSON: no place needs to be held against the end, and the first
one, 0, is what every function gives that finds something else, and where nothing is found.
Places are unsigned where it counts, for numba looks at every signed one for being negative.

First the reply, then traces, spans and processes, then JSON itself. All in one file, for numba's
cache is made anew only where the file of `scan` changes.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def _name(text):
    return np.frombuffer(text.encode(), np.uint8)


# columns of the table of spans: pairs of places, from and up to
TRACE, SPAN, OPERATION, PROCESS, TAGS, LOGS, PARENT, WHOLE = range(0, 16, 2)
ORIGIN, NO_START, NO_DURATION, ODD, WIDTH = 16, 17, 18, 19, 20
START, DURATION, REFERENCES = 97, 98, 99  # fields that have no such column
SERVICE, ABOUT = 0, 2  # of an origin: its service's name in quotes, and its tags
TRACES, SPANS, ORIGINS, FULL, ERRORS, TOLD = 0, 1, 2, 3, 4, 6  # what `scan` tells, each a number

_DATA, _ERRORS = _name("data"), _name("errors")
_SPANS, _PROCESSES = _name("spans"), _name("processes")
_TRACE, _SPAN, _OPERATION, _PROCESS = (
    _name("traceID"), _name("spanID"), _name("operationName"), _name("processID"),
)  # fmt: skip
_START, _DURATION, _TAGS, _LOGS = (
    _name("startTime"), _name("duration"), _name("tags"), _name("logs"),
)  # fmt: skip
_REFERENCES, _PARENT = _name("references"), _name("parentSpanID")
_KIND, _SERVICE = _name("refType"), _name("serviceName")
_TRUE, _FALSE, _NULL = _name("true"), _name("false"), _name("null")
_QUOTE, _ESCAPE, _COMMA, _COLON, _MINUS, _DOT = 34, 92, 44, 58, 45, 46
_OBJECT, _CLOSED, _LIST, _LISTED = (np.uint8(sign) for sign in b"{}[]")
_ESCAPED = np.zeros(256, np.uint8)
_ESCAPED[list(b'"\\/bfnrt')] = 1
_HEX = np.zeros(256, np.uint8)
_HEX[list(b"0123456789abcdefABCDEF")] = 1
_D, _HALVES = np.zeros(256, np.uint8), np.zeros(256, np.uint8)  # UTF-16's halves: d8 to df
_D[list(b"dD")] = _HALVES[list(b"89abcdefABCDEF")] = 1
_BLANK = np.zeros(256, np.uint8)
_BLANK[list(b" \t\r\n")] = 1
_PLAIN = np.ones(256, np.uint8)  # bytes that a string goes on with
_PLAIN[:32] = _PLAIN[_QUOTE] = _PLAIN[_ESCAPE] = 0
_inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # a third less to compile
_0, _1 = np.uint64(0), np.uint64(1)
_NONE = np.uint64(0)
DEEP = 256  # objects and lists in one another
_DIGITS = 18  # of a whole number that is read here
_PRIME, _ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


@njit(cache=True)
def scan(text, tables, told):
    """Whether a reply could be read. Fills the `tables` of spans, of their starts and durations,
    and of origins; `told` is how much of them, and what else there is (see above).

    Where a table is too short, `told[FULL]` is set: come back with longer ones.
    """
    spans, times, origins, hashes, keys, processes, open_, one = tables
    at, more = _first(text, _space(text, _1), _OBJECT, _CLOSED)
    seen = False
    while more:
        begin, end, at = _field(text, at)
        if _is(text, begin, end, _DATA):
            at, listed = _first(text, _NONE if seen else at, _LIST, _LISTED)
            seen = True
            while listed:
                told[TRACES] += 1
                at = _trace(
                    text, at, spans, times, origins, hashes, keys, processes, open_, one, told
                )
                at, listed = _next(text, at, _LISTED)
        else:
            after = _value(text, at, open_)
            if _is(text, begin, end, _ERRORS):
                told[ERRORS], told[ERRORS + 1] = at, after
            at = after
        at, more = _next(text, at, _CLOSED)
    return seen and at != _NONE and _space(text, at) == len(text) - 1


@njit(cache=True)
def gathered(text, begins, ends):
    """The stretches of a text one after the other, and where each begins, and the end."""
    offsets = np.zeros(len(begins) + 1, np.int64)
    for place in range(len(begins)):
        offsets[place + 1] = offsets[place] + ends[place] - begins[place]
    content = np.empty(offsets[-1], np.uint8)
    for place in range(len(begins)):
        at, begin = np.uint64(offsets[place]), np.uint64(begins[place])
        for step in range(np.uint64(ends[place] - begins[place])):
            content[at + step] = text[begin + step]
    return offsets, content


@_inner
def _trace(text, at, spans, times, origins, hashes, keys, processes, open_, one, told):
    """Adds the spans of the trace that begins here; the place after it."""
    first, held, has_spans = told[SPANS], -1, False
    at, more = _first(text, at, _OBJECT, _CLOSED)
    while more:
        begin, end, at = _field(text, at)
        if _is(text, begin, end, _SPANS):
            at, inner = _first(text, _NONE if has_spans else at, _LIST, _LISTED)
            has_spans = True
            while inner:
                if told[SPANS] == len(spans):
                    told[FULL] = 1
                    return _NONE
                row = told[SPANS]
                at = _span(text, at, spans[row], times[row], open_, one)
                at, inner = _next(text, at, _LISTED)
                told[SPANS] += 1
        elif _is(text, begin, end, _PROCESSES):
            at, inner = _first(text, _NONE if held >= 0 else at, _OBJECT, _CLOSED)
            held = 0
            while inner:
                if held == len(processes) or told[ORIGINS] == len(origins):
                    told[FULL] = 1
                    return _NONE
                processes[held, 0], processes[held, 1], at = _field(text, at)
                at = _process(text, at, origins[told[ORIGINS]], open_)
                if at == _NONE:
                    return _NONE
                processes[held, 2] = _known(text, origins, hashes, keys, told)
                at, inner = _next(text, at, _CLOSED)
                held += 1
        else:
            at = _value(text, at, open_)
        at, more = _next(text, at, _CLOSED)
    if at == _NONE or held < 0 or not has_spans:
        return _NONE
    for number in range(first, told[SPANS]):
        _owned(text, spans[number], processes[:held])
    return at


@_inner
def _span(text, at, found, times, open_, one):
    """Fills the row of the span that begins here; the place after it."""
    found[:] = 0
    found[PARENT], found[PARENT + 1] = -1, -1
    found[NO_START], found[NO_DURATION], times[0], times[1] = 1, 1, 0, 0
    found[WHOLE] = at
    references = 0
    at, more = _first(text, at, _OBJECT, _CLOSED)
    while more:
        begin, end, at = _field(text, at)
        column = _column(text, begin, end)
        null = text[at] == _NULL[0]
        if column == START:
            times[0], found[NO_START], at = _integer(text, at)
        elif column == DURATION:
            times[1], found[NO_DURATION], at = _integer(text, at)
        elif column == REFERENCES and not null:
            references, escaped, at = _referred(text, at, one, open_)
            found[ODD] |= escaped
        elif null and column == REFERENCES:
            references, at = 0, _literal(text, at, _NULL)
        elif null and column == PARENT:
            found[PARENT], found[PARENT + 1], at = -1, -1, _literal(text, at, _NULL)
        elif column < 0 or column in (TAGS, LOGS):
            after = _value(text, at, open_)
            if column >= 0:
                found[column], found[column + 1] = at, after
            at = after
        else:
            after, escaped = _string(text, at)
            found[column], found[column + 1] = at + _1, after - _1
            found[ODD] |= escaped
            at = _NONE if escaped and column == PROCESS else after
        at, more = _next(text, at, _CLOSED)
    found[WHOLE + 1] = at
    if at == _NONE:
        return _NONE
    if references == 1 and _alike(text, one[0], one[1], found[TRACE], found[TRACE + 1]):
        found[PARENT], found[PARENT + 1] = one[2], one[3]
    elif references:
        found[ODD] = 1
    elif found[PARENT + 1] == found[PARENT]:
        found[PARENT], found[PARENT + 1] = -1, -1
    return at


@_inner
def _column(text, begin, end):
    """Which field of a span is named so; -1 for others."""
    size = end - begin
    if size == 4:
        return (
            TAGS if _is(text, begin, end, _TAGS) else LOGS if _is(text, begin, end, _LOGS) else -1
        )
    if size == 9:
        if _is(text, begin, end, _START):
            return START
        return PROCESS if _is(text, begin, end, _PROCESS) else -1
    if size == 7:
        return TRACE if _is(text, begin, end, _TRACE) else -1
    if size == 6:
        return SPAN if _is(text, begin, end, _SPAN) else -1
    if size == 13:
        return OPERATION if _is(text, begin, end, _OPERATION) else -1
    if size == 8:
        return DURATION if _is(text, begin, end, _DURATION) else -1
    if size == 10:
        return REFERENCES if _is(text, begin, end, _REFERENCES) else -1
    return PARENT if _is(text, begin, end, _PARENT) else -1


@_inner
def _referred(text, at, one, open_):
    """How many references begin here, whether anything of them is escaped, and the place after;
    the last one's trace and span in `one`."""
    count, escapes = 0, False
    at, more = _first(text, at, _LIST, _LISTED)
    while more:
        one[:] = 0
        count += 1
        at, inner = _first(text, at, _OBJECT, _CLOSED)
        while inner:
            begin, end, at = _field(text, at)
            if _is(text, begin, end, _TRACE) or _is(text, begin, end, _SPAN):
                column = 0 if end - begin == len(_TRACE) else 2
                after, escaped = _string(text, at)
                one[column], one[column + 1] = at + _1, after - _1
                escapes |= escaped
                at = after
            elif _is(text, begin, end, _KIND):
                at, _ = _string(text, at)
            else:
                at = _value(text, at, open_)
            at, inner = _next(text, at, _CLOSED)
        at, more = _next(text, at, _LISTED)
    return count, escapes, at


@_inner
def _process(text, at, found, open_):
    """Fills the row of the process that begins here; the place after it."""
    found[:] = 0
    at, more = _first(text, at, _OBJECT, _CLOSED)
    while more:
        begin, end, at = _field(text, at)
        if _is(text, begin, end, _SERVICE):
            after, _ = _string(text, at)
            found[SERVICE], found[SERVICE + 1] = at, after
        else:
            after = _value(text, at, open_)
            if _is(text, begin, end, _TAGS):
                found[ABOUT], found[ABOUT + 1] = at, after
        at, more = _next(text, after, _CLOSED)
    return at


@_inner
def _owned(text, span, processes):
    """Writes down which origin a span is of: of processes of one name the last, or none."""
    span[ORIGIN] = -1
    for place in range(len(processes) - 1, -1, -1):
        one = processes[place]
        if _alike(text, one[0], one[1], span[PROCESS], span[PROCESS + 1]):
            span[ORIGIN] = one[2]
            return


@_inner
def _field(text, at):
    """From and to of the name that begins here, and the place of its value."""
    end, escaped = _string(text, at)
    after = _space(text, end)
    if escaped or text[after] != _COLON:
        return _0, _0, _NONE
    return at + _1, end - _1, _space(text, after + _1)


@_inner
def _first(text, at, opening, closing):
    """The place of the first element of what opens here, and True; or after the closing bracket
    where there is none, and False."""
    if text[at] != opening:
        return _NONE, False
    at = _space(text, at + _1)
    if text[at] == closing:
        return at + _1, False
    return at, True


@_inner
def _next(text, at, closing):
    """The place of the next element, and True; or after the closing bracket, and False."""
    at = _space(text, at)
    if text[at] == _COMMA:
        return _space(text, at + _1), True
    return (at + _1 if text[at] == closing else _NONE), False


@_inner
def _space(text, at):
    while _BLANK[text[at]]:
        at += _1
    return at


@_inner
def _string(text, at):
    """The place after the string that begins here, and whether anything in it is escaped."""
    escaped = False
    if text[at] != _QUOTE:
        return _NONE, escaped
    at += _1
    while True:
        while _PLAIN[text[at]]:
            at += _1
        if text[at] == _QUOTE:
            return at + _1, escaped
        if text[at] != _ESCAPE:
            return _NONE, escaped
        escaped = True
        at += _1
        if _ESCAPED[text[at]]:
            at += _1
            continue
        if text[at] != 117:  # u
            return _NONE, escaped
        if _D[text[at + _1]] and _HALVES[text[at + _1 + _1]]:  # half of a pair may stand alone
            return _NONE, escaped
        for _ in range(4):
            at += _1
            if not _HEX[text[at]]:
                return _NONE, escaped
        at += _1


@_inner
def _literal(text, at, said):
    for byte in said:
        if text[at] != byte:
            return _NONE
        at += _1
    return at


@_inner
def _digits(text, at):
    """The place after one digit or more."""
    if not 48 <= text[at] <= 57:
        return _NONE
    while 48 <= text[at] <= 57:
        at += _1
    return at


@_inner
def _number(text, at):
    if text[at] == _MINUS:
        at += _1
    if text[at] == 48:
        at += _1
    else:
        at = _digits(text, at)
    if text[at] == _DOT:
        at = _digits(text, at + _1)
    if text[at] == 101 or text[at] == 69:  # e or E
        at += _1
        if text[at] == 43 or text[at] == _MINUS:
            at += _1
        at = _digits(text, at)
    return at


@_inner
def _integer(text, at):
    """The whole number that begins here, whether it is null instead, and the place after it."""
    if text[at] == _NULL[0]:
        return 0, 1, _literal(text, at, _NULL)
    negative = text[at] == _MINUS
    begin = at + _1 if negative else at
    end = _digits(text, begin)
    many = end - begin > _DIGITS or (text[begin] == 48 and end - begin > 1)
    if end == _NONE or many or text[end] == _DOT or text[end] == 101 or text[end] == 69:
        return 0, 1, _NONE
    value = 0
    for place in range(begin, end):
        value = 10 * value + (np.int64(text[place]) - 48)
    return (-value if negative else value), 0, end


@_inner
def _value(text, at, open_):
    """The place after the value that begins here."""
    depth = 0
    while True:
        byte = text[at]
        if byte == _QUOTE:
            at, _ = _string(text, at)
        elif byte in (_OBJECT, _LIST):
            closing = _CLOSED if byte == _OBJECT else _LISTED
            at, filled = _first(text, at, byte, closing)
            if filled:
                if depth == DEEP:
                    return _NONE
                open_[depth] = closing
                depth += 1
                if byte == _OBJECT:
                    at = _named(text, at)
                continue
        elif byte == _TRUE[0]:
            at = _literal(text, at, _TRUE)
        elif byte == _FALSE[0]:
            at = _literal(text, at, _FALSE)
        elif byte == _NULL[0]:
            at = _literal(text, at, _NULL)
        else:
            at = _number(text, at)
        while depth:
            after = _space(text, at)
            if text[after] == _COMMA:
                at = _space(text, after + _1)
                if open_[depth - 1] == _CLOSED:
                    at = _named(text, at)
                break
            if text[after] != open_[depth - 1]:
                return _NONE
            at = after + _1
            depth -= 1
        else:
            return at


@_inner
def _named(text, at):
    """The place of the value whose name begins here."""
    end, _ = _string(text, at)
    end = _space(text, end)
    return _space(text, end + _1) if text[end] == _COLON else _NONE


@_inner
def _is(text, begin, end, name):
    if end - begin != len(name):
        return False
    for byte in name:
        if text[begin] != byte:
            return False
        begin += _1
    return True


@_inner
def _alike(text, begin, end, other, other_end):
    if end - begin != other_end - other:
        return False
    one, two, apart = np.uint64(begin), np.uint64(other), np.uint8(0)
    for step in range(np.uint64(end - begin)):
        apart |= text[one + step] ^ text[two + step]
    return apart == 0


@_inner
def _hash(text, origin):
    key = np.uint64(origin[SERVICE + 1] - origin[SERVICE])
    for column in (SERVICE, ABOUT):
        begin = np.uint64(origin[column])
        for step in range(np.uint64(origin[column + 1] - origin[column])):
            key = (key ^ np.uint64(text[begin + step])) * _PRIME
    key += _ODD
    return key ^ key >> _HALF


@_inner
def _known(text, origins, hashes, keys, told):
    """The number of the origin that was added last: that of an earlier one where they are alike."""
    number, last = told[ORIGINS], np.uint64(len(keys) - 1)
    mine, key = origins[number], _hash(text, origins[number])
    at = key & last
    while keys[at] >= 0:
        its = origins[keys[at]]
        if hashes[keys[at]] == key:
            same = _alike(text, mine[SERVICE], mine[SERVICE + 1], its[SERVICE], its[SERVICE + 1])
            if same and _alike(text, mine[ABOUT], mine[ABOUT + 1], its[ABOUT], its[ABOUT + 1]):
                return keys[at]
        at = (at + _1) & last
    keys[at], hashes[number] = number, key
    told[ORIGINS] += 1
    return number
