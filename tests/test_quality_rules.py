"""Every rule on spans: healthy rows untouched, twice is once, no row lost, order irrelevant."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from quality import spans
from quality.spans import RULES
from tests import quality_traces as traces
from tests.conftest import TIMES

SEEDS = st.integers(0, 10_000)
DROPS = {"span_duplicate", "time_implausible"}  # rules that leave rows out
every_rule = pytest.mark.parametrize(
    ("name", "rule"), [pytest.param(n, r, id=f"{i}-{n}") for i, (n, r) in enumerate(RULES)]
)
few = settings(max_examples=5 * TIMES, deadline=None)


@every_rule
@few
@given(seed=SEEDS)
def test_healthy_rows_stay_as_they_are(name: str, rule: spans.Rule, seed: int) -> None:
    healthy = traces.narrow(traces.rows(seed))
    assert_frame_equal(rule(healthy), healthy)


@every_rule
@few
@given(seed=SEEDS)
def test_twice_is_once(name: str, rule: spans.Rule, seed: int) -> None:
    once = rule(traces.narrow(traces.spoiled(seed)[0]))
    assert_frame_equal(rule(once), once)


@every_rule
@few
@given(seed=SEEDS)
def test_no_row_is_lost_or_invented(name: str, rule: spans.Rule, seed: int) -> None:
    before = traces.narrow(traces.spoiled(seed)[0])
    after = rule(before)
    assert after["row"].is_unique().all()
    assert set(after["row"]) <= set(before["row"])
    assert name in DROPS or after.height == before.height


@every_rule
@few
@given(seed=SEEDS)
def test_the_order_of_rows_does_not_matter(name: str, rule: spans.Rule, seed: int) -> None:
    frame = traces.narrow(traces.spoiled(seed)[0])
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    assert_frame_equal(rule(shuffled).sort("row"), rule(frame).sort("row"))


@few
@given(seed=SEEDS)
def test_the_whole_keeps_healthy_rows_and_counts_every_row(seed: int) -> None:
    healthy = traces.narrow(traces.rows(seed))
    kept = spans.repair(healthy)
    assert_frame_equal(kept.spans.sort("row"), healthy)
    assert kept.audit.height + kept.clock_audit.height == 0
    damaged = traces.narrow(traces.spoiled(seed)[0])
    found = spans.repair(damaged)
    parts = [found.spans, found.merged, found.quarantined]
    rows = pl.concat([part["row"] for part in parts]).sort().to_list()
    assert rows == damaged["row"].to_list()


@settings(max_examples=12 * TIMES, deadline=None)
@given(seed=SEEDS)
def test_what_the_whole_changes_becomes_right(seed: int) -> None:
    damaged, true = (traces.narrow(one) for one in traces.spoiled(seed))
    found = spans.repair(damaged)
    both = found.spans.join(true, on="row", suffix="_true").join(damaged, on="row", suffix="_raw")
    placed = pl.col("repaired").list.contains("time_implausible")
    for column in ("trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns"):
        got, right = pl.col(column), pl.col(f"{column}_true")
        wrong = got.ne_missing(right) & got.ne_missing(pl.col(f"{column}_raw"))
        if column == "start_ns":
            near = (got - right).abs() <= pl.col("clock_error_ns")
            wrong = wrong & ~(placed & near)
        dropped = got.is_null() & pl.col("faults").list.contains("id_missing")
        assert both.filter(wrong & ~dropped).is_empty(), both.filter(wrong & ~dropped).to_dicts()


@pytest.mark.parametrize("rule", ["id_format", "time_unit", "span_duplicate"])
@few
@given(seed=SEEDS)
def test_faults_that_need_no_neighbour_are_all_repaired(rule: str, seed: int) -> None:
    damaged, true = (traces.narrow(one) for one in traces.spoiled(seed, only=rule))
    found = spans.repair(damaged).spans
    columns = ["row", "trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns"]
    right = true.join(found.select("row"), on="row", how="semi")
    assert_frame_equal(found.select(columns).sort("row"), right.select(columns).sort("row"))
    assert found["faults"].list.len().sum() == 0
