"""`repair` on disk: whole days, once, accounted for, and right where the truth is known."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest

from ingest.run import ingest
from lake import Lake, sql
from quality.account import account
from quality.run import repair

from .conftest import ROOT
from .test_land import traces


def test_a_second_run_writes_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ingest(lake, "jaeger", traces(tmp_path / "traces"))
    first = repair(lake).as_dict()
    assert first["days"] == ["2025-03-11"]
    tables = ("spans", "repairs", "quarantine", "scorecard", "red", "edges", "templates")
    before = lake.versions(*tables)
    assert repair(lake).as_dict()["days"] == []
    assert lake.versions(*tables) == before


def test_late_rows_bring_their_day_up_to_date(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    folder = traces(tmp_path / "traces", files=2)
    ingest(lake, "jaeger", folder / "00.json")
    repair(lake)
    ingest(lake, "jaeger", folder / "01.json")
    assert not account(lake).row(0, named=True)["balanced"]
    assert repair(lake).as_dict()["days"] == ["2025-03-11"]
    line = account(lake).row(0, named=True)
    assert (line["raw"], line["clean"], line["balanced"]) == (800, 800, True)


def test_a_run_that_died_between_tables_is_completed(tmp_path: Path) -> None:
    whole, broken = Lake(tmp_path / "whole"), Lake(tmp_path / "broken")
    folder = traces(tmp_path / "traces", files=2)
    for lake in (whole, broken):
        ingest(lake, "jaeger", folder)
        repair(lake)
    day = whole.days("red")[0]
    broken.replace_day("red", day, broken.read("red").clear(), {f"repair/{day}": 1})
    assert repair(broken).as_dict()["days"] == [str(day)]
    for name in ("spans", "red", "edges"):
        assert broken.read(name).equals(whole.read(name)), name


def test_rows_without_any_day_go_to_quarantine_and_stay_counted(tmp_path: Path) -> None:
    folder = traces(tmp_path / "traces", files=1, spans=4)
    text = (folder / "00.json").read_text()
    for place in range(4):
        text = text.replace(f'"startTime": {1741701600000000 + place}', '"startTime": 0')
    (folder / "00.json").write_text(text)
    lake = Lake(tmp_path / "lake")
    ingest(lake, "jaeger", folder)
    repair(lake)
    line = account(lake).row(0, named=True)
    assert (line["raw"], line["clean"], line["quarantined"], line["balanced"]) == (4, 0, 4, True)
    kept = json.loads(lake.read("quarantine")["raw_row"][0])
    assert kept["operation"] == "work"


@pytest.fixture(scope="module")
def truth() -> pl.DataFrame:
    """The planted faults of the sample data."""
    with gzip.open(ROOT / "sample_data" / "truth" / "spans.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        row["wrong"], row["right"] = str(row["wrong"]), str(row["right"])
    return pl.DataFrame(rows)


def batches(lake: Lake) -> dict[str, str]:
    """sample file → batch, by the content's name."""
    from ingest.batch import content_id

    folder = ROOT / "sample_data" / "jaeger"
    known = set(lake.scan("raw_spans").select("batch").unique().collect()["batch"])
    found = {
        file.name: f"{content_id(gzip.decompress(file.read_bytes()))}.1"
        for file in folder.glob("*.gz")
    }
    assert set(found.values()) == known
    return found


def on_true_clocks(lake: Lake, shown: dict[str, int]) -> dict[str, int]:
    """Times of rows (row_key → µs) as their hosts' clocks showed them → ns by the right clock."""
    spans = lake.scan("spans").select("span_id", "host", "start_ns", "clock_offset_ns").collect()
    keys = lake.scan("raw_spans").select("span_id", key=pl.format("{}:{}", "batch", "arrival"))
    asked = (
        pl.DataFrame({"key": list(shown), "at": [at * 1000 for at in shown.values()]})
        .join(keys.collect(), on="key")
        .join(spans.select("span_id", "host").unique("span_id"), on="span_id")
        .sort("at")
    )
    moved = spans.filter(pl.col("clock_offset_ns") != 0).select(
        "host", "clock_offset_ns", at=pl.col("start_ns") + pl.col("clock_offset_ns")
    )
    near = asked.join_asof(
        moved.sort("at"), on="at", by="host", strategy="nearest", check_sortedness=False
    )
    right = pl.col("at") - pl.col("clock_offset_ns").fill_null(0)
    return dict(near.select("key", right).rows())


