"""Detection: what opens an incident and what does not, what is one incident, when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import TABLES, Lake, empty
from rca.detect import detect

DAY = datetime(2026, 3, 10, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BAD = range(30, 38)  # the minutes in which something is wrong


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


def add(lake: Lake, table: str, rows: list[dict[str, Any]]) -> None:
    """Rows given by some of a table's columns; the others are null."""
    schema = empty(TABLES[table]).schema
    frame = pl.DataFrame(rows)
    maps = [name for name, kind in schema.items() if isinstance(kind, pl.Map)]
    pairs = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    none = [
        pl.lit(None).cast(pairs if name in maps else kind).alias(name)
        for name, kind in schema.items()
        if name not in rows[0]
    ]
    lake.append(table, frame.with_columns(none).select(schema.names()).cast(dict(schema)))


def requests(
    lake: Lake,
    service: str = "shop",
    *,
    start: datetime = DAY,
    minutes: range = range(60),
    failing: float = 0.0,
    slower: float = 1.0,
    when: range = BAD,
) -> None:
    """A hundred requests a minute, of which some fail or take longer at times."""
    rows = []
    for place in minutes:
        at, wrong = start + place * MINUTE, place in when
        took = int(1e8 * (1 + 0.02 * (place % 5)) * (slower if wrong else 1.0))
        rows.append(
            {
                "date": at.date(),
                "minute": at,
                "service": service,
                "operation": "GET /",
                "kind": "server",
                "calls": 100.0,
                "errors": 100 * failing if wrong else float(place % 2),
                "duration_p95_ns": took,
            }
        )
    add(lake, "red", rows)


def calls(lake: Lake, caller: str, callee: str) -> None:
    row = {"date": DAY.date(), "minute": DAY, "caller": caller, "callee": callee, "calls": 1.0}
    add(lake, "edges", [row])


def lines(lake: Lake, wrong: Callable[[int], int]) -> None:
    rows = [
        {"date": DAY.date(), "ts": DAY + place * MINUTE, "service": "shop", **kind}
        for place in range(60)
        for count, kind in (
            (9, {"severity": "INFO", "template_id": "fine"}),
            (wrong(place), {"severity": "ERROR", "template_id": "broken"}),
        )
        for _ in range(count)
    ]
    add(lake, "logs", rows)


def onsets(found: pl.DataFrame) -> list[int]:
    """Minutes from the start of the day's recording."""
    return [int((one - DAY) / MINUTE) for one in found["onset"]]


@pytest.mark.parametrize("wrong", [{"failing": 0.4}, {"slower": 2.5}], ids=["failing", "slow"])
def test_bad_requests_open_an_incident_that_closes(lake: Lake, wrong: Mapping[str, float]) -> None:
    requests(lake, **wrong)  # type: ignore[arg-type]
    found = detect(lake)
    assert onsets(found) == [30]
    row = found.row(0, named=True)
    assert (row["service"], row["status"]) == ("shop", "closed")
    assert row["closed_at"] == DAY + 38 * MINUTE
    assert row["incident_id"] == "INC-20260310-0830"


def test_two_bad_minutes_open_nothing(lake: Lake) -> None:
    requests(lake, failing=0.5, when=range(30, 32))
    assert detect(lake).height == 0


def test_an_empty_lake_and_a_healthy_one_have_no_incidents(lake: Lake) -> None:
    assert detect(lake).height == 0
    requests(lake)
    lines(lake, lambda place: place % 3)
    assert detect(lake).height == 0


def test_a_second_run_changes_nothing(lake: Lake) -> None:
    requests(lake, failing=0.4)
    first, version = detect(lake), lake.version("incidents")
    assert detect(lake).equals(first)
    assert lake.version("incidents") == version


def test_an_incident_stays_open_until_ten_minutes_are_good(lake: Lake) -> None:
    requests(lake, failing=0.4, minutes=range(36))
    assert detect(lake)["status"].to_list() == ["open"]
    requests(lake, failing=0.4, minutes=range(36, 70))
    later = detect(lake)
    assert onsets(later) == [30]
    assert later["status"].to_list() == ["closed"]
    assert later["closed_at"].to_list() == [DAY + 38 * MINUTE]


