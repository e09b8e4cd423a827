"""Upkeep beside writers and readers: small files, old days, old files, erased rows."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import CommitFailedError
from polars.testing import assert_frame_equal

from lake import TABLES, Lake, UserError, empty, fit, frames, sql
from lake.files import exchange, placed, read
from lake.maintain import Plan, cited, compact, expire, maintain, retain, vacuum
from lake.purge import bury
from lake.stage import stage
from lake.tombstones import Pending
from quality.account import account
from quality.erase import erase
from quality.explain import explain
from quality.run import repair
from tests import quality_traces as traces
from tests.conftest import rootlake
from tests.test_quality_run import FIRST, on_day, put, spans_row

TODAY = FIRST + timedelta(days=3)
USER = "5f" * 16


@pytest.fixture
def lake(tmp_path: Path, whole: Lake) -> Lake:
    shutil.copytree(whole.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of three days in many small files, repaired."""
    made = Lake(tmp_path_factory.mktemp("maintain") / "lake").create()
    for number in range(3):
        for piece in range(3):
            rows = on_day(10 * number + piece, -number)
            put(made, rows, f"day{number}piece{piece}")
            received(made, len(rows))
    repair(made)
    return made


def received(lake: Lake, count: int) -> None:
    """What ingest counts of a delivery."""
    row = {"run_id": "ingest/x", "table_name": "raw_spans", "date": FIRST, "rows": count}
    frame = pl.DataFrame([{**row, "check_name": "received", "recorded_at": datetime.now(UTC)}])
    frame = frame.with_columns(pl.col("recorded_at").cast(pl.Datetime("us", "UTC")))
    whole = pl.concat([empty(TABLES["scorecard"]), frame], how="diagonal_relaxed")
    lake.append("scorecard", fit(TABLES["scorecard"], whole))


def rows_of(lake: Lake, name: str) -> pl.DataFrame:
    return lake.scan(name).select(pl.exclude(pl.Map)).collect().sort("date", "batch", "arrival")


def cite(lake: Lake, table: str, version: int, incident: str = "INC-1", **more: Any) -> None:
    """A kept diagnosis whose evidence cites a table version."""
    entry = {
        "id": "e1",
        "query": f"select count(*) from {table}",
        "tables": {table: version},
        **more,
    }
    rows = {
        "diagnoses": {"evidence": json.dumps([entry]), "answer": json.dumps({"evidence": [entry]})},
        "incidents": {"status": "open"},
    }
    for name, row in rows.items():
        frame = pl.DataFrame([{"incident_id": incident, **row}])
        lake.append(name, pl.concat([empty(TABLES[name]), frame], how="diagonal"))


def test_compaction_keeps_rows_order_statistics_and_bloom_filters(lake: Lake) -> None:
    before = rows_of(lake, "raw_spans")
    assert len(placed(lake.open("raw_spans"))) == 9
    for name in TABLES:
        compact(lake, name)
    files = placed(lake.open("raw_spans"))
    assert len(files) == 3
    assert_frame_equal(rows_of(lake, "raw_spans"), before)
    for one in files:
        rows = pl.read_parquet(f"{lake.uri('raw_spans')}/{one.path}")
        assert rows.equals(frames.sort(TABLES["raw_spans"], rows))
    add = lake.open("raw_spans").get_add_actions(flatten=True)
    held = pl.DataFrame(pl.from_arrow(pa.table(add)))
    assert held["num_records"].sum() == before.height
    assert held["min.trace_id"].null_count() == 0
    assert held["null_count.parent_span_id"].sum() == before["parent_span_id"].null_count()


def test_compacted_spans_have_a_bloom_filter_on_the_trace(lake: Lake) -> None:
    day = lake.scan("spans").filter(pl.col("date") == FIRST).collect()
    lake.replace_day("spans", FIRST, day[:50])
    lake.append("spans", day[50:])
    assert compact(lake, "spans")
    newest = max(Path(lake.uri("spans")).rglob("sum-*.parquet"), key=lambda f: f.stat().st_mtime)
    found = duckdb.execute(
        "select bloom_filter_length from parquet_metadata(?) where path_in_schema = 'trace_id'",
        [str(newest)],
    )
    assert all(length and length > 0 for (length,) in found.fetchall())
    assert missing(lake).is_empty()
    assert len(placed(lake.open("spans"))) == 3


