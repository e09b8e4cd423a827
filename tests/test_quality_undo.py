"""What a rule or a run changed is taken back, stays out, and comes again when asked for."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake import TABLES, Lake, UsageError, UserError, empty, fit
from quality import frame, spans, stages, versions
from quality.account import account
from quality.run import repair
from quality.suppressions import Exempt, Suppressed, of, suppressed
from quality.undo import redo, rules, undo
from rootlake.cli import main
from tests import quality_traces as traces
from tests.conftest import TIMES
from tests.test_quality_run import FIRST, Killed, Mortal, assert_same, midnight, on_day, put

DAY = timedelta(days=1)
NEXT = FIRST + DAY


@pytest.fixture
def lake(tmp_path: Path, whole: Lake) -> Lake:
    shutil.copytree(whole.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two days with faults, repaired."""
    made = Lake(tmp_path_factory.mktemp("undo") / "lake").create()
    put(made, traces.spoiled(3, faults=20)[0], "one")
    put(made, [{**row, "start": row["start"] + 86_400_000_000} for row in bad(4)], "two")
    put(made, traces.spoiled(6, only="span_duplicate")[0], "three")
    repair(made)
    return made


def bad(seed: int) -> list[traces.Row]:
    return traces.spoiled(seed, faults=20, only="id_corrupt")[0]


def audited(lake: Lake, rule: str) -> pl.DataFrame:
    return lake.read("repairs").filter(pl.col("rule") == rule)


@pytest.mark.parametrize("rule", ["id_corrupt", "span_duplicate", "time_unit", "id_format"])
def test_an_undone_rule_changes_no_row_and_every_row_is_accounted_for(
    lake: Lake, rule: str
) -> None:
    assert audited(lake, rule).height
    undo(lake, rule, reason="not trusted")
    repair(lake)
    assert not audited(lake, rule).height
    assert not lake.read("spans").filter(pl.col("repaired").list.contains(rule)).height
    balanced(lake)
    assert repair(lake).days == set()


def balanced(lake: Lake) -> None:
    for line in account(lake).to_dicts():
        parts = line["clean"] + line["merged"] + line["joined"] + line["quarantined"]
        assert line["raw"] == parts, line


def test_undone_values_are_those_that_were_received(lake: Lake) -> None:
    before = audited(lake, "id_corrupt").filter(pl.col("column_name") == "trace_id")
    undo(lake, "id_corrupt")
    repair(lake)
    now = [*lake.read("spans")["trace_id"], *lake.read("repairs")["before"]]
    assert set(before["before"]) <= set(now)  # as it was, or another rule's to change


def test_undo_on_a_day_leaves_the_other_day_repaired(lake: Lake) -> None:
    other = audited(lake, "id_corrupt").filter(pl.col("date") == FIRST).height
    undo(lake, "id_corrupt", NEXT)
    repair(lake)
    assert audited(lake, "id_corrupt")["date"].unique().to_list() in ([FIRST], [])
    assert audited(lake, "id_corrupt").height == other
    assert suppressed(lake, NEXT) == {"id_corrupt"}
    assert suppressed(lake, FIRST) == frozenset()


def test_an_undone_rule_stays_out_for_rows_that_come_later(lake: Lake) -> None:
    undo(lake, "id_corrupt")
    repair(lake)
    put(lake, bad(9), "late")
    repair(lake)
    assert not audited(lake, "id_corrupt").height


def test_redo_gives_the_lake_that_was_there_before(lake: Lake, tmp_path: Path) -> None:
    undo(lake, "id_corrupt", NEXT)
    undo(lake, "span_duplicate")
    repair(lake)
    redo(lake, "id_corrupt", NEXT)
    redo(lake, "span_duplicate")
    repair(lake)
    fresh = Lake(tmp_path / "fresh").create()
    fresh.append("raw_spans", lake.read("raw_spans"))
    repair(fresh)
    assert_same(lake, fresh)


