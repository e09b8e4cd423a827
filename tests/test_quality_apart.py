"""One id of several requests, and a host in another zone: told apart, set right, nothing else."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from quality.clock import skew
from quality.rules import trace_merged
from tests import quality_traces as traces
from tests.conftest import TIMES
from tests.test_quality_clock import fleet

SEEDS = st.integers(0, 10_000)
HOUR_US = 3_600_000_000
QUARTER_MS = 900_000.0


@settings(max_examples=3 * TIMES, deadline=None)
@given(seed=SEEDS, hours=st.floats(1.1, 20))
def test_requests_hours_apart_under_one_id_get_one_each(seed: int, hours: float) -> None:
    early, late = traces.rows(seed, traces=1), traces.rows(seed + 1, traces=1)
    moved = [
        {**row, "trace_id": early[0]["trace_id"], "start": row["start"] + int(hours * HOUR_US)}
        for row in late
    ]
    frame = traces.narrow([*early, *moved, *traces.rows(seed + 2, traces=3)])
    found = trace_merged.apply(frame)
    size, first = len(early), len(early) + len(moved)
    ids = found["trace_id"].to_list()
    assert set(ids[:size]) == {early[0]["trace_id"]}
    assert len(set(ids[size:first])) == 1
    assert ids[size] != ids[0]
    assert_frame_equal(found[first:], frame[first:])
    assert found.height == frame.height
    assert_frame_equal(trace_merged.apply(found), found)
    mixed = trace_merged.apply(frame.sample(fraction=1, shuffle=True, seed=seed))
    assert_frame_equal(mixed.sort("row"), found)


@settings(max_examples=2 * TIMES, deadline=None)
@given(seed=SEEDS, quarters=st.sampled_from([-40, -32, -8, -1, 1, 4, 22, 32, 44]))
def test_a_host_in_another_zone_is_moved_by_whole_quarters(seed: int, quarters: int) -> None:
    frame = fleet(seed, {2: quarters * QUARTER_MS})
    found = skew.apply(frame)
    mine = pl.col("host") == "host-2"
    assert_frame_equal(found.filter(~mine), frame.filter(~mine))
    assert found.filter(mine)["start_ns"].to_list() == found.filter(mine)["true_ns"].to_list()
    assert set(found.filter(mine)["repaired"].list.join(",")) == {"time_zone"}
    assert_frame_equal(skew.apply(found), found)
    mixed = skew.apply(frame.sample(fraction=1, shuffle=True, seed=seed))
    assert_frame_equal(mixed.sort("row"), found)
