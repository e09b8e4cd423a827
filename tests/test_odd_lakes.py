"""Diagnosis of odd lakes: a sensible answer that says what was missing."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

import rootlake as api
from lake import Lake, UserError
from rca import evidence
from rca.detect import detect
from rca.diagnose import NOTHING, UNCOMPARED, UNKEPT, diagnose
from rca.question import Question
from rca.report.html import page
from rca.report.terminal import render
from rca.snapshot import Snapshot

from .conftest import ROOT, rootlake
from .odd_lakes import AT, ONSET, fill, logs, samples, spans

Tables = Mapping[str, pl.DataFrame]
MINUTE = timedelta(minutes=1)
BAD, GOOD = spans(), spans(onset=None)
ASKED = Question(AT)
WITHOUT_IDS = logs(BAD)["logs"].with_columns(trace_id=pl.lit(None, pl.String))
NAN = samples(float("nan"), float("nan"))
FIRST = BAD.filter(pl.col("start") >= AT)["trace_id"].min()
GAP = pl.col("start").is_between(AT - 20 * MINUTE, AT - 5 * MINUTE)
YESTERDAY = GOOD.with_columns(pl.col("start") - timedelta(days=2)).with_columns(
    start_ns=pl.col("start").dt.epoch("ns"),
    date=pl.col("start").dt.date(),
    trace_id=pl.col("trace_id").str.replace("^0", "e"),
)


def crowd(count: int = 5000) -> pl.DataFrame:
    """One healthy request to each of so many services."""
    rows = pl.concat([GOOD.filter(pl.col("service") == "front").head(1)] * count)
    number = pl.int_range(count).cast(pl.String)
    return rows.with_columns(
        service=pl.concat_str(pl.lit("svc-"), number),
        trace_id=pl.concat_str(pl.lit("f"), number.str.zfill(31)),
        span_id=pl.concat_str(pl.lit("f"), number.str.zfill(15)),
        start=pl.lit(AT) - pl.duration(seconds=pl.int_range(count) % 2400),
    ).with_columns(start_ns=pl.col("start").dt.epoch("ns"))


def other_shop() -> pl.DataFrame:
    """The same incident at the same time among services that have nothing to do with the first."""
    names = {"front": "desk", "shop": "pay", "stock": "ledger"}
    return spans(names=names).with_columns(pl.col("trace_id").str.replace("^0", "f"))


def reports() -> pl.DataFrame:
    """Events of the error tracker, one in five minutes and from the onset one in six seconds."""
    times = [AT - 39 * MINUTE + 5 * MINUTE * k for k in range(7)]
    times += [ONSET + timedelta(seconds=6 * k) for k in range(30)]
    rows = pl.DataFrame({"ts": times}).with_columns(pl.col("ts").dt.cast_time_unit("us"))
    return rows.with_columns(
        date=pl.col("ts").dt.date(),
        event_id=pl.int_range(pl.len()).cast(pl.String),
        service=pl.lit("stock"),
        type=pl.lit("KeyError"),
        group_id=pl.lit("g1"),
        message=pl.lit("'sku'"),
    )


STOCK = {  # what leaves the answer as it is
    "everything": ({"spans": BAD, **samples(), **logs(BAD)}, ASKED),
    "traces only": ({"spans": BAD}, ASKED),
    "one service": (
        {"spans": BAD.filter(pl.col("service") == "stock").with_columns(parent_span_id=None)},
        ASKED,
    ),
    "a gap of the clock": ({"spans": BAD.filter(~GAP)}, ASKED),
    "days without data": ({"spans": pl.concat([BAD, YESTERDAY])}, ASKED),
    "metrics that are no number": ({"spans": BAD, **NAN}, ASKED),
    "failing all day": ({"spans": BAD.with_columns(status=pl.lit("error"))}, ASKED),
    "5000 services": ({"spans": pl.concat([BAD, crowd()])}, ASKED),
    "no operations": ({"spans": BAD.with_columns(operation=pl.lit(None, pl.String))}, ASKED),
    "no durations": ({"spans": BAD.with_columns(duration_ns=pl.lit(None, pl.Int64))}, ASKED),
    "a baseline with the incident in it": (
        {"spans": BAD},
        replace(ASKED, baselines=((AT - 30 * MINUTE, AT),)),
    ),
}
NAMES = ['sto\'ck "x"; --', "склад 📦", "sto\nck\t\x1b[31m", "<script>[/bold]", "a" * 300]


def asked(folder: Path, tables: Tables, question: Question = ASKED) -> tuple[Lake, dict[str, Any]]:
    """The answer, which can be shown and whose evidence holds."""
    lake = fill(Lake(folder / "lake"), tables)
    answer = diagnose(lake, question)
    assert json.loads(json.dumps(answer)) == answer
    assert all(evidence.rerun(lake, one) == one["result"] for one in answer["evidence"])
    screen = io.StringIO()
    render(answer, Console(file=screen))
    assert "\x1b" not in screen.getvalue()
    return lake, answer


@pytest.mark.parametrize(("tables", "question"), STOCK.values(), ids=STOCK)
def test_the_culprit_is_named(tmp_path: Path, tables: Tables, question: Question) -> None:
    lake, answer = asked(tmp_path, tables, question)
    assert answer["suspects"][0]["service"] == "stock"
    assert answer["verdict"] == "confirmed"
    assert page(lake, answer)


@pytest.mark.parametrize("name", NAMES)
def test_a_service_may_be_called_anything(tmp_path: Path, name: str) -> None:
    lake, answer = asked(tmp_path, {"spans": spans(names={"stock": name})})
    assert answer["suspects"][0]["service"] == name
    assert (answer["propagation"][0]["from"], answer["propagation"][0]["to"]) == (name, "shop")
    assert "<script>[" not in page(lake, answer)


@pytest.mark.parametrize(
    ("tables", "named", "says"),
    [
        ({**samples()}, "stock", "no traces"),
        ({**logs(BAD)}, "stock", "no traces"),
        ({**logs(BAD), "logs": WITHOUT_IDS}, "stock", "no metrics"),
        ({"errors": reports()}, "stock", "no logs"),
        ({"spans": BAD.with_columns(parent_span_id=None)}, "front", "who calls whom is not known"),
    ],
    ids=["metrics", "logs", "logs of no trace", "error tracker", "no parents"],
)
def test_one_kind_of_telemetry_names_somebody_and_is_not_sure(
    tmp_path: Path, tables: Tables, named: str, says: str
) -> None:
    _, answer = asked(tmp_path, tables)
    assert answer["suspects"][0]["service"] == named
    assert answer["verdict"] == "inconclusive"
    assert any(says in one for one in answer["missing"])


@pytest.mark.parametrize(
    ("tables", "question"),
    [
        ({"spans": BAD.filter(pl.col("start") >= ONSET)}, ASKED),
        ({"spans": spans(start=ONSET)}, Question(AT - MINUTE)),
        ({"spans": BAD.filter(pl.col("trace_id") == FIRST)}, ASKED),
        ({"spans": BAD}, replace(ASKED, baselines=((AT - 300 * MINUTE, AT - 299 * MINUTE),))),
        (NAN, ASKED),
    ],
    ids=["no baseline", "the very start", "one trace", "a baseline of nothing", "no number"],
)
def test_without_healthy_time_nobody_is_blamed_and_it_is_said(
    tmp_path: Path, tables: Tables, question: Question
) -> None:
    _, answer = asked(tmp_path, tables, question)
    assert answer["suspects"] == []
    assert answer["summary"] == UNCOMPARED
    assert answer["verdict"] == "inconclusive"


def test_of_healthy_time_it_is_said_that_nothing_differs(tmp_path: Path) -> None:
    lake, answer = asked(tmp_path, {"spans": GOOD, **samples(peak=10.0), **logs(GOOD)})
    assert (answer["suspects"], answer["summary"]) == ([], NOTHING)
    assert not detect(lake).filter(pl.col("trigger") != "asked").height


def test_of_two_incidents_at_once_it_is_about_the_one_that_was_seen(tmp_path: Path) -> None:
    lake, answer = asked(tmp_path, {"spans": pl.concat([BAD, other_shop()])})
    assert {one["service"] for one in answer["suspects"][:2]} == {"stock", "ledger"}
    assert answer["verdict"] == "likely"  # both are as suspect
    assert "nothing that tells ledger, stock apart: they are as suspect" in answer["missing"]
    for seen, named in (("front", "stock"), ("desk", "ledger")):
        of_one = api.Lake(lake.root).diagnose(at=AT, service=seen)
        assert of_one["suspects"][0]["service"] == named
        assert of_one["verdict"] == "confirmed"


def test_a_service_that_is_not_there_is_said(tmp_path: Path) -> None:
    lake = fill(Lake(tmp_path / "lake"), {"spans": BAD})
    shown = rootlake(
        *("diagnose", "--at", AT.isoformat(), "--service", "nosuch"),
        *("--lake", lake.root, "--json"),
    )
    answer = json.loads(shown.stdout)
    assert "no telemetry of 'nosuch', the service asked for" in answer["missing"]


def test_a_healthy_time_that_fails_itself_is_said(tmp_path: Path) -> None:
    _, answer = asked(tmp_path, {"spans": GOOD.with_columns(status=pl.lit("error"))})
    assert answer["verdict"] == "inconclusive"
    says = "no time in which requests succeed: 100% of healthy time's spans fail"
    assert says in answer["missing"]


def test_spans_of_no_service_are_counted(tmp_path: Path) -> None:
    nameless = pl.when(pl.col("service") != "stock").then("service")
    _, answer = asked(tmp_path, {"spans": BAD.with_columns(service=nameless)})
    assert "no service of 75 spans in the incident's window" in answer["missing"]


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"spans": BAD}, "around 2031-01-01 11:58 UTC; spans lie between 2025-06-03 13:30"),
        (samples(), "samples lie between 2025-06-03 13:31"),
        ({}, "it is empty."),
    ],
)
def test_a_time_of_which_there_is_nothing_is_one_sentence(
    tmp_path: Path, tables: Tables, says: str
) -> None:
    lake = fill(Lake(tmp_path / "lake"), tables)
    shown = rootlake("diagnose", "--at", "2031-01-01T12:00Z", "--lake", lake.root)
    assert shown.returncode == 1
    assert says in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_rows_that_were_never_repaired_are_pointed_at(tmp_path: Path) -> None:
    raw = pl.DataFrame({"trace_id": ["a" * 32], "service": ["x"], "date": [AT.date()]})
    lake = fill(Lake(tmp_path / "lake"), {"raw_spans": raw})
    with pytest.raises(UserError, match="Rows of that day wait for `rootlake repair`"):
        diagnose(lake, ASKED)


@pytest.mark.parametrize(("hit", "pod"), [(1, "stock-1"), (2, None)])
def test_a_pod_is_named_where_the_others_are_not_hit(
    tmp_path: Path, hit: int, pod: str | None
) -> None:
    made = [samples(peak=90.0 if place <= hit else 10.0, number=place) for place in (1, 2, 3)]
    tables = {name: pl.concat([one[name] for one in made]) for name in ("samples", "series")}
    _, answer = asked(tmp_path, {"spans": BAD, **tables})
    assert (answer["suspects"][0]["service"], answer["suspects"][0]["pod"]) == ("stock", pod)


def test_who_is_ruled_out_waits_and_fails_for_another_and_the_evidence_shows_it(
    tmp_path: Path,
) -> None:
    _, answer = asked(tmp_path, {"spans": BAD})
    assert [one["service"] for one in answer["ruled_out"]] == ["shop", "front"]
    for one in answer["ruled_out"]:
        entry = evidence.find(answer, one["evidence"][0])
        rows = [dict(zip(entry["columns"], row, strict=True)) for row in entry["result"]]
        row = next(r for r in rows if (r["part"], r["service"]) == ("incident", one["service"]))
        assert row["failing_itself"] == 0
        assert row["failing"] > 0.3
        assert row["own_p95_ms"] < 5 < row["p95_ms"]


def test_what_is_written_meanwhile_is_neither_scored_nor_cited(tmp_path: Path) -> None:
    lake = fill(Lake(tmp_path / "lake"), {"spans": GOOD})
    still = Snapshot(lake)
    before = still.version("spans"), still.scan("spans").collect().height
    fill(lake, {"spans": other_shop()})
    assert (still.version("spans"), still.scan("spans").collect().height) == before
    assert still.open("spans", 0).version() == 0
    assert lake.version("spans") > before[0]


ASK = """
import json, sys
from datetime import datetime
from lake import Lake
from rca.diagnose import diagnose
from rca.question import Question
answer = diagnose(Lake(sys.argv[1]), Question(datetime.fromisoformat(sys.argv[2])))
print(json.dumps({**answer, "duration_ms": 0}, indent=1))
"""


def test_the_answer_is_the_same_whatever_the_threads_and_the_seed(
    demo_folder: Path, tmp_path: Path
) -> None:
    runs = []
    for many in ("1", "2"):
        lake = shutil.copytree(demo_folder / "lake", tmp_path / many)
        runs.append(
            subprocess.Popen(
                [sys.executable, "-c", ASK, str(lake), "2025-03-13T16:33:00+00:00"],
                env={**os.environ, "PYTHONHASHSEED": many, "POLARS_MAX_THREADS": many},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    first, second = (run.communicate()[0] for run in runs)
    assert "llm-gateway" in first
    assert first == second


def test_a_lake_that_cannot_be_written_to_is_answered_from_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = fill(Lake(tmp_path / "lake"), {"spans": BAD})
    monkeypatch.setattr(Lake, "append", None)  # as root the folder could be written to
    monkeypatch.setattr(os, "access", lambda *_: False)
    answer = diagnose(lake, ASKED)
    assert answer["suspects"][0]["service"] == "stock"
    assert UNKEPT in answer["missing"]
    assert not lake.read("incidents").height
