"""Last step of a slice: its rows as the table `spans` has them, written, waiting for the commit.

A file holds one range of trace ids, so its statistics tell which traces are in it; within, rows
are in the table's order. Rows whose trace id was mended lie in files of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import TABLES
from lake.stage import Staged, place
from quality import moves, outcome, tags
from quality.clock import skew
from quality.rules import time_zone
from quality.rules.time_unit import DAY
from quality.slices import decode, derive, events, judge, plan, shred
from quality.slices.decode import flat
from quality.slices.judge import SHIFT

Numbers = npt.NDArray[Any]
_SPANS = TABLES["spans"]
_CODED = ("service", "operation", "kind", "host", "cluster", "namespace", "environment", "status")
_IDS = ("trace_id", "span_id", "parent_span_id")
_TIMES = ("start_ns", "duration_ns", "clock_offset_ns", "clock_error_ns")
_CLOCKS = (skew.NAME, time_zone.NAME)  # rules that move whole hosts, by their number from 1
MINUTE = 60_000_000  # µs


class Finished(NamedTuple):
    """What a slice comes to: staged files and rows by day; what its healthy rows add to checks,
    moves and the audit of clocks."""

    staged: list[Staged]
    checks: pl.DataFrame
    moves: pl.DataFrame
    clocks: pl.DataFrame


class _Rows(NamedTuple):
    """Rows to write: where each stands in the slice, its times and the `rule` that moved it, and
    the mended ones among them."""

    place: Numbers
    times: dict[str, Numbers]
    mended: pl.DataFrame  # the last rows


def finished(
    one: plan.Slice,
    folder: Path,
    table: Path,
    lines: Sequence[skew.Line],
    days: Collection[date],
    fixed: Collection[date] = (),
) -> Finished:
    """Write the rows of some days; healthy rows are moved by their clocks' lines here, the others
    come from the rules. Rows received for `fixed` days keep their clocks."""
    rows = decode.load(str(folder / f"rows-{one.number}"))
    healthy = healthy_of(rows, folder, one.number)
    times, moved = timed(rows, healthy, lines, fixed)
    _measure(rows, healthy, times, folder, one.number)
    whole = _joined(healthy, times, _mended(folder, one.number))
    staged = [
        file
        for day in sorted(days)
        for part in _of_day(whole, day)
        for file in _written(rows, part, one, table, day)
    ]
    tally, shifts = _told(rows, healthy, times)
    return Finished(staged, tally, shifts, skew.audit(list(lines), moved))


def healthy_of(rows: pa.Table, folder: Path, number: int) -> Numbers:
    """The places of the rows that no rule but those of clocks looks at."""
    healthy = flat(rows, "healthy").to_numpy(zero_copy_only=False).copy()
    gone = folder / f"pulled-{number}.npy"
    if gone.exists():
        healthy[np.load(gone)] = False
    return np.flatnonzero(healthy)


def _mended(folder: Path, number: int) -> pl.DataFrame | None:
    files = sorted(folder.glob(f"mended-{number}-*"))
    return pl.concat([pl.read_ipc(file) for file in files]) if files else None


def timed(
    rows: pa.Table, healthy: Numbers, lines: Sequence[skew.Line], fixed: Collection[date]
) -> tuple[dict[str, Numbers], pl.DataFrame]:
    """The times of healthy rows, their clocks corrected; and which were moved (host, at)."""
    start, took = (
        flat(rows, name).fill_null(0).to_numpy()[healthy] for name in ("start_ns", "duration_ns")
    )
    offset, error, zone = (np.zeros(len(healthy), np.int64) for _ in range(3))
    moved = pl.DataFrame(schema={"host": pl.String, "at": pl.Int64})
    if lines:
        asked = pl.DataFrame(
            {"row": np.arange(len(healthy)), "at": start, "host": _owners(rows, healthy, lines)}
        )
        day = pl.Series(flat(rows, "date").take(pa.array(healthy)), dtype=pl.Date)
        asked = asked.filter(~day.is_in(list(fixed))).drop_nulls("host")
        found = skew.corrections(list(lines), asked)
        place = found["row"].to_numpy()
        offset[place], error[place] = found["by"].to_numpy(), found["doubt"].to_numpy()
        zone[place] = np.where(found["zone"].to_numpy(), 2, 1)
        moved = asked.filter(pl.Series(offset != 0)[asked["row"]]).select("host", "at")
    times = dict(zip(_TIMES, (start - offset, took, offset, error), strict=True))
    times["rule"] = np.where(offset != 0, zone, 0)
    return times, moved


def _owners(rows: pa.Table, healthy: Numbers, lines: Sequence[skew.Line]) -> pl.Series:
    """Whose clock each healthy row's times are of, where that has a line; else null."""
    code, names = judge.owners(rows)
    known = pc.is_in(names, pa.array({line.host for line in lines}, pa.string()))
    keep = np.append(known.to_numpy(zero_copy_only=False), False)
    mine = code[healthy]
    index = pa.array(mine, mask=~keep[mine])
    return pl.Series(names.take(index), dtype=pl.String)


