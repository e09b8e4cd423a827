"""Checks of a day against the last weeks; rows and days that the user's expectations keep out."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from lake import TABLES, Lake, UserError, empty, fit, holds
from quality import checks, trend
from quality.account import account
from quality.expectations import Expectation
from quality.measure import measure
from quality.run import repair
from rootlake.checked import checked, percent, sparkline
from tests import quality_traces as traces
from tests.conftest import rootlake
from tests.test_quality_run import DAY_US, FIRST, put

RELEASE = '[{"key":"service.version","type":"string","value":"%s"}]'
SHORT = Expectation("short calls", "spans", "duration_ns < 60e6", "quarantine", 0.05)


def day_of(number: int, release: str = "1.0") -> list[traces.Row]:
    rows = traces.rows(number % 5, traces=24)
    return [
        {
            **row,
            "trace_id": f"{number:08x}{row['trace_id'][8:]}",
            "start": row["start"] - number * DAY_US,
            "resource": RELEASE % (release if row["service"] == "cart" else "1.0"),
        }
        for row in rows
    ]


def broken(rows: list[traces.Row]) -> list[traces.Row]:
    """A propagator of cart's that names parents nobody sent, in most of its server spans."""
    bad = [r for r in rows if r["service"] == "cart" and "server" in r["operation"]]
    for number, row in enumerate(bad):
        row["parent_span_id"] = f"{number + 1:016x}"
    return rows


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Ten good days, then one on which cart ships a broken propagator."""
    lake = Lake(tmp_path_factory.mktemp("weeks") / "lake").create()
    for number in range(10, 0, -1):
        put(lake, day_of(number), f"day{number}")
    put(lake, broken(day_of(0, "2.0")), "today")
    first = datetime.fromtimestamp(traces.BEGIN / 1e6, UTC)
    change = pl.DataFrame(
        {
            "date": [FIRST, FIRST],
            "ts": [first - timedelta(minutes=7), first - timedelta(minutes=5)],
            "kind": ["deploy", "deploy"],
            "service": ["cart", "payment"],
            "ref": ["2.0", "9.9"],
            "author": ["ada", "bob"],
        },
        schema_overrides={"ts": pl.Datetime("us", "UTC")},
    )
    whole = pl.concat([empty(TABLES["changes"]), change], how="diagonal")
    lake.append("changes", fit(TABLES["changes"], whole))
    repair(lake)
    return lake


def test_a_broken_propagator_is_named_with_service_release_and_time(weeks: Lake) -> None:
    days = checks.window(weeks, None, 4)
    measure(weeks, checks.BUILT_IN, days)
    (found,) = [
        one for one in trend.regressions(weeks, checks.BUILT_IN, days) if one["service"] == "cart"
    ]
    assert found["check"] == "parents_present"
    assert found["release"] == "2.0"
    bad = weeks.read("spans").filter(pl.col("faults").list.contains("parent_missing"))
    assert found["since"] == bad["start"].min()
    assert found["deploy"]["ref"] == "2.0"
    assert found["deploy"]["author"] == "ada"
    assert found["faulty"] == bad.height


def test_a_service_that_no_longer_continues_traces_is_named(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    for number in range(5, 0, -1):
        put(lake, day_of(number), f"day{number}")
    rows = day_of(0, "3.1")
    for number, row in enumerate(rows):
        if row["service"] == "cart" and "server" in row["operation"]:
            row.update(parent_span_id=None, trace_id=f"{number + 1:032x}")
    put(lake, rows, "today")
    repair(lake)
    days = checks.window(lake, None, 4)
    measure(lake, checks.BUILT_IN, days)
    found = trend.regressions(lake, checks.BUILT_IN, days)
    named = {(one["check"], one["service"], one["release"]) for one in found}
    assert ("continues_trace", "cart", "3.1") in named


def test_good_days_have_no_regression_and_fail_nothing(weeks: Lake) -> None:
    days = checks.window(weeks, FIRST - timedelta(days=1), 4)
    measure(weeks, checks.BUILT_IN, days)
    assert trend.regressions(weeks, checks.BUILT_IN, days) == []
    assert not [one for one in trend.judge(weeks, checks.BUILT_IN, days) if one["failed"]]


def test_measuring_twice_counts_once_and_status_still_balances(weeks: Lake) -> None:
    days = checks.window(weeks, None, 4)
    measure(weeks, checks.BUILT_IN, days)
    before = weeks.read("scorecard").height
    measure(weeks, checks.BUILT_IN, days)
    assert weeks.read("scorecard").height == before
    assert repair(weeks).days == set()
    line = account(weeks).row(0, named=True)
    assert line["raw"] == line["clean"] + line["merged"] + line["quarantined"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_command_shows_the_weeks_and_exits_3(weeks: Lake, width: int) -> None:
    done = rootlake("--lake", weeks.root, "--json", "quality")
    assert done.returncode == 3, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["failed"]
    assert {one["check"] for one in found["checks"]} >= {"ids_valid", "parents_present"}
    for one in found["regressions"]:
        for name in ("since",):
            one[name] = datetime.fromisoformat(one[name])
        if one["deploy"]:
            one["deploy"]["ts"] = datetime.fromisoformat(one["deploy"]["ts"])
    out = io.StringIO()
    checked(Console(file=out, width=width, highlight=False), found)
    text = out.getvalue()
    assert "cart sends worse spans" in text
    assert "release 2.0" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake").create()
    put(made, traces.rows(1, traces=20), "one")
    put(made, [{**row, "start": row["start"] - 5 * DAY_US} for row in traces.rows(2)], "two")
    return made


def test_rows_an_expectation_quarantines_leave_the_table_and_stay_accounted_for(
    lake: Lake,
) -> None:
    repair(lake, expected=[SHORT])
    spans, raw = lake.read("spans"), lake.read("raw_spans")
    held = lake.read("quarantine").filter(pl.col("reason") == "expectation short calls")
    assert held.height
    assert (spans["duration_ns"] < 60e6).all()
    assert spans.height + held.height == raw.height
    line = account(lake).row(0, named=True)
    assert line["raw"] == line["clean"] + line["merged"] + line["quarantined"]
    assert lake.read("red")["calls"].sum() == spans.height
    ids = held["raw_row"].str.json_path_match("$.span_id")
    assert set(ids) | set(spans["span_id"]) == set(raw["span_id"])
    days = checks.window(lake, None, 4)
    measure(lake, checks.of([SHORT]), days)
    (judged,) = trend.judge(lake, checks.of([SHORT]), days)
    assert judged["failed"]
    assert judged["faulty"] == held["raw_row"].str.json_path_match("$.date").eq(str(FIRST)).sum()


def test_a_day_made_again_keeps_what_other_days_quarantined(lake: Lake) -> None:
    repair(lake, expected=[SHORT])
    before = lake.read("quarantine").select("reason", "raw_row").sort("raw_row")
    put(lake, [{**row, "start": row["start"] - 5 * DAY_US} for row in traces.rows(3)], "late")
    repair(lake, expected=[SHORT])
    after = lake.read("quarantine").select("reason", "raw_row").sort("raw_row")
    kept = after.join(before, on="raw_row", how="semi")
    assert kept.height == before.height < after.height
    assert repair(lake, expected=[SHORT]).days == set()


def test_an_expectation_added_later_holds_for_old_days_when_an_upgrade_is_asked_for(
    lake: Lake,
) -> None:
    repair(lake)
    assert repair(lake, expected=[SHORT]).days == set()
    assert len(repair(lake, expected=[SHORT], upgrade=True).days) == 2
    assert lake.read("quarantine").height
    repair(lake, upgrade=True)
    assert not lake.read("quarantine").height
    assert lake.read("spans").height == lake.read("raw_spans").height


def test_a_day_that_must_not_be_published_stays_as_it_was_and_holds_up_no_other(
    lake: Lake,
) -> None:
    strict = Expectation("few", "spans", f"date <> DATE '{FIRST}'", "fail")
    near = [{**row, "start": row["start"] - DAY_US} for row in traces.rows(4)]
    put(lake, near, "near")
    done = repair(lake, expected=[strict])
    assert [one.date for one in done.refused] == [FIRST]
    assert FIRST not in lake.days("spans")
    assert lake.days("spans") == [FIRST - timedelta(days=5), FIRST - timedelta(days=1)]
    assert FIRST in repair(lake).days


def test_a_predicate_cannot_do_anything_but_judge() -> None:
    rows = pl.DataFrame({"a": [1, None, 3]}).to_arrow()
    assert holds("t", rows, "a < 2 -- and a remark").to_pylist() == [True, True, False]
    for bad in (
        "true); drop table t; select (1",
        "count(*) > 1",
        "exists (select * from read_csv('/etc/passwd'))",
        "a <",
        "b > 1",
    ):
        with pytest.raises(UserError):
            holds("t", rows, bad)


def test_a_wrong_predicate_is_named(lake: Lake) -> None:
    wrong = Expectation("odd", "spans", "durations > 1", "quarantine")
    with pytest.raises(UserError, match=r"expectation 'odd' \(durations > 1\)"):
        repair(lake, expected=[wrong])
    repair(lake)
    with pytest.raises(UserError, match="check 'odd'"):
        measure(lake, checks.of([wrong]), checks.window(lake, None, 0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('table = "spam"', "is no table; there are raw_spans"),
        ('table = "spans"\naction = "drop"', "'warn', 'quarantine' or 'fail'"),
        ('table = "spans"\ntolerate = 2', "tolerate = 2"),
        ('table = "changes"\naction = "fail"', "needs a table that repair makes"),
        ('table = "spans"\ntolerates = 1', "no setting 'expectations.0.tolerates'"),
    ],
)
def test_a_wrong_expectation_in_the_settings_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "rootlake.toml"
    file.write_text(f'[[expectations]]\nname = "x"\npredicate = "true"\n{text}\n')
    done = rootlake("--config", file, "quality")
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_settings_reach_repair_and_quality(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "rootlake.toml"
    file.write_text(
        f'lake = "{lake.root}"\n[quality]\noff = ["raw_spans.on_time"]\nfresh = 26\n'
        '[[expectations]]\nname = "short"\ntable = "spans"\n'
        'predicate = "duration_ns < 60e6"\naction = "quarantine"\n'
        '[[expectations]]\nname = "known services"\ntable = "red"\n'
        "predicate = \"service in ('frontend', 'cart')\"\ntolerate = 1.0\n"
    )
    assert rootlake("--config", file, "repair").returncode == 0
    assert lake.read("quarantine").height
    done = rootlake("--config", file, "--json", "quality")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    names = {f"{one['table']}.{one['check']}" for one in found["checks"]}
    assert {"spans.short", "red.known services"} <= names
    assert "raw_spans.on_time" not in names
    assert found["failed"] == ["spans.short", "spans is stale"]
    file.write_text(file.read_text().replace("raw_spans.on_time", "raw_spans.nosuch"))
    assert "the checks are spans.ids_valid" in rootlake("--config", file, "quality").stderr


def test_shares_are_told_without_lying() -> None:
    assert [percent(share) for share in (0.0, 1.0, 0.00001, 0.99999, 0.0123)] == [
        "0%",
        "100%",
        "<0.01%",
        ">99.9%",
        "1.23%",
    ]
    assert sparkline([0.0, None, 0.5, 1.0], 0.1).plain == "▁·▅█"
    assert trend.expected([0.1, 0.1, 0.1]) == pytest.approx(0.105)
    assert isinstance(FIRST, date)
