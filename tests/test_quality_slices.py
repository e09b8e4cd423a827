"""Spans repaired in slices come out as spans repaired in one piece, however they are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lake import UNPLACED, Lake
from lake import stage as staging
from quality import frame, outcome, spans
from quality.clock import skew
from quality.outcome import Outcome
from quality.rules import kinship
from quality.slices import drive, second
from quality.suppressions import Suppressed
from tests import quality_traces as traces
from tests.conftest import TIMES

DAY = date(2025, 3, 11)


@contextmanager
def here(_slices: int) -> Iterator[Callable[[Iterable[Callable[[], object]]], Iterator[object]]]:
    """Every step in this process."""
    yield lambda work: (one() for one in work)


def sample(seed: int) -> pl.DataFrame:
    """Some requests with faults of all kinds, one host's clock off, ids of several notations."""
    rows = traces.spoiled(seed, faults=14)[0]
    for other in range(1, 5):
        made = traces.rows(seed + 100 * other, traces=10, offsets={"cart": 40_000})
        for row in made[7 * other :: 30]:  # swapped: what bounds them is told by all slices
            row["start"], row["duration"] = row["start"] + row["duration"], -row["duration"]
        if other == seed % 5:
            made[3]["duration"] += 50_000  # outlives its parent, once: such calls bound nothing
        rows += made
    again = [dict(row) for row in rows[-40:-37]]  # delivered twice
    raw = traces.raw(rows + again)
    day = pl.when(pl.col("date") == DAY).then("date").otherwise(pl.lit(UNPLACED))
    return raw.with_columns(day.alias("date"))


def repaired(
    raw: pl.DataFrame, folder: Path, rows: int, files: int = 1, batch: int = 400_000
) -> Outcome:
    """The outcome of a day from a lake whose raw rows came in some files, in slices of `rows`."""
    lake = Lake(folder).create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(staging._GROUPS, "raw_spans", 16)
        patch.setattr(drive, "_mapper", here)
        patch.setattr(second, "ROWS", batch)
        patch.setattr(second.batches, "__defaults__", (batch,))
        for place in range(files):
            lake.append("raw_spans", raw[place::files])
        found = drive.repaired(lake, [DAY], [DAY], Suppressed(), lambda _text: None, rows)
        assert lake.folder
        return outcome.loaded(found, "spans", lake.folder / "spans")


def assert_alike(one: pl.DataFrame, other: pl.DataFrame) -> None:
    columns = [name for name in one.columns if name not in {"row", "row_count_"}]
    assert_frame_equal(
        one.select(columns), other.select(columns), check_row_order=False, check_column_order=False
    )


def plain(rows: pl.DataFrame) -> pl.DataFrame:
    pairs = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    maps = [name for name, kind in rows.schema.items() if isinstance(kind, pl.Map)]
    texts = rows.with_columns(pl.col(name).cast(pairs) for name in maps)
    return texts.with_columns(pl.struct("events").struct.json_encode().alias("events"))


def assert_same(one: Outcome, other: Outcome) -> None:
    assert_alike(plain(one.tables["spans"]), plain(other.tables["spans"]))
    for name in ("red", "edges"):
        assert_alike(one.tables[name], other.tables[name])
    for name in ("audit", "checks", "moves", "quarantined"):
        mine, theirs = (getattr(found, name) for found in (one, other))
        assert_alike(mine, theirs)
    assert sorted(one.merged.to_list()) == sorted(other.merged.to_list())


SLOW = settings(
    max_examples=2 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SLOW
@given(st.integers(0, 10_000))
def test_tiny_slices_and_batches_make_what_one_makes(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    raw = sample(seed)
    whole = repaired(raw, tmp_path_factory.mktemp("whole") / "lake", 1_000_000)
    tiny = repaired(raw, tmp_path_factory.mktemp("tiny") / "lake", 50, files=3, batch=20)
    assert_same(whole, tiny)


@SLOW
@given(st.integers(0, 10_000))
def test_slices_make_what_the_rules_make_of_one_frame(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    raw = sample(seed)
    found = repaired(raw, tmp_path_factory.mktemp("lake") / "lake", 60, batch=30)
    work = frame.narrow(raw)
    kin = kinship.Kin(kinship.seen(work, work), kinship.grains(work, work))
    with kinship.known(kin):
        linked = spans.before_clocks(work).spans
    timed = skew.shift(linked, skew.lines(linked))
    with kinship.known(kin._replace(loose=kinship.loose(timed, timed))):
        truth = spans.repair(work)
    day = (pl.col("start_ns") // 1000).cast(pl.Datetime("us", "UTC")).dt.date()
    rows = truth.spans.filter(day == DAY)
    columns = ["trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns", "kind", "status"]
    columns += ["faults", "repaired", "clock_offset_ns", "clock_error_ns"]
    assert_alike(found.tables["spans"].select(columns), rows.select(columns))
    keys = ["row_key", "rule", "column_name", "before", "after"]
    told = truth.audit.filter(~pl.col("row").is_in(truth.quarantined["row"].implode()))
    mine = found.audit.filter(~pl.col("rule").is_in(["order", "clock_skew"]))
    assert_alike(mine.select(keys), told.select(keys))
    clocks = found.audit.filter(pl.col("rule") == "clock_skew")
    assert_alike(clocks.select(keys), truth.clock_audit.select(keys))