def _joined(healthy: Numbers, times: dict[str, Numbers], mended: pl.DataFrame | None) -> _Rows:
    if mended is None:
        return _Rows(healthy, times, pl.DataFrame())
    places = (mended["row"] % (1 << SHIFT)).to_numpy()
    rows = mended.with_columns(pl.lit(0).alias("rule"))
    both = {
        name: np.concatenate([one, rows[name].fill_null(0).to_numpy()])
        for name, one in times.items()
    }
    return _Rows(np.concatenate([healthy, places]), both, mended)


def _of_day(rows: _Rows, day: date) -> Iterator[_Rows]:
    """The rows of one day, if there are any."""
    number = (day - date(1970, 1, 1)).days
    mine = rows.times["start_ns"] // DAY == number
    if mine.all():
        yield rows
    elif mine.any():
        times = {name: one[mine] for name, one in rows.times.items()}
        last = mine[len(rows.place) - rows.mended.height :]
        yield _Rows(rows.place[mine], times, rows.mended.filter(pl.Series(last)))


def _written(
    rows: pa.Table, part: _Rows, one: plan.Slice, table: Path, day: date
) -> Iterator[Staged]:
    """The files of one day: rows of the slice's own traces, and strays."""
    stray = _strays(rows, part, one)
    for which in (~stray, stray):
        index = np.flatnonzero(which)
        if len(index):
            made = _made(rows, part, index[_order(rows, part, index)])
            yield place(table, _SPANS, {"date": str(day)}, made)


def _strays(rows: pa.Table, part: _Rows, one: plan.Slice) -> Numbers:
    """The rows that the rules gave another trace than they were received with."""
    stray = np.zeros(len(part.place), bool)
    if part.mended.height and (one.low is not None or one.high is not None):
        first = len(stray) - part.mended.height
        got = flat(rows, "trace_id").take(pa.array(part.place[first:]))
        was = pl.Series(got, dtype=pl.String)
        stray[first:] = part.mended["trace_id"].ne_missing(was.str.zfill(32)).to_numpy()
    return stray


def _order(rows: pa.Table, part: _Rows, index: Numbers) -> Numbers:
    """The table's order: minute, service, operation, start; then by id, so that it is one order."""
    at, place = part.times["start_ns"][index] // 1000, part.place[index]
    key = at // MINUTE
    for name in ("service", "operation"):
        rank, most = _rank(flat(rows, name))
        key = (key - key.min()) * most + rank[place]
    low = int(at.min())
    bits = (int(at.max()) - low).bit_length()
    span = flat(rows, "span_number").to_numpy()[place]
    if int(key.max()).bit_length() + bits > 62:
        return np.lexsort((span, at, key))
    return np.lexsort((span, (key << bits) | (at - low)))


def _rank(column: pa.DictionaryArray) -> tuple[Numbers, int]:
    """Where each row's text stands among all; null is last."""
    count = len(column.dictionary)
    rank = np.empty(count + 1, np.int64)
    rank[pc.array_sort_indices(column.dictionary).to_numpy()] = np.arange(count)
    rank[-1] = count
    return rank[column.indices.fill_null(-1).to_numpy()], count + 1