def test_planted_faults_are_repaired_rightly_and_healthy_rows_untouched(
    demo_folder: Path, truth: pl.DataFrame
) -> None:
    lake = Lake(demo_folder / "lake")
    names = batches(lake)
    planted: dict[tuple[str, str], tuple[str, str]] = {}
    for file, place, rule, column, right in truth.select(
        "file", "place", "rule", "column", "right"
    ).rows():
        planted[f"{names[file]}:{place}", column] = (rule, right)
    audit = lake.scan("repairs").filter(
        pl.col("table_name") == "spans", ~pl.col("rule").is_in(["clock_skew", "order"])
    )
    steps: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    changed = audit.select("row_key", "column_name", "before", "after").collect()
    for key, column, before, after in changed.rows():
        steps[key, column][before] = after
    last = {key: (set(one.values()) - set(one)).pop() for key, one in steps.items()}
    starts = {key: int(one[1]) for (key, name), one in planted.items() if name == "start"}
    times = on_true_clocks(lake, starts)
    wrong: dict[str, int] = defaultdict(int)
    right: dict[str, int] = defaultdict(int)
    strangers = []
    for (key, column), after in last.items():
        if column == "duration_ns" or (after is None and column != "row"):
            continue  # follows its start; or an id that is none was left out, which no rule mended
        if column == "row":  # of two equal copies either may stay
            right["span_duplicate"] += 1
            continue
        name = {"start_ns": "start"}.get(column, column)
        if (key, name) not in planted:
            strangers.append((key, column))
            continue
        rule, wanted = planted[key, name]
        if name == "start":  # units are mended before the clocks, all else after them
            at = int(wanted) * 1000 if rule == "time_unit" else times[key]
            same = abs(int(after) - at) < 1_000_000
        else:
            same = after == wanted
        (right if same else wrong)[rule] += 1
    assert not wrong, dict(wrong)
    assert len(strangers) <= 2, strangers[:5]  # rows that had to follow a damaged one
    for rule in (
        "id_format",
        "id_truncated",
        "id_missing",
        "id_corrupt",
        "time_unit",
        "span_duplicate",
    ):
        total = sum(1 for one in planted.values() if one[0] == rule)
        assert 0.97 * total <= right[rule] <= total, (rule, right[rule], total)


def test_clocks_are_set_right_within_a_millisecond(demo_folder: Path) -> None:
    lake = Lake(demo_folder / "lake")
    told = json.loads((ROOT / "sample_data" / "truth" / "clocks.json").read_text())
    days = {
        "bad-commit": "2025-03-11",
        "network-delay": "2025-03-12",
        "runtime-upgrade": "2025-03-13",
    }
    for name, day in days.items():
        wrong = {host for host, clock in told[name].items() if clock["offset"]}
        rows = sql(
            lake,
            f"select distinct host from spans where clock_offset_ns <> 0 and date = date '{day}'",
        )
        assert set(rows["host"].to_pylist()) == wrong, name
    early = """select count(*) from spans c join spans p
      on p.trace_id = c.trace_id and p.span_id = c.parent_span_id
      where c.start_ns < p.start_ns - 1000000 and len(c.faults) = 0 and len(p.faults) = 0"""
    raw = (
        early.replace("spans", "raw_spans").replace("start_ns", "start").replace("1000000", "1000")
    )
    raw = raw.split(" and len(")[0]
    assert sql(lake, raw)[0][0].as_py() > 1000
    assert sql(lake, early)[0][0].as_py() < 60