def missing(lake: Lake) -> pl.DataFrame:
    """Spans that a look-up by trace id does not find."""
    spans = lake.read("spans").group_by("trace_id").len()
    found = [
        sql(lake, f"select * from spans where trace_id = '{trace}'").num_rows
        for trace in spans["trace_id"]
    ]
    return spans.filter(pl.col("len") != pl.Series(found, dtype=pl.UInt32))


def test_compacted_days_are_not_repaired_again(lake: Lake) -> None:
    assert [one for name in TABLES for one in compact(lake, name)]
    assert repair(lake).days == set()
    put(lake, on_day(77, 0), "late")
    compact(lake, "raw_spans")
    assert FIRST in repair(lake).days


def test_a_second_maintenance_finds_nothing_to_do(lake: Lake) -> None:
    plan = Plan(hours=0, keep={"raw_spans": 30})
    assert maintain(lake, plan, TODAY)
    again = maintain(lake, plan, TODAY)
    assert [one for one in again if one.step in {"compact", "retain", "vacuum"}] == []


def test_dry_run_tells_and_changes_nothing(lake: Lake) -> None:
    before = lake.versions(*TABLES)
    files = sorted(Path(lake.root).rglob("*.parquet"))
    plan = Plan(hours=0, keep={"raw_spans": 2, "spans": 2})
    told = maintain(lake, plan, TODAY, dry=True)
    assert {one.step for one in told} >= {"retain", "compact"}
    assert lake.versions(*TABLES) == before
    assert sorted(Path(lake.root).rglob("*.parquet")) == files


def test_an_append_between_plan_and_commit_is_not_lost_and_nothing_doubled(lake: Lake) -> None:
    before = lake.scan("raw_spans").select(pl.len()).collect().item()
    old = [one for one in placed(lake.open("raw_spans")) if one.partition["date"] == str(FIRST)]
    put(lake, on_day(88, 0), "meanwhile")
    more = len(on_day(88, 0))
    assert exchange(lake, "raw_spans", old[:1], [], {"gone": old[0].rows})
    now = lake.scan("raw_spans").select(pl.len()).collect().item()
    assert now == before + more - old[0].rows
    assert not exchange(lake, "raw_spans", old, [])
    assert lake.transactions("raw_spans", ["gone"]) == {"gone": old[0].rows}


def test_vacuum_leaves_what_evidence_of_kept_incidents_cites(lake: Lake) -> None:
    version = lake.version("spans")
    count = sql(lake, "select count(*) c from spans").to_pylist()
    cite(lake, "spans", version)
    put(lake, on_day(91, 0), "more")
    repair(lake)
    assert cited(lake) == {"spans": [version]}
    assert vacuum(lake, "red", 0, ())
    maintain(lake, Plan(hours=0, log_days=1), TODAY)
    assert sql(lake, "select count(*) c from spans", {"spans": version}).to_pylist() == count
    lake.update("incidents", lambda rows: rows.clear())
    assert cited(lake) == {}
    maintain(lake, Plan(hours=0), TODAY)
    with pytest.raises(UserError):
        sql(lake, "select sum(duration_ns) c from spans", {"spans": version})


def test_staged_files_that_never_landed_go_when_they_are_old(lake: Lake) -> None:
    orphan = Path(lake.uri("raw_spans")) / f"date={FIRST}" / "part-orphan.zstd.parquet"
    orphan.write_bytes(next(orphan.parent.glob("*.parquet")).read_bytes())
    vacuum(lake, "raw_spans", 168, ())
    assert orphan.exists()
    old = time.time() - 200 * 3600
    os.utime(orphan, (old, old))
    vacuum(lake, "raw_spans", 168, ())
    assert not orphan.exists()


