"""`repair` on a real lake: only dirty days, each row in one day, killed runs completed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lake import TABLES, UNPLACED, Lake
from quality.account import account
from quality.run import repair
from tests import quality_traces as traces

DAY_US = 86_400_000_000
FIRST = date(2025, 3, 11)
NOW = datetime(2025, 4, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process died."""


class Mortal(Lake):
    """A lake whose writer dies before its n-th commit."""

    left = 0

    def write(self, *args: Any, **how: Any) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().write(*args, **how)

    def _swap(self, *args: Any, **how: Any) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super()._swap(*args, **how)


def put(lake: Lake, rows: list[traces.Row], batch: str = "b") -> None:
    """Rows as ingest lands them: rows whose day cannot be believed in 1970-01-01."""
    frame = traces.raw(rows).with_columns(batch=pl.lit(batch))
    believed = pl.col("date").is_between(date(2000, 1, 1), date(2025, 3, 13))
    day = pl.when(believed).then("date").otherwise(pl.lit(UNPLACED))
    lake.append("raw_spans", frame.with_columns(day.alias("date")))


def on_day(seed: int, day: int) -> list[traces.Row]:
    return [{**row, "start": row["start"] + day * DAY_US} for row in traces.rows(seed)]


def state(lake: Lake) -> dict[str, pl.DataFrame]:
    """What the tables hold, without the name and time of the run."""
    names = ("spans", "red", "edges", "repairs", "quarantine", "scorecard")
    return {
        name: lake.read(name)
        .drop("run_id", "recorded_at", "raw_version", strict=False)
        .select(pl.exclude(pl.Map))
        for name in names
    }


def assert_same(one: Lake, other: Lake) -> None:
    mine, theirs = state(one), state(other)
    for name, rows in mine.items():
        keys = TABLES[name].sort_by[0].removeprefix("minute(").removesuffix(")")
        keep = [column for column in rows.columns if rows.schema[column] not in (pl.Object,)]
        assert keys is not None
        assert_frame_equal(rows.select(keep), theirs[name].select(keep), check_row_order=False)


