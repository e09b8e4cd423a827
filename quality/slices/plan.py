"""Raw files cut into slices: ranges of trace ids with about as many rows each.

Raw files are sorted by trace id, in small row groups, so a slice reads little more than its own
rows of each, and holds its traces whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 1_000_000  # of a slice, about
BYTES = 400 << 20  # of a slice, about, as its file holds them before they are compressed
WORTH = 200_000  # rows that are faster by all cores, their start included
KNOTS = 4096  # at which the rows before an id are estimated
STEP = 4  # row groups read at a time
CODED = (
    *("service", "operation", "kind", "host", "start_unit", "status"),
    *("cluster", "namespace", "environment", "source", "batch", "resource"),
)  # columns that are read as codes and a dictionary


@dataclass(frozen=True)
class Piece:
    """Row groups of one raw file, of a day."""

    path: str
    day: date
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """The rows with low <= trace_id < high as text; the first slice has those without one too."""

    number: int
    low: str | None
    high: str | None
    pieces: tuple[Piece, ...]
    rows: int  # what is read to find them


@dataclass(frozen=True)
class _Group:
    path: str
    day: date
    number: int
    rows: int
    size: int
    least: str | None  # None: not known
    most: str | None
    nulls: bool


def slices(files: Sequence[tuple[str, date]], rows: int = ROWS, of: int = 1) -> list[Slice]:
    """Slices that cover all rows of some raw files (path, day); where there are many rows, as many
    for each `of` the processes that work on them."""
    groups = [group for path, day in files for group in _groups(path, day)]
    edges = _edges(groups, rows, of)
    bounds = zip([None, *edges], [*edges, None], strict=True)
    return [_slice(number, low, high, groups) for number, (low, high) in enumerate(bounds)]


def _groups(path: str, day: date) -> Iterator[_Group]:
    found = pq.read_metadata(path)
    names = [found.schema.column(place).path for place in range(found.num_columns)]
    column = names.index("trace_id")
    for number in range(found.num_row_groups):
        group = found.row_group(number)
        stats = group.column(column).statistics
        known = stats is not None and stats.has_min_max
        nulls = stats is None or stats.null_count is None or stats.null_count > 0
        least, most = (stats.min, stats.max) if known else (None, None)
        yield _Group(path, day, number, group.num_rows, group.total_byte_size, least, most, nulls)


def _edges(groups: Sequence[_Group], rows: int, of: int) -> list[str]:
    """Trace ids between slices."""
    total = sum(group.rows for group in groups)
    many = 1 if total <= rows * 5 // 4 else max(round(total / rows), 2)
    many = max(many, round(sum(group.size for group in groups) / BYTES))
    if total > WORTH:
        many = -(-many // of) * of
    if many == 1:
        return []
    known = [one for one in groups if one.least and one.most]
    letters = sorted({letter for one in known for letter in f"{one.least}{one.most}"})
    return _quantiles(known, letters, many) if len(letters) > 1 else []


def _quantiles(groups: Sequence[_Group], letters: Sequence[str], many: int) -> list[str]:
    """Texts that cut the rows of some groups into `many` parts of about one size, if within a group
    they lie evenly over the texts of these letters, as random ids do."""
    base = len(letters)
    longest = max(len(one.most or "") for one in groups)
    digits = min(longest, int(900 / math.log2(base)))  # whose number is a float
    place = {letter: code for code, letter in enumerate(letters)}

    def number(text: str | None) -> float:
        codes = [place[letter] for letter in (text or "")[:digits]]
        value = 0
        for code in codes + [0] * (digits - len(codes)):
            value = value * base + code
        return float(value)

    low = np.array([number(one.least) for one in groups])
    high = np.array([number(one.most) for one in groups])
    knots = np.unique(np.concatenate([low, high]))
    knots = knots[np.linspace(0, len(knots) - 1, min(len(knots), KNOTS)).astype(np.int64)]
    below = np.zeros(len(knots))
    for group, least, most in zip(groups, low, high, strict=True):
        below += group.rows * np.clip((knots - least) / max(most - least, 1.0), 0, 1)
    cuts = np.interp(below[-1] / many * np.arange(1, many), below, knots)
    return sorted({_text(int(cut), letters, digits) for cut in cuts.tolist()})


def _text(value: int, letters: Sequence[str], digits: int) -> str:
    found, value = [], min(value, len(letters) ** digits - 1)
    for _ in range(digits):
        value, code = divmod(value, len(letters))
        found.append(letters[code])
    return "".join(reversed(found))


def _slice(number: int, low: str | None, high: str | None, groups: Sequence[_Group]) -> Slice:
    mine: dict[tuple[str, date], list[int]] = {}
    rows = 0
    for group in groups:
        if _meets(group, low, high):
            mine.setdefault((group.path, group.day), []).append(group.number)
            rows += group.rows
    pieces = tuple(Piece(path, day, tuple(found)) for (path, day), found in mine.items())
    return Slice(number, low, high, pieces, rows)


def _meets(group: _Group, low: str | None, high: str | None) -> bool:
    if group.least is None or group.most is None or (low is None and group.nulls):
        return True
    return (low is None or group.most >= low) and (high is None or group.least < high)


def read(one: Slice, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The slice's rows, some row groups at a time, each with its `date`."""
    for piece in one.pieces:
        coded = [name for name in CODED if name in columns]
        with pq.ParquetFile(Path(piece.path), read_dictionary=coded) as file:
            wanted = [name for name in columns if name != "date"]
            for place in range(0, len(piece.groups), STEP):
                groups = list(piece.groups[place : place + STEP])
                found = file.read_row_groups(groups, columns=wanted, use_threads=False)
                found = within(found, one.low, one.high)
                if found.num_rows:
                    days = pa.repeat(pa.scalar(piece.day, pa.date32()), found.num_rows)
                    yield found.append_column("date", days)


def within(rows: pa.Table, low: str | None, high: str | None) -> pa.Table:
    """The rows of a range of trace ids; those without one belong to the first."""
    import pyarrow.compute as pc

    if low is None and high is None:
        return rows
    traces = rows["trace_id"]
    keep = pa.chunked_array([pa.repeat(True, rows.num_rows)])
    if low is not None:
        keep = pc.greater_equal(traces, low).fill_null(False)
    if high is not None:
        below = pc.less(traces, high).fill_null(low is None)
        keep = below if low is None else pc.and_(keep, below)
    place = np.flatnonzero(keep.to_numpy())
    first, last = (int(place[0]), int(place[-1])) if len(place) else (0, -1)
    together = last - first + 1 == len(place)  # as in a sorted file: then nothing is copied
    return rows.slice(first, len(place)) if together else rows.filter(keep)