def test_old_logs_go_and_the_table_stays_readable(lake: Lake) -> None:
    for number in range(12):
        put(lake, on_day(200 + number, 0), f"many{number}")
    rows = lake.scan("raw_spans").select(pl.len()).collect().item()
    log = Path(lake.uri("raw_spans")) / "_delta_log"
    old = time.time() - 40 * 86_400
    for file in log.iterdir():
        os.utime(file, (old, old))
    done = maintain(lake, Plan(), TODAY)
    assert {"checkpoint"} <= {one.step for one in done if one.table == "raw_spans"}
    for file in log.iterdir():
        os.utime(file, (old, old))
    before = len(list(log.glob("*.json")))
    maintain(lake, Plan(), TODAY)
    assert len(list(log.glob("*.json"))) < before
    assert lake.scan("raw_spans").select(pl.len()).collect().item() == rows
    put(lake, on_day(300, 0), "after")


def test_expired_raw_days_leave_their_clean_days_and_the_account_balances(lake: Lake) -> None:
    assert spans_row(lake)["balanced"]
    clean = lake.read("spans").height
    done = retain(lake, {"raw_spans": 3}, FIRST + timedelta(days=2))
    assert done[0].rows > 0
    assert lake.days("raw_spans")[0] == FIRST - timedelta(days=1)
    assert repair(lake).days == set()
    assert repair(lake, upgrade=True).days <= {FIRST}
    assert lake.read("spans").height == clean
    line = spans_row(lake)
    assert line["balanced"], line
    assert line["expired"] == done[0].rows
    assert expire(lake, "raw_spans", FIRST - timedelta(days=1)) == []


def test_expired_clean_days_are_not_made_again_and_red_may_stay_longer(lake: Lake) -> None:
    red = lake.read("red").height
    retain(lake, {"spans": 2, "repairs": 1}, FIRST + timedelta(days=1))
    assert lake.days("spans") == [FIRST - timedelta(days=1), FIRST]
    assert repair(lake).days == set()
    assert lake.read("red").height == red
    assert spans_row(lake)["balanced"]


def test_a_wrong_retention_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rootlake.toml"
    file.write_text("[retention]\nseries = 3\n")
    done = rootlake("--config", file, "maintain")
    assert done.returncode == 1
    assert "'series' does not expire" in done.stderr


# -- erasure -------------------------------------------------------------------------------