def spans_row(lake: Lake) -> dict[str, Any]:
    lines = {line["table"]: line for line in account(lake).to_dicts()}
    return lines["spans"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


def test_a_second_run_commits_nothing(lake: Lake) -> None:
    put(lake, traces.spoiled(1)[0])
    assert repair(lake).rows["spans"] > 0
    before = lake.versions(*TABLES)
    assert repair(lake).as_dict()["days"] == []
    assert lake.versions(*TABLES) == before


def test_every_row_is_accounted_for(lake: Lake) -> None:
    put(lake, traces.spoiled(2, faults=30)[0])
    repair(lake)
    line = spans_row(lake)
    assert line["raw"] == line["clean"] + line["merged"] + line["quarantined"]
    assert line["quarantined"] > 0 or line["merged"] > 0


def test_only_days_that_new_rows_touch_are_made_again(lake: Lake) -> None:
    for day in range(-4, 1):
        put(lake, on_day(10 + day, day), f"day{day}")
    repair(lake)
    put(lake, on_day(50, -4), "late")
    assert sorted(map(str, repair(lake).days)) == ["2025-03-07", "2025-03-08"]


def test_a_source_in_the_wrong_unit_gets_its_days_back(lake: Lake) -> None:
    rows = [
        {**row, "start": row["start"] // 1000, "duration": row["duration"] // 1000}
        for row in on_day(3, 0)
    ]
    put(lake, rows)
    assert lake.days("raw_spans") == [UNPLACED]
    repair(lake)
    assert lake.days("spans") == [FIRST]
    assert spans_row(lake)["clean"] == len(rows)
    assert lake.read("repairs").filter(pl.col("rule") == "order").height == len(rows)


def test_rows_without_a_usable_time_go_to_quarantine_whole(lake: Lake) -> None:
    lost = {**traces.rows(4)[0], "start": 0, "trace_id": "f" * 32}
    put(lake, [lost, *on_day(4, 0)])
    repair(lake)
    held = lake.read("quarantine")
    assert held["table_name"].to_list() == ["spans"]
    assert '"operation":"server 0"' in held["raw_row"][0]
    assert spans_row(lake)["quarantined"] == 1


def test_nothing_but_unusable_times_is_still_accounted_for(lake: Lake) -> None:
    put(lake, [{**row, "start": 0} for row in traces.rows(4)])
    summary = repair(lake)
    assert summary.quarantined == len(traces.rows(4))
    assert repair(lake).quarantined == 0


def test_a_row_leaves_quarantine_when_its_family_arrives(lake: Lake) -> None:
    rows = on_day(5, 0)
    child = next(row for row in rows if row["parent_span_id"] and "server" in row["operation"])
    put(lake, [{**child, "start": 0}], "early")
    repair(lake)
    assert lake.read("quarantine").height == 1
    put(lake, [row for row in rows if row is not child], "family")
    repair(lake)
    assert lake.read("quarantine").height == 0
    assert lake.read("spans").height == len(rows)


def midnight(offset_ms: int) -> list[traces.Row]:
    """Requests on both sides of a midnight, between hosts of which one's clock is off."""
    begin = (traces.BEGIN // DAY_US) * DAY_US - 2_000_000
    rows = []
    for seed in range(12):
        made = traces.rows(seed, traces=6, offsets={"cart": offset_ms * 1000})
        rows.extend({**row, "start": row["start"] - traces.BEGIN + begin} for row in made)
    return rows


@pytest.mark.parametrize("offset_ms", [900, -900])
def test_a_clock_that_crosses_midnight_loses_and_doubles_no_row(lake: Lake, offset_ms: int) -> None:
    rows = midnight(offset_ms)
    put(lake, rows)
    repair(lake)
    clean = lake.read("spans")
    assert clean.height == len(rows)
    assert clean.filter(pl.col("start").dt.date() != pl.col("date")).is_empty()
    assert (lake.read("repairs")["rule"] == "order").any()
    for day, number in ((date(2025, 3, 10), 1), (FIRST, 2), (date(2025, 3, 12), 3)):
        put(
            lake,
            [
                {
                    **row,
                    "start": row["start"] + (number - 2) * DAY_US,
                    "trace_id": f"{number}{row['trace_id'][1:]}",
                }
                for row in traces.rows(99)
            ],
            f"more{day}",
        )
        repair(lake)
        assert spans_row(lake)["clean"] == lake.read("raw_spans").height
    assert repair(lake).days == set()


def test_rows_ingested_piece_by_piece_end_as_rows_ingested_at_once(
    lake: Lake, tmp_path: Path
) -> None:
    rows = midnight(900)
    other = Lake(tmp_path / "other").create()
    half = len(rows) // 2
    for target, once in ((lake, False), (other, True)):
        put(target, rows[:half], "one")
        if not once:
            repair(target)
        put(target, rows[half:], "two")
        repair(target)
    assert_same(lake, other)


def test_a_run_killed_at_any_commit_is_completed_by_the_next(tmp_path: Path) -> None:
    rows = [*midnight(900), *traces.spoiled(7)[0]]
    whole = Lake(tmp_path / "whole").create()
    put(whole, rows)
    repair(whole, now=NOW)
    commits = sum(whole.versions(*TABLES).values()) - 1
    assert commits > 8
    for count in range(0, commits, 2):
        lake = Mortal(tmp_path / f"killed{count}")
        lake.left = -1
        lake.create()
        put(lake, rows)
        lake.left = count
        with pytest.raises(Killed):
            repair(lake, now=NOW)
        lake.left = -1
        repair(lake, now=NOW)
        assert_same(lake, whole)
        assert repair(lake).days == set()


def test_audit_rows_name_rule_version_and_raw_version(lake: Lake) -> None:
    put(lake, traces.spoiled(8)[0])
    repair(lake)
    audit = lake.read("repairs")
    assert audit["rule_version"].min() > 0  # type: ignore[operator]
    assert audit["raw_version"].unique().to_list() == [lake.version("raw_spans")]
    assert (
        audit.select("run_id", "row_key", "rule", "column_name").null_count().sum_horizontal()[0]
        == 0
    )


def test_red_and_edges_count_the_repaired_spans(lake: Lake) -> None:
    put(lake, traces.spoiled(9)[0])
    repair(lake)
    spans, red, edges = (lake.read(name) for name in ("spans", "red", "edges"))
    assert red["calls"].sum() == spans.height
    assert 0 < edges["calls"].sum() < spans.height
    assert (red["self_p50_ns"] <= red["duration_p50_ns"]).all()