def _made(rows: pa.Table, part: _Rows, index: Numbers) -> pa.Table:
    """Rows of `spans` in the order of `index`, without their `date`."""
    place = pa.array(part.place[index])
    first = len(part.place) - part.mended.height
    late = np.flatnonzero(index >= first)
    mended = part.mended[index[late] - first] if len(late) else part.mended.clear()
    start = part.times["start_ns"][index]
    columns: dict[str, Any] = {name: part.times[name][index] for name in _TIMES}
    columns["start"] = pa.array(start // 1000).cast(_SPANS.schema.field("start").type)
    for name in _CODED:
        column = flat(rows, name)
        codes = column.indices.take(place)
        columns[name] = pa.DictionaryArray.from_arrays(codes, column.dictionary)
    for name in _IDS:
        columns[name] = _ids(flat(rows, name).take(place), name, late, mended)
    if len(late):
        columns["duration_ns"] = _nullable(columns["duration_ns"], late, mended["duration_ns"])
    columns["weight"] = pa.repeat(1.0, len(index))
    columns["attributes"] = shred.take(flat(rows, "attributes"), place)
    for name in ("resource", "events", "links"):
        columns[name] = _read(flat(rows, name), place, name)
    rule = part.times["rule"][index]
    for name in ("faults", "repaired"):
        columns[name] = _marks(name, rule, late, mended)
    names = [name for name in _SPANS.schema.names if name != "date"]
    return pa.table({name: columns[name] for name in names})


def _ids(received: pa.Array, name: str, late: Numbers, mended: pl.DataFrame) -> pa.Array:
    """Ids as received, at full width, and the mended ones in their place."""
    if name == "trace_id" and pc.any(pc.not_equal(pc.binary_length(received), 32)).as_py():
        received = pc.utf8_lpad(received, 32, "0")
    if name == "parent_span_id" and pc.any(pc.equal(received, "")).as_py():
        received = pc.if_else(pc.equal(received, ""), None, received)
    if not len(late):
        return received
    mask = np.zeros(len(received), bool)
    mask[late] = True
    texts = mended[name].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    return pc.replace_with_mask(received, pa.array(mask), texts)


def _nullable(values: Numbers, late: Numbers, mended: pl.Series) -> pa.Array:
    empty = np.zeros(len(values), bool)
    empty[late] = mended.is_null().to_numpy()
    return pa.array(values, mask=empty if empty.any() else None)


def _read(column: pa.Array, place: pa.Array, name: str) -> pa.Array:
    """JSON texts, as codes or plain, as what the table holds; each distinct one is read once."""
    kind = _SPANS.schema.field(name).type
    column = column.take(place)
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    used = pc.unique(column.indices.drop_null())
    where = pc.index_in(column.indices, used)
    chosen = column.dictionary.take(used)
    if name == "events":
        return events.read(chosen).take(where)
    texts = chosen.to_pylist()
    if name == "resource":
        return shred.take(shred.of_pairs([tags.pairs(text) for text in texts]), where)
    return (
        pl.Series(tags.read(texts, name))
        .to_arrow(compat_level=pl.CompatLevel.oldest())
        .cast(kind)
        .take(where)
    )


def _marks(name: str, rule: Numbers, late: Numbers, mended: pl.DataFrame) -> pa.Array:
    """faults or repaired: of a healthy row none, or the rule of its clock."""
    known: list[tuple[str, ...]] = [(), *((one,) for one in _CLOCKS)]
    code = rule.copy() if name == "repaired" else np.zeros(len(rule), np.int64)
    if len(late):
        distinct = pl.DataFrame({"marks": mended[name]}).with_row_index("place")
        groups = distinct.group_by("marks", maintain_order=True).agg("place")
        for marks, places in groups.iter_rows():
            code[late[places]] = len(known)
            known.append(tuple(marks))
    return pa.array([list(one) for one in known], pa.list_(pa.string())).take(pa.array(code))


def _measure(
    rows: pa.Table, healthy: Numbers, times: dict[str, Numbers], folder: Path, number: int
) -> None:
    """What healthy rows add to the derived tables; their parents are healthy too."""
    parent = parents(rows, healthy)
    place = pa.array(healthy)
    texts = {}
    for name in _CODED:
        column = flat(rows, name)
        texts[name] = pa.DictionaryArray.from_arrays(column.indices.take(place), column.dictionary)
    waits = ~judge.kind_is(rows, "consumer")[healthy]
    client = judge.kind_is(rows, "client")[healthy]
    failed = judge.code_is(rows, "status", "error")[healthy]
    start, took = times["start_ns"], times["duration_ns"]
    found = derive.measured(texts, start, took, parent, waits, client, failed)
    derive.keep(folder, str(number), *found)


def parents(rows: pa.Table, healthy: Numbers) -> Numbers:
    """Which of the healthy rows is the parent of each (-1: none)."""
    where = np.full(rows.num_rows, -1, np.int64)
    where[healthy] = np.arange(len(healthy))
    above = flat(rows, "parent_number").to_numpy()[healthy]
    return np.where(above >= 0, where[above], -1)


def _told(
    rows: pa.Table, healthy: Numbers, times: dict[str, Numbers]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What healthy rows add to the checks, and those that changed their day."""
    service = flat(rows, "service")
    day = (times["start_ns"] // DAY).astype(np.int32)
    code = service.indices.fill_null(-1).to_numpy()[healthy]
    counted = pl.DataFrame({"day": day, "code": code, "rule": times["rule"]})
    counted = counted.group_by("day", "code", "rule").len("rows")
    names = pl.Series(service.dictionary, dtype=pl.String)
    known = counted["code"].set(counted["code"] < 0, None)
    counted = counted.select(
        pl.col("day").cast(pl.Date).alias("date"),
        names.gather(known).alias("service"),
        "rule",
        pl.col("rows").cast(pl.Int64),
    )
    total = counted.group_by("date", "service").agg(pl.col("rows").sum())
    name = pl.col("rule").replace_strict(dict(enumerate(_CLOCKS, 1)), return_dtype=pl.String)
    marked = counted.filter(pl.col("rule") > 0).select(
        "date", "service", name.alias("check_name"), repaired="rows"
    )
    tally = pl.concat([pl.DataFrame(schema=outcome.TALLY), total, marked], how="diagonal")
    return tally, _moves(rows, healthy, day)


def _moves(rows: pa.Table, healthy: Numbers, day: Numbers) -> pl.DataFrame:
    was = flat(rows, "date").cast(pa.int32()).to_numpy()[healthy]
    far = np.flatnonzero(was != day)
    some = rows.select(["batch", "arrival"]).take(pa.array(healthy[far]))
    keys = pl.DataFrame(pl.from_arrow(some)).select(
        pl.format("{}:{}", pl.col("batch").cast(pl.String), "arrival").alias("row_key"),
        pl.Series("before", was[far]).cast(pl.Date),
        pl.Series("after", day[far]).cast(pl.Date),
    )
    return keys.cast(moves.SCHEMA)
