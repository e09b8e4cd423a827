"""Exemplars: ids canonical and those of spans, mended where they lie, audited, and taken back."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import TABLES, Lake, empty, fit
from quality import exemplars, versions
from quality.erase import erase
from quality.run import repair
from quality.suppressions import Suppressed
from quality.undo import redo, undo
from tests import quality_traces as traces
from tests.test_quality_run import FIRST, Killed, Mortal

IDS = ("trace_id", "span_id")


def shown(rows: list[traces.Row], **own: Any) -> pl.DataFrame:
    """An exemplar of each span, a millisecond after it began, in a series per service."""
    names = sorted({row["service"] for row in rows})
    made = [
        {
            "ts": datetime.fromtimestamp((row["start"] + 1_000) / 1e6, UTC),
            "metric": "latency_bucket",
            "series": names.index(row["service"]),
            "value": float(place),
            "trace_id": row["trace_id"],
            "span_id": row["span_id"],
            **own,
        }
        for place, row in enumerate(rows)
    ]
    known = pl.DataFrame(made).with_columns(pl.col("ts").dt.date().alias("date"))
    return fit(
        TABLES["exemplars"],
        pl.concat([empty(TABLES["exemplars"]), known], how="diagonal_relaxed").select(
            TABLES["exemplars"].schema.names
        ),
    )


def series(rows: list[traces.Row]) -> pl.DataFrame:
    names = sorted({row["service"] for row in rows})
    labels = [
        [{"key": "job", "value": f"shop/{name}"}, {"key": "le", "value": "1"}] for name in names
    ]
    made = pl.DataFrame(
        {"metric": ["latency_bucket"] * len(names), "series": range(len(names)), "labels": labels}
    ).with_columns(pl.col("labels").cast(pl.Map(pl.String, pl.String)))
    return fit(TABLES["series"], pl.concat([empty(TABLES["series"]), made], how="diagonal_relaxed"))


def told(lake: Lake) -> list[tuple[str | None, str | None]]:
    return lake.read("exemplars").sort("value").select(IDS).rows()


def filled(lake: Lake, *, spans_first: bool = False) -> list[tuple[str | None, str | None]]:
    """Spans, and exemplars of six of them: one right, one in capitals, one with a damaged and one
    without a trace id, one of no id, one of an unknown span; what they ought to be."""
    rows = traces.rows(5)
    lake.create().append("raw_spans", traces.raw(rows))
    lake.append("series", series(rows))
    if spans_first:
        repair(lake)
    some = [row for row in rows if row["service"] == "cart"][:6]
    right = [(row["trace_id"], row["span_id"]) for row in some]
    frame = shown(some).sort("value")
    ids = [*right]
    ids[1] = (right[1][0].upper(), "0x" + right[1][1])
    ids[2] = ("f" * 32, right[2][1])
    ids[3] = (None, right[3][1])
    ids[4] = (right[4][0], "none at all")
    ids[5] = ("e" * 32, "1" * 16)
    spoiled = frame.with_columns(
        pl.Series("series", [sorted({r["service"] for r in rows}).index("cart")] * 6),
        *(pl.Series(name, [one[place] for one in ids]) for place, name in enumerate(IDS)),
    )
    lake.append("exemplars", spoiled)
    return [*right[:4], (right[4][0], None), ids[5]]


def test_ids_are_canonical_and_those_of_spans_and_the_audit_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    right = filled(lake)
    before = told(lake)
    assert repair(lake).rows["exemplars"] == 6
    assert told(lake) == right
    audit = lake.read("repairs").filter(table_name="exemplars")
    assert sorted(audit["rule"].to_list()) == ["id_format"] * 3 + ["id_reference"] * 2
    assert set(audit["rule_version"]) == {1}
    held = lake.versions(*TABLES)
    assert "exemplars" not in repair(lake).rows
    assert lake.versions(*TABLES) == held
    history = [one for one in versions.history(lake) if one["table"] == "exemplars"]
    assert [(one["days"], one["behind"]) for one in history] == [(1, {})]
    for rule in ("id_format", "id_reference"):
        undo(lake, rule)
    repair(lake)
    assert told(lake) == before
    assert not lake.read("repairs").filter(table_name="exemplars").height
    redo(lake, "id_format")
    redo(lake, "id_reference")
    repair(lake)
    assert told(lake) == right


def test_undone_for_a_day_or_a_run_it_is_as_it_was(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    right = filled(lake)
    before = told(lake)
    repair(lake)
    undo(lake, "id_reference", FIRST)
    repair(lake)
    assert told(lake) == [*right[:2], *before[2:4], *right[4:]]
    undo(lake, lake.read("repairs").filter(table_name="exemplars")["run_id"][0])
    repair(lake)
    assert told(lake) == before


def test_a_span_that_comes_late_and_exemplars_that_come_later_are_seen_to(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    rows = traces.rows(5)
    lake.append("series", series(rows))
    lost = shown(rows).with_columns(pl.lit(None, pl.String).alias("trace_id"))
    lake.append("exemplars", lost[:10])
    repair(lake)
    assert {one for one, _ in told(lake)} == {None}
    lake.append("raw_spans", traces.raw(rows))
    repair(lake)
    lake.append("exemplars", lost[10:])
    repair(lake)
    assert sorted(told(lake)) == sorted((row["trace_id"], row["span_id"]) for row in rows)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_mended_twice_is_once_in_any_order_healthy_rows_stay_and_none_is_lost(
    seed: int, data: st.DataObject
) -> None:
    rows = traces.rows(seed)
    healthy = exemplars.keyed(shown(rows))
    known = traces.narrow(rows)
    end = pl.col("start_ns") + pl.col("duration_ns")
    spans = known.select("trace_id", "span_id", "service", "start_ns", end_ns=end)
    services = exemplars.services(series(rows))
    assert not exemplars.repair(healthy, services, spans, Suppressed()).audit.height
    bad = data.draw(st.sets(st.integers(0, healthy.height - 1), max_size=10))
    hit = pl.col("value").is_in([float(one) for one in bad])
    received = healthy.with_columns(
        pl.when(hit).then(pl.lit("f" * 32)).otherwise("trace_id").alias("trace_id")
    )
    once = exemplars.repair(received, services, spans, Suppressed())
    lost = once.rows.sort("value").select("value", *IDS)
    assert lost.equals(healthy.sort("value").select("value", *IDS))
    table = exemplars.replaced(received.drop("row_key"), once.rows)
    assert exemplars.received(exemplars.keyed(table), once.audit).equals(received)
    mixed = received.sample(fraction=1, shuffle=True, seed=seed)
    again = exemplars.repair(mixed, services, spans, Suppressed())
    assert again.audit.sort("row_key", "rule").equals(once.audit.sort("row_key", "rule"))


def test_two_exemplars_that_cannot_be_told_apart_stay_as_they_are() -> None:
    rows = traces.rows(5)
    twice = pl.concat([shown(rows[:1], trace_id="AB" * 16), shown(rows[:1], trace_id="CD" * 16)])
    none = pl.DataFrame(schema={"series": pl.Int64, "service": pl.String})
    spans = pl.DataFrame(schema=exemplars.id_reference.SPANS)
    found = exemplars.repair(exemplars.keyed(twice), none, spans, Suppressed())
    assert exemplars.replaced(twice, found.rows).equals(twice)


@pytest.mark.parametrize("back", [False, True])
def test_killed_at_any_commit_the_ids_as_received_are_never_lost(
    tmp_path: Path, *, back: bool
) -> None:
    whole = Lake(tmp_path / "whole" / "lake")
    right = filled(whole, spans_first=True)
    before = told(whole)
    if back:
        repair(whole)
        undo(whole, "id_reference")
    wanted = [*right[:2], *before[2:4], *right[4:]] if back else right
    for left in count():
        lake = Mortal(shutil.copytree(whole.root, tmp_path / str(left)))
        lake.left = left
        try:
            repair(lake)
        except Killed:
            lake.left = -1
            repair(lake)
            assert told(lake) == wanted
            continue
        assert told(lake) == wanted
        assert left >= 3  # (audit,) rows, scores, audit and stamp
        return


def test_a_trace_erased_is_gone_from_exemplars_and_their_audit(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    right = filled(lake)
    repair(lake)
    erase(lake, "trace", str(right[2][0]))
    assert right[2][0] not in {one for one, _ in told(lake)}
    text = lake.read("repairs").filter(table_name="exemplars").write_csv()
    assert str(right[2][0]) not in text