def user_errors(lake: Lake, batch: str) -> None:
    ts = datetime(2025, 3, 11, 12, tzinfo=UTC)
    rows = [
        {
            "date": FIRST,
            "ts": ts + timedelta(seconds=number),
            "event_id": f"{batch}{number}",
            "project": "shop",
            "user_hash": USER if number % 2 else "a" * 32,
            "received_at": ts,
            "batch": batch,
            "source": "sentry",
            "arrival": number,
            "ingested_at": ts + timedelta(days=1),
        }
        for number in range(6)
    ]
    times = dict.fromkeys(("ts", "received_at", "ingested_at"), pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(rows, schema_overrides=times)
    whole = pl.concat([empty(TABLES["raw_errors"]), frame], how="diagonal_relaxed")
    lake.append("raw_errors", fit(TABLES["raw_errors"], whole))


def anywhere(root: str, value: str) -> list[str]:
    """Every file of a lake that holds a text: data read, logs as bytes."""
    found = []
    for file in Path(root).rglob("*"):
        if file.is_dir() or file.stat().st_size == 0:
            continue
        if file.suffix == ".parquet":
            text = str(pq.read_table(file, partitioning=None).to_pylist())
            text += str(pq.read_metadata(file).to_dict())
        else:
            text = file.read_bytes().decode(errors="replace")
        if value in text:
            found.append(str(file.relative_to(root)))
    return found


def test_an_erased_trace_is_nowhere_and_stays_out(lake: Lake) -> None:
    put(lake, traces.spoiled(5, faults=25)[0], "spoiled")
    received(lake, len(traces.spoiled(5, faults=25)[0]))
    repair(lake)
    audit = lake.read("repairs").drop_nulls("trace_id")
    trace = audit["trace_id"].mode().sort()[0]
    before = explain(lake, trace)
    keys = {one["row_key"] for part in ("spans", "merged") for one in before[part]}
    damaged = set(
        audit.filter(pl.col("trace_id") == trace, pl.col("column_name") == "trace_id")["before"]
    )
    cite(lake, "spans", lake.version("spans"), result=[[trace]])
    raw = lake.read("raw_spans")
    mine = raw.filter(pl.format("{}:{}", "batch", "arrival").is_in(list(keys)))
    assert mine.height == len(keys) > 0
    told = erase(lake, "trace", trace, dry=True)
    assert told["rows"]["raw_spans"] == mine.height
    done = erase(lake, "trace", trace)
    assert done["left"] == []
    assert anywhere(lake.root, trace) == []
    for value in damaged - {None}:
        assert len(value.strip("0")) < 16 or anywhere(lake.root, value) == []
    assert spans_row(lake)["balanced"]
    assert spans_row(lake)["erased"] == mine.height
    put(lake, mine.drop("date", "batch", "source", "ingested_at").to_dicts(), "again")
    received(lake, mine.height)
    repair(lake)
    assert not lake.read("spans").filter(pl.col("trace_id") == trace).height
    assert anywhere(lake.root, trace) == []
    line = spans_row(lake)
    assert line["balanced"], line
    entry = json.loads(lake.read("diagnoses")["evidence"][0])[0]
    assert sql(lake, entry["query"], entry["tables"]).num_rows == 1
    assert "[erased]" in entry["result"][0][0]
    with pytest.raises(UserError, match="no row of trace"):
        erase(lake, "trace", trace)


def test_an_erased_user_is_nowhere_and_others_stay(lake: Lake) -> None:
    user_errors(lake, "one")
    repair(lake)
    assert lake.read("errors").height == 6
    done = erase(lake, "user", USER)
    assert done["rows"] == {"raw_errors": 3, "errors": 3}
    assert anywhere(lake.root, USER) == []
    assert lake.read("errors")["user_hash"].unique().to_list() == ["a" * 32]
    user_errors(lake, "two")
    repair(lake)
    assert anywhere(lake.root, USER) == []
    lines = {line["table"]: line for line in account(lake).to_dicts()}
    assert lines["errors"]["erased"] == 6
    assert lines["errors"]["raw"] == lines["errors"]["clean"]


def test_a_commit_that_looked_before_the_tombstone_was_set_fails_and_looks_again(
    lake: Lake,
) -> None:
    user_errors(lake, "one")
    stale = lake.open("raw_errors")
    bury(lake, "raw_errors", [USER])
    (file,) = placed(stale)
    rows = read(lake, "raw_errors", [file])
    table = TABLES["raw_errors"]
    folder = Path(lake.uri("raw_errors"))
    with pytest.raises(CommitFailedError):
        lake._add("raw_errors", stale, Pending(folder, table, stage(folder, table, rows)), None)
    lake.commit("raw_errors", stage(folder, table, rows), {"again": 1})
    assert lake.read("raw_errors").height == 6 + 3
    assert lake.transactions("raw_errors", ["erased"]) == {"erased": 3}


def test_the_command_plans_does_and_refuses(lake: Lake) -> None:
    told = rootlake("--lake", lake.root, "--json", "maintain", "--dry-run")
    assert json.loads(told.stdout)["dry_run"] is True
    assert len(placed(lake.open("raw_spans"))) == 9
    done = rootlake("--lake", lake.root, "maintain", "compact")
    assert done.returncode == 0, done.stderr
    assert "compact" in done.stdout
    assert len(placed(lake.open("raw_spans"))) == 3
    for words, code in (("user=", 2), ("spam=abcdefgh", 2), ("trace=abc", 2), ("user=" + USER, 1)):
        refused = rootlake("--lake", lake.root, "maintain", "--erase", words)
        assert refused.returncode == code, refused.stderr
        assert len(refused.stderr.splitlines()) == 1