def test_an_onset_moved_by_late_data_is_the_same_incident(lake: Lake) -> None:
    requests(lake, "shop", failing=0.4, when=range(32, 38))
    first = detect(lake)
    lines(lake, lambda place: 30 if 30 <= place < 36 else 0)
    assert detect(lake)["incident_id"].to_list() == first["incident_id"].to_list()


@pytest.mark.parametrize("linked", [True, False])
def test_what_calls_each_other_is_one_incident(lake: Lake, linked: bool) -> None:
    for name in ("shop", "cart"):
        requests(lake, name, failing=0.4)
    if linked:
        calls(lake, "shop", "cart")
    found = detect(lake)
    assert found.height == (1 if linked else 2)
    assert found["incident_id"].n_unique() == found.height
    if linked:
        assert dict(found["labels"].to_list()[0])["services"] == "cart, shop"


def test_hours_apart_are_two_incidents(lake: Lake) -> None:
    requests(lake, failing=0.4)
    requests(lake, failing=0.4, start=DAY + timedelta(hours=3))
    assert onsets(detect(lake)) == [30, 210]


def test_a_loud_template_opens_one(lake: Lake) -> None:
    lines(lake, lambda place: 20 if place in BAD else 1)
    found = detect(lake)
    assert onsets(found) == [30]
    assert found["trigger"].to_list() == ["log lines of shop"]


def test_an_error_group_opens_one(lake: Lake) -> None:
    rows = [
        {"date": DAY.date(), "ts": DAY + place * MINUTE, "service": "shop", "group_id": "g1"}
        for place in range(60)
        for _ in range(25 if place in BAD else 1)
    ]
    add(lake, "errors", rows)
    found = detect(lake)
    assert onsets(found) == [30]
    assert found["trigger"].to_list() == ["reported errors of shop"]


@pytest.mark.parametrize(
    ("metric", "usual", "peak"),
    [
        pytest.param("container_memory_working_set_bytes", 2e8, 4e8, id="memory"),
        pytest.param("db_pool_connections_in_use", 4.0, 40.0, id="a pool"),
    ],
)
def test_a_metric_opens_one(lake: Lake, metric: str, usual: float, peak: float) -> None:
    named = {"metric": metric, "series": 7, "type": "gauge"}
    row = pl.DataFrame([{**named, "labels": [{"key": "service", "value": "shop"}]}])
    schema = empty(TABLES["series"]).schema
    none = [pl.lit(None).cast(kind).alias(name) for name, kind in schema.items() if name not in row]
    lake.append("series", row.with_columns(none).select(schema.names()).cast(dict(schema)))
    rows = [
        {
            "date": DAY.date(),
            "ts": DAY + place * MINUTE,
            "metric": metric,
            "series": 7,
            "value": peak if place in BAD else usual * (1 + 0.01 * (place % 4)),
        }
        for place in range(60)
    ]
    add(lake, "samples", rows)
    assert onsets(detect(lake)) == [30]


def test_what_comes_every_day_at_that_time_is_no_incident(lake: Lake) -> None:
    for back in (1, 2, 7):
        requests(lake, slower=2.5, start=DAY - timedelta(days=back))
    requests(lake, slower=2.5)
    requests(lake, "cart", failing=0.4)
    found = detect(lake, DAY)
    assert found["service"].to_list() == ["cart"]


def test_a_gap_of_the_recording_is_no_incident(lake: Lake) -> None:
    requests(lake, minutes=range(25))
    requests(lake, minutes=range(45, 90), when=range(0))
    assert detect(lake).height == 0


def test_only_days_that_changed_are_looked_at(lake: Lake) -> None:
    requests(lake, failing=0.4)
    detect(lake)
    lake.update("incidents", lambda known: known.clear())
    requests(lake, failing=0.4, start=DAY + timedelta(days=1))
    assert onsets(detect(lake)) == [24 * 60 + 30]


def test_what_went_wrong_yesterday_too_is_still_one(lake: Lake) -> None:
    requests(lake, failing=0.4, start=DAY - timedelta(days=1))
    requests(lake, failing=0.4)
    assert onsets(detect(lake)) == [30 - 24 * 60, 30]