def test_undoing_a_run_takes_back_what_the_audit_lists_under_its_name(lake: Lake) -> None:
    first = lake.read("repairs")["run_id"][0]
    put(lake, [{**row, "start": row["start"] - 40 * 86_400_000_000} for row in bad(31)], "far")
    repair(lake)
    later = lake.read("repairs").filter(pl.col("run_id") != first)
    assert later["date"].unique().to_list() == [FIRST + timedelta(days=-40)]
    took_back = set(undo(lake, first)["rule"])
    assert {"id_corrupt", "id_format", "time_unit"} <= took_back <= set(rules())
    repair(lake)
    left = lake.read("repairs")
    assert not left.filter(pl.col("date") >= FIRST, pl.col("rule").is_in(took_back)).height
    keys = ["row_key", "rule", "column_name", "after"]
    far = left.filter(pl.col("date") < FIRST)
    assert far.select(keys).equals(later.select(keys))
    redo(lake, first)
    repair(lake)
    assert audited(lake, "id_corrupt").filter(pl.col("date") == NEXT).height


def test_a_clock_undone_on_one_side_of_midnight_loses_and_doubles_no_row(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    rows = midnight(900)
    put(lake, rows)
    repair(lake)
    before = date(2025, 3, 10)
    assert lake.read("repairs").filter(pl.col("rule") == "order").height
    undo(lake, "clock_skew", before)
    repair(lake)
    clean = lake.read("spans")
    assert clean.height == clean.unique(["trace_id", "span_id"]).height == len(rows)
    raw = lake.read("raw_spans").select("trace_id", "span_id", received="date")
    moved = clean.filter(pl.col("clock_offset_ns") != 0).join(raw, on=["trace_id", "span_id"])
    assert moved["received"].unique().to_list() == [FIRST]
    assert repair(lake).days == set()


def undone_and_repaired(lake: Lake, now: datetime) -> None:
    undo(lake, "id_corrupt", now=now)
    repair(lake)


def test_undo_killed_at_any_commit_is_completed_by_the_next_repair(tmp_path: Path) -> None:
    rows = traces.spoiled(7)[0]
    now = datetime(2025, 4, 1, tzinfo=UTC)
    whole = Lake(tmp_path / "whole").create()
    put(whole, rows)
    repair(whole)
    undo(whole, "id_corrupt", now=now)
    start = sum(whole.versions(*TABLES).values())
    repair(whole)
    commits = sum(whole.versions(*TABLES).values()) - start + 1
    for count in range(0, commits, 3):
        lake = Mortal(tmp_path / f"killed{count}")
        lake.left = -1
        lake.create()
        put(lake, rows)
        repair(lake)
        lake.left = count
        with pytest.raises(Killed):
            undone_and_repaired(lake, now)
        lake.left = -1
        if count:
            repair(lake)
            assert_same(lake, whole)
        else:
            assert not lake.read("suppressions").height


@pytest.mark.parametrize(
    ("what", "says"),
    [("order", "how rows lie"), ("id_corupt", "the rules are"), ("repair-1", "the last runs are")],
)
def test_what_cannot_be_undone_is_said(lake: Lake, what: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        undo(lake, what)
    with pytest.raises(UserError, match="is not undone"):
        redo(lake, what)


_WRONG = [
    ("repair --undo nonsense", "is no rule and no run"),
    ("repair --undo=", "is no rule and no run"),
    ("repair --undo repair-20200101T000000.000000", "the last runs are"),
    ("repair --undo id_corrupt --date 2025-13-45", "is no time"),
    ("repair --undo id_corrupt --date=", "is no time"),
    ("repair --redo nonsense", "undone are: none"),
    ("repair --explain 1 --date 2025-03-11", "--date does not go with --explain"),
    ("repair --reason because", "kept with what --undo"),
    ("maintain --erase trace", "write user=HASH or trace=ID"),
    ("maintain --erase=", "write user=HASH or trace=ID"),
    ("maintain --erase trace=abc", "too short for a trace"),
    ("maintain compact --erase trace=00000000000000aa", "--erase does not go with compact"),
]


@pytest.mark.parametrize(("words", "says"), _WRONG)
def test_wrong_words_are_wrong_usage_and_change_nothing(
    whole: Lake, capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    before = whole.versions(*TABLES)
    assert main(["--lake", whole.root, *words.split()]) == 2
    assert says in capsys.readouterr().err
    assert whole.versions(*TABLES) == before


@pytest.mark.parametrize("words", ["repair --explain abcdef", "maintain --erase trace=00000000ab"])
def test_an_id_that_no_row_has_is_said(
    whole: Lake, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert main(["--lake", whole.root, *words.split()]) == 1
    assert re.search("no row (has|of)", capsys.readouterr().err)


@pytest.mark.parametrize("words", ["repair --undo id_format", "repair --explain 1", "maintain"])
def test_without_a_lake_the_way_to_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert main(["--lake", str(tmp_path / "none"), *words.split()]) == 1
    assert "there is no lake at" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_day_without_rows_is_said(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lake", lake.root, "repair", "--undo", "id_format", "--date", "2031-01-01"]) == 0
    told = capsys.readouterr()
    assert "no rows of 2031-01-01 yet" in told.err
    assert "the days are 2025-03-11 … 2025-03-12" in told.err
    assert "kept out: id_format (2031-01-01)" in told.out


def test_status_tells_the_version_that_made_a_day_and_todays(
    whole: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions_of = stages.STAGES[0].versions
    before = versions_of["id_corrupt"]
    monkeypatch.setitem(versions_of, "id_corrupt", 99)  # type: ignore[arg-type]
    assert main(["--lake", whole.root, "status"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"id_corrupt {before} (today 99)" in told
    assert "`rootlake repair --upgrade` makes the days of older rules again" in told


def test_undo_twice_is_undo_once(lake: Lake) -> None:
    undo(lake, "id_corrupt", FIRST)
    version = lake.version("suppressions")
    assert undo(lake, "id_corrupt", FIRST).height == 1
    assert lake.version("suppressions") == version


def test_a_run_undone_twice_is_undone_once(lake: Lake) -> None:
    run = lake.read("repairs")["run_id"][0]
    first = undo(lake, run)
    repair(lake)
    assert undo(lake, run).equals(first)
    assert repair(lake).days == set()


def test_a_new_version_of_a_rule_makes_old_days_again_only_when_asked(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stages.STAGES[0]
    before = stage.versions["id_corrupt"]
    monkeypatch.setitem(stage.versions, "id_corrupt", 99)  # type: ignore[arg-type]
    assert repair(lake).days == set()
    assert [one["behind"] for one in versions.history(lake)] == [{"id_corrupt": 99}]
    put(lake, on_day(50, -20), "new")
    assert sorted(repair(lake).days) == [FIRST + timedelta(days=-20)]
    assert [one["versions"]["id_corrupt"] for one in versions.history(lake)] == [99, before]
    assert FIRST in repair(lake, upgrade=True).days
    assert [one["behind"] for one in versions.history(lake)] == [{}]
    assert audited(lake, "id_corrupt")["rule_version"].unique().to_list() == [99]
    assert repair(lake, upgrade=True).days == set()


def test_a_rule_leaves_exempt_rows_alone_and_keeps_the_order() -> None:
    frame = pl.DataFrame({"row": [0, 1, 2, 3], "x": [10, 11, 12, 13]})
    exempt = Exempt({"drop": pl.Series([1, 2])}, 4)

    def drop(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("row") >= 2).with_columns(pl.col("x") * 2)

    assert exempt.apply("drop", drop, frame).rows() == [(1, 11), (2, 12), (3, 26)]
    assert exempt.apply("other", drop, frame).rows() == [(2, 24), (3, 26)]
    assert of.__doc__


def test_rows_that_land_while_a_day_is_computed_make_it_again(tmp_path: Path) -> None:
    class Busy(Lake):
        landed = False

        def scan(self, name: str, version: int | None = None) -> pl.LazyFrame:
            if name == "repairs" and not self.landed:  # looked at once the rows are computed
                self.landed = True
                put(Lake(self.root), traces.rows(41), "meanwhile")
            return super().scan(name, version)

    lake = Busy(tmp_path / "lake").create()
    put(lake, traces.rows(40), "first")
    repair(lake)
    assert lake.landed
    assert lake.read("spans").height == len(traces.rows(40))
    assert lake.read("repairs").height == 0
    assert repair(lake).days == {FIRST}
    assert lake.read("spans").height == lake.read("raw_spans").height


@settings(max_examples=10 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    off=st.lists(st.tuples(st.sampled_from(rules()), st.integers(0, 3)), min_size=1, max_size=4),
)
def test_whatever_is_undone_no_row_is_lost_and_none_is_touched_by_it(
    seed: int, off: list[tuple[str, int]]
) -> None:
    raw = traces.raw(traces.spoiled(seed, faults=16)[0])
    parts = pl.int_range(raw.height, eager=True) % 4
    dates = pl.Series("date", [FIRST + timedelta(days=int(part)) for part in parts])
    days: dict[date, frozenset[str]] = {}
    for rule, day in off:
        name = FIRST + timedelta(days=day)
        days[name] = days.get(name, frozenset()) | {rule}
    exempt = Suppressed(days=days).exempt(dates)
    found = spans.repair(frame.narrow(raw), exempt)
    rows = pl.concat([one["row"] for one in (found.spans, found.quarantined, found.merged)])
    assert rows.sort().to_list() == list(range(raw.height))
    for rule, alone in exempt.rows.items():
        mine = found.spans.filter(pl.col("row").is_in(alone.implode()))
        assert not mine.filter(pl.col("repaired").list.contains(rule)).height
        audit = found.audit.filter(pl.col("rule") == rule)
        assert not audit.filter(pl.col("row").is_in(alone.implode())).height


def test_rules_of_errors_logs_and_samples_are_undone_too(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    at = datetime(2025, 3, 11, 12, tzinfo=UTC)
    common = {"date": FIRST, "ts": at, "batch": "b", "source": "x", "ingested_at": at}
    rows: dict[str, list[dict[str, Any]]] = {
        "raw_errors": [
            {"event_id": "e1", "project": "p", "received_at": at, "sent_at": at - DAY / 24},
            {"event_id": "e1", "project": "p", "received_at": at, "sent_at": at},
        ],
        "raw_logs": [
            {"body": "2025-03-11 one li", "partial": True, "pod": "a"},
            {"body": "ne in two", "partial": False, "pod": "a"},
            {"body": "2025-03-11 whole", "partial": False, "pod": "a"},
            {"body": "TypeError: total of undefined", "partial": False, "pod": "b"},
            {"body": "    at charge (/app/charge.js:14:9)", "partial": False, "pod": "b"},
        ],
        "raw_samples": [{"metric": "m", "series": 1, "value": 1.0}] * 2,
    }
    for name, some in rows.items():
        full = [{**common, **row, "arrival": place} for place, row in enumerate(some)]
        times = {n: pl.Datetime("us", "UTC") for n in TABLES[name].schema.names if n in full[0]}
        made = pl.DataFrame(full).with_columns(
            pl.col(n).cast(kind) for n, kind in times.items() if n.endswith("_at") or n == "ts"
        )
        whole = pl.concat([empty(TABLES[name]), made], how="diagonal_relaxed")
        lake.append(name, fit(TABLES[name], whole))
    rules = ("error_duplicate", "error_clock", "partial_join", "stack_join", "sample_duplicate")
    counts = {"errors": 1, "logs": 3, "samples": 1}
    repair(lake)
    assert {name: lake.read(name).height for name in counts} == counts
    balanced(lake)
    for rule in rules:
        assert audited(lake, rule).height or rule == "error_clock"
        undo(lake, rule)
    repair(lake)
    assert {name: lake.read(name).height for name in counts} == {
        "errors": 2,
        "logs": 5,
        "samples": 2,
    }
    assert set(lake.read("errors")["ts"]) == {at}
    balanced(lake)
    for rule in rules:
        redo(lake, rule)
    repair(lake)
    assert {name: lake.read(name).height for name in counts} == counts
