"""First step of a slice: decoded, judged, and the suspect rows set apart for the rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from quality import frame
from quality.clock import skew
from quality.rules import id_format, kinship
from quality.slices import decode, plan, triage
from quality.slices.decode import flat

Numbers = npt.NDArray[Any]
_OF = ("service", "operation")
ABOUT = ("date", "cluster", "namespace", "environment")
SHIFT = 32  # a row's number is that of its slice, shifted so far, and its place there
CALLS = pl.Schema(
    {"caller": pl.String, "callee": pl.String, "at": pl.Int64, "low": pl.Int64, "high": pl.Int64}
)
COUNTED = pl.Schema(
    {
        "day": pl.Date,
        **dict.fromkeys(kinship.EDGE, pl.String),
        **dict.fromkeys(("out", "times"), pl.Int64),
    }
)  # edges of each day: in how many rows a child is not inside its parent, and of how many


class Judged(NamedTuple):
    """What a slice left in the scratch folder: how many rows, and how many of them are suspect;
    whether 64-bit trace ids stand there as 16 or as 32 digits; how many calls between hosts by
    hour; and, each by day, which operations call which (`rules.kinship`) and of how many rows of an
    operation (rows) the time is in whole milliseconds (whole)."""

    number: int
    rows: int
    suspects: int
    short: bool
    padded: bool
    hours: pl.DataFrame
    kin: pl.DataFrame
    grains: pl.DataFrame


def judged(one: plan.Slice, folder: Path) -> Judged:
    """Leave the rows, the suspects and the calls of a slice in the folder."""
    rows = decode.decoded(one)
    found = triage.triage(rows)
    rows = rows.append_column("healthy", pa.array(found.healthy))
    rows = rows.append_column("alone", pa.array(_alone(rows, found.trace)))
    for name in ("trace", "low", "span", "parent"):
        rows = rows.append_column(f"{name}_number", pa.array(getattr(found, name)))
    decode.write(str(folder / f"rows-{one.number}"), rows)
    suspects(rows, one.number, ~found.healthy).write_ipc(folder / f"suspects-{one.number}")
    calls = _calls(rows, found)
    calls.write_ipc(folder / f"calls-{one.number}")
    suspect = int((~found.healthy).sum())
    counts = (one.number, rows.num_rows, suspect, found.short, found.padded)
    return Judged(*counts, hours(calls), _kin(rows, found), _grains(rows))


def hours(calls: pl.DataFrame) -> pl.DataFrame:
    """How many calls there are by hour: hour (of the clock's own time), calls."""
    return calls.group_by(pl.col("at") // skew.WINDOW).len("calls").rename({"at": "hour"})


def _alone(rows: pa.Table, trace: Numbers) -> Numbers:
    """The day a row was received for, where its trace has rows of no other; else 0. What is counted
    by day is counted over these: they are the same rows whichever days are made together."""
    day = _days(rows)
    if len(np.unique(day[day != 0])) < 2:
        return day
    placed = pl.DataFrame({"trace": trace, "day": day}).with_columns(
        known=pl.when(pl.col("day") != 0).then("day")
    )
    low, high = (getattr(pl.col("known"), name)().over("trace") for name in ("min", "max"))
    return placed.select(pl.when(low == high).then("day").otherwise(0)).to_series().to_numpy()


def _days(rows: pa.Table) -> Numbers:
    days: Numbers = flat(rows, "date").cast(pa.int32()).to_numpy()
    return days


def _kin(rows: pa.Table, found: triage.Triage) -> pl.DataFrame:
    child = np.flatnonzero(found.linked)
    return edges(rows, child, found.parent[child], np.zeros(len(child), bool)).drop("out")


def edges(rows: pa.Table, child: Numbers, above: Numbers, out: Numbers) -> pl.DataFrame:
    """How often which operations call which, by day and by the places of children and of their
    parents, and how often a child is `out`: as `kinship.nested` counts. Traces of one day alone."""
    day = flat(rows, "alone").to_numpy()[child]
    whole = day != 0
    child, above, out = child[whole], above[whole], out[whole]
    codes: dict[str, Numbers] = {"day": day[whole]}
    for name in ("service", "operation"):
        code = flat(rows, name).indices.fill_null(-1).to_numpy()
        codes |= {name: code[child], f"{name}_above": code[above]}
    each = pl.DataFrame({**codes, "out": out}).group_by("day", *kinship.EDGE)
    counted = each.agg(pl.col("out").sum(), pl.len().alias("times")).cast(pl.Int64)
    names = {
        name: pl.Series(flat(rows, name).dictionary, dtype=pl.String)
        for name in ("service", "operation")
    }
    known = {
        name: names[name.removesuffix("_above")].gather(counted[name].set(counted[name] < 0, None))
        for name in kinship.EDGE
    }
    day = counted["day"].cast(pl.Int32).cast(pl.Date)
    counts = (counted["out"], counted["times"])
    return pl.DataFrame(dict(zip(COUNTED, (day, *known.values(), *counts), strict=True)))


def _grains(rows: pa.Table) -> pl.DataFrame:
    """Per day and operation its rows of a time that can be, and those of a whole millisecond."""
    sound = triage.timely(rows)
    start = flat(rows, "start_ns").fill_null(0).to_numpy()
    both = [flat(rows, name) for name in ("service", "operation")]
    codes = {
        name: one.indices.fill_null(-1).to_numpy() for name, one in zip(_OF, both, strict=True)
    }
    codes |= {"day": _days(rows)}
    each = pl.DataFrame({**codes, "rows": sound, "whole": sound & (start % 1_000_000 == 0)})
    counted = each.group_by("day", *_OF).agg(pl.col("rows", "whole").sum().cast(pl.Int64))
    known = {
        name: pl.Series(one.dictionary, dtype=pl.String).gather(
            counted[name].set(counted[name] < 0, None)
        )
        for name, one in zip(_OF, both, strict=True)
    }
    return counted.with_columns(pl.col("day").cast(pl.Date), **known)


def suspects(rows: pa.Table, number: int, which: Numbers) -> pl.DataFrame:
    """Some rows of a slice in the working frame, and what their ids are as numbers."""
    places = np.flatnonzero(which)
    names = [name for name in rows.schema.names if name not in {"attributes", "resource", "events"}]
    chosen = rows.select(names).take(pa.array(places))
    chosen = chosen.append_column("row", pa.array(places + (number << SHIFT)))
    work = frame.working(chosen)
    about = pl.DataFrame(pl.from_arrow(chosen.select(list(ABOUT))))
    about = about.with_columns(pl.col(pl.Categorical).cast(pl.String)).rename({"date": "day"})
    return work.with_columns(*_numbers(work), *about.get_columns())


def _numbers(work: pl.DataFrame) -> list[pl.Series]:
    """trace, span, link: the ids as numbers, canonical where they can be read; of a trace id that
    cannot, a number of its text; 0 for none. home: the trace that `tid` tells. low, half: the lower
    half of a trace id, and of one that has no other."""
    read = id_format.apply(work)

    def of(column: str, digits: int) -> pl.Series:
        texts = read[column].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
        return pl.Series(column, triage.numbers(texts, digits), pl.UInt64)

    trace = of("trace_id", 32)
    other = read.select(pl.col("trace_id").hash(7).fill_null(0)).to_series()
    trace = trace.zip_with((trace != 0) | read["trace_id"].is_null(), other)
    home = read.select(
        pl.concat_str("tid", pl.col("trace_id").str.slice(16)).fill_null("").alias("home")
    )["home"].to_arrow(compat_level=pl.CompatLevel.oldest())
    texts = read["trace_id"].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    low, half = triage.halves(texts)
    return [
        trace.alias("trace"),
        pl.Series("low", low, pl.UInt64),
        pl.Series("half", np.where(half, low, np.uint64(0)), pl.UInt64),
        of("span_id", 16).alias("span"),
        of("parent_span_id", 16).alias("link"),
        pl.Series("home", triage.numbers(home.cast(pa.string()), 32), pl.UInt64),
    ]


def _calls(rows: pa.Table, found: triage.Triage) -> pl.DataFrame:
    """What the calls of healthy traces say of clocks, as `clock.bounds.calls` tells it, by time."""
    owner, names = owners(rows)
    child = np.flatnonzero(found.healthy & (found.parent >= 0))
    above = found.parent[child]
    apart = (owner[child] != owner[above]) & (owner[child] >= 0) & (owner[above] >= 0)
    child, above = child[apart], above[apart]
    start, took = (
        flat(rows, f"{name}_ns").fill_null(0).to_numpy() for name in ("start", "duration")
    )
    grain = np.where(start % 1_000_000 == 0, 1_000_000, 1_000)
    doubt = grain[child] + grain[above]
    early = start[child] - start[above]
    late = early + took[child] - took[above]
    consumer, producer = (kind_is(rows, kind) for kind in ("consumer", "producer"))
    waits = ~consumer[child] & ~producer[above] & (took[child] <= took[above])
    order = np.argsort(start[above], kind="stable")
    low = pa.array((late - doubt)[order], mask=~waits[order])
    caller, callee = (
        pa.DictionaryArray.from_arrays(pa.array(owner[one][order]), names) for one in (above, child)
    )
    columns = {
        "place": child[order],
        "caller": caller,
        "callee": callee,
        "at": start[above][order],
        "low": low,
    }
    made = pa.table({**columns, "high": (early + doubt)[order]})
    return pl.DataFrame(pl.from_arrow(made)).with_columns(pl.col(pl.Categorical).cast(pl.String))


def owners(rows: pa.Table) -> tuple[Numbers, pa.Array]:
    """Whose clock each row's times are of, as a code (-1: nobody's) and the names."""
    both = pa.chunked_array([flat(rows, "host"), flat(rows, "service")], decode.CODES)
    host, service = both.unify_dictionaries().chunks
    codes = pc.coalesce(host.indices, service.indices)
    return codes.fill_null(-1).to_numpy(), host.dictionary


def kind_is(rows: pa.Table, kind: str) -> Numbers:
    """Which rows are of a kind."""
    return code_is(rows, "kind", kind)


def code_is(rows: pa.Table, name: str, text: str) -> Numbers:
    """Which rows have a text in a column of codes."""
    column = flat(rows, name)
    code = pc.index(column.dictionary, text).as_py()
    none = np.zeros(len(column), bool)
    return none if code < 0 else column.indices.fill_null(-1).to_numpy() == code


def pulled(number: int, folder: Path, sought: Mapping[str, Numbers], *, padded: bool) -> int:
    """Set apart the healthy rows of the traces that suspect rows name: by number, by a `span`, by
    the `low` half; and, where asked for, of those whose 64-bit id stands as 32 digits. They are
    healthy no longer: the slice's file `pulled` has their places. How many they are."""
    rows = decode.load(str(folder / f"rows-{number}"))
    healthy = flat(rows, "healthy").to_numpy(zero_copy_only=False)
    trace, span = (flat(rows, f"{name}_number").to_numpy() for name in ("trace", "span"))
    low = flat(rows, "low_number").to_numpy()
    hit = _among(trace, sought["trace"]) | _among(low, sought["low"])
    named = np.unique(trace[healthy & _among(span, sought["span"])])
    chosen = healthy & (hit | _among(trace, named))
    if padded:
        texts = flat(rows, "trace_id")
        long = pc.and_(pc.starts_with(texts, "0" * 16), pc.equal(pc.binary_length(texts), 32))
        chosen |= healthy & long.fill_null(False).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(chosen)
    np.save(folder / f"pulled-{number}.npy", places)
    if len(places):
        suspects(rows, number, chosen).write_ipc(folder / f"called-{number}")
        calls = pl.read_ipc(folder / f"calls-{number}")
        others = ~_among(calls["place"].to_numpy().astype(np.uint64), places.astype(np.uint64))
        fresh = folder / f"fresh-{number}"
        calls.filter(others).write_ipc(fresh)
        fresh.rename(folder / f"calls-{number}")  # the old file may be mapped still
    return len(places)


def _among(values: Numbers, known: Numbers) -> Numbers:
    if not len(known):
        return np.zeros(len(values), bool)
    there = pl.Series(values, dtype=pl.UInt64).is_in(pl.Series(known, dtype=pl.UInt64).implode())
    return there.to_numpy()


def near(folder: Path, low: int, high: int) -> pl.DataFrame:
    """All calls with low <= at < high."""
    parts = [pl.DataFrame(schema=CALLS)]
    for file in sorted(folder.glob("calls-*")):
        found = pl.read_ipc(file)
        first, last = np.searchsorted(found["at"].to_numpy(), [low, high])
        parts.append(found[first:last].select(CALLS.names()))
    return pl.concat(parts).sort("at", "caller", "callee", "low", "high")
