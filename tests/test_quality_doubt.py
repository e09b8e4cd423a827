"""How sure a repaired time is: what is stated holds, and what is not sure enough is left."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.clock import bounds, hosts, joined, skew, steps
from quality.clock.lines import Line, settled
from quality.clock.solve import solve
from quality.rules import (
    duration_negative,
    id_corrupt,
    span_id_missing,
    time_implausible,
    time_unit,
    trace_split,
)
from tests import quality_traces as traces
from tests.test_quality_clock import error_ms, fleet

MS = 1_000_000
HOUR = skew.WINDOW
TRACE = "1" * 32


def span(name: str, parent: str | None, start: int, length: int, operation: str = "") -> traces.Row:
    """A row of one trace, its start in µs after a time that is no whole millisecond."""
    row = traces._row(TRACE, name * 16, parent and parent * 16, 0, "internal", 0, length)
    row |= {"start": traces.BEGIN + 137 + start, "operation": operation or name}
    return row


def clocked(rows: list[traces.Row], error: int, host: str | None = None) -> pl.DataFrame:
    """The rows with their clock 40 ms ahead and known to `error` ns; of another `host` the last."""
    frame = traces.narrow(rows).with_columns(
        clock_offset_ns=pl.lit(40 * MS, pl.Int64), clock_error_ns=pl.lit(error, pl.Int64)
    )
    last = pl.col("row") == frame.height - 1
    return frame.with_columns(host=pl.when(last).then(pl.lit(host or "node-0")).otherwise("host"))


@pytest.mark.parametrize(
    ("host", "swapped"),
    [
        pytest.param("node-0", True, id="of one clock: its error does not matter"),
        pytest.param("node-1", False, id="of two: they may be further apart than that"),
    ],
)
def test_times_of_one_clock_compare_however_wrong_it_is(host: str, swapped: bool) -> None:
    rows = [span("a", None, 0, 5_000), span("b", "a", 4_500, -3_000)]
    fixed = duration_negative.apply(clocked(rows, 2 * MS, host)).row(1, named=True)
    assert (fixed["duration_ns"] > 0) == swapped
    assert fixed["faults"] == ([] if swapped else ["duration_negative"])


def test_a_placed_time_is_as_unsure_as_the_clock_it_was_placed_by() -> None:
    rows = [span("a", None, 0, 5_003), span("b", "a", 0, 4_501)]
    rows[1]["start"] = 0
    frame = clocked(rows, 2 * MS)
    frame = frame.with_columns(
        pl.when(pl.col("row") == 1).then(0).otherwise(name).alias(name)
        for name in ("clock_offset_ns", "clock_error_ns")
    )
    fixed = time_implausible.apply(frame).row(1, named=True)
    assert fixed["clock_error_ns"] >= 2 * MS
    assert abs(fixed["start_ns"] - traces.BEGIN * 1000 - 400_000) <= fixed["clock_error_ns"]


def test_a_coarse_operation_of_a_fine_service_is_placed_as_coarsely() -> None:
    fine = [span("c", None, 1_001 * number + 7, 300, "work") for number in range(50)]
    coarse = [span("d", None, 1_000 * number, 313, "serve") for number in range(5)]
    rows = [span("a", None, 203, 5_203), span("b", "a", 0, 4_601, "serve"), *fine, *coarse]
    rows[1]["start"] = 0
    for row in (*fine, *coarse):
        row["trace_id"] = "2" * 32
    for row in coarse:
        row["start"] -= 137
    assert time_implausible.apply(traces.narrow(rows)).height == len(rows) - 1
    grains = {
        name: grain for _, name, _, grain in time_unit.grains(*[traces.narrow(rows)] * 2).rows()
    }
    assert (grains["serve"], grains["work"]) == (MS, 1_000)


def test_a_mended_row_tells_of_the_next() -> None:
    rows = [span("a", None, 0, 5_000), span("b", "a", 4_500, -4_000), span("c", "b", 4_000, -3_000)]
    fixed = duration_negative.apply(traces.narrow(rows))
    assert fixed["duration_ns"].to_list() == [5_000_000, 4_000_000, 3_000_000]
    assert fixed["start_ns"].to_list() == [
        (traces.BEGIN + 137 + at) * 1000 for at in (0, 500, 1_000)
    ]


@pytest.mark.parametrize(("other", "named"), [("b" * 15 + "c", False), ("c" * 16, True)])
def test_a_span_id_is_not_taken_from_a_name_that_another_link_is_like(
    other: str, named: bool
) -> None:
    rows = [span("a", None, 0, 5_000), span("b", "a", 500, 4_000), span("c", "b", 1_000, 3_000)]
    stray = span("d", None, 1_200, 100) | {"trace_id": "3" * 32, "parent_span_id": other}
    rows[1]["span_id"] = None
    fixed = span_id_missing.apply(traces.narrow([*rows, stray]))
    assert fixed["span_id"][1] == ("b" * 16 if named else None)


def test_of_two_names_alike_a_span_has_the_one_that_most_children_say() -> None:
    rows = [span("a", None, 0, 9_000), span("b", "a", 10, 8_000)]
    rows += [span(name, "b", at, 500) for name, at in (("c", 100), ("d", 800), ("e", 1_500))]
    rows[1]["span_id"] = "b" * 15 + "7"
    rows[4]["parent_span_id"] = "b" * 14 + "8b"
    fixed = id_corrupt.links(traces.narrow(rows))
    assert fixed["span_id"][1] == "b" * 16
    assert fixed["parent_span_id"].to_list()[2:] == ["b" * 16] * 3


def test_a_piece_joins_the_trace_that_its_links_lead_to_whole_or_damaged() -> None:
    names = [("a", None), ("b", "a"), ("c", "b"), ("d", "c"), ("e", "a")]
    rows = [
        span(name, parent, 100 * at, 5_000 - 300 * at) for at, (name, parent) in enumerate(names)
    ]
    for row, trace in zip(
        rows, ["1" * 32, "2" * 32, "1" * 31 + "5", "2" * 32, "1" * 32], strict=True
    ):
        row["trace_id"] = trace
    assert trace_split.apply(traces.narrow(rows))["trace_id"].to_list()[1::2] == ["1" * 32] * 2
    rows[2] |= {"trace_id": "3" * 32, "parent_span_id": "9" * 16}
    assert trace_split.apply(traces.narrow(rows))["trace_id"].to_list()[1::2] == ["2" * 32] * 2


def test_a_clock_wrong_in_one_hour_of_many_moves_in_that_hour_alone() -> None:
    right = fleet(3, {}, minutes=3, hosts=4)
    wrong = fleet(4, {2: 30.0}, minutes=1.5, hosts=4).with_columns(
        pl.col("start_ns", "true_ns") + 2 * HOUR, row=pl.col("row") + right.height
    )
    fixed = skew.apply(pl.concat([right, wrong]))
    assert (fixed[: right.height]["clock_offset_ns"] == 0).all()
    assert error_ms(fixed).quantile(0.99) < 0.5  # type: ignore[operator]


def test_a_step_that_one_line_goes_across_is_none() -> None:
    frame = fleet(5, {2: 30.0}, minutes=4)
    window = bounds.gather(bounds.calls(frame))
    ways = steps.tracks(window, {"host-2"})
    way = ways["host-2"]
    assert not way.gaps
    middle = len(way.at) // 2
    torn = way._replace(gaps=[(int(way.at[middle]), int(way.at[middle + 1]))])
    found, _ = joined.fewest(window, {"host-2": torn}, skew._held)
    assert found["host-2"].gaps == []


def test_a_step_stays_where_no_line_goes_across() -> None:
    frame = fleet(5, {2: 30.0}, minutes=4, step=(2.0, 50.0))
    window = bounds.gather(bounds.calls(frame))
    found, _ = joined.fewest(window, steps.tracks(window, {"host-2"}), skew._held)
    assert len(found["host-2"].gaps) == 1


def lines(second: float, edge: int) -> list[Line]:
    one = Line("host-2", edge - HOUR, edge, edge, 30.0 * MS, 0.0, 1_000.0)
    return [one, one._replace(start=edge, end=edge + HOUR, offset=second)]


def test_a_step_beside_an_hours_edge_is_cut_between_its_calls_and_is_as_unsure_as_large() -> None:
    frame = fleet(6, {2: 30.0}, minutes=2, step=(1.0, 170.0))
    every = bounds.calls(frame)
    edge = HOUR * 10
    begin = traces.BEGIN * 1000
    near = every.with_columns(at=pl.col("at") - begin - 60_000 * MS + edge + 3_000 * MS)
    cut = settled(lines(200.0 * MS, edge), bounds.gather(near), lambda low, high: near)
    assert [line.offset / MS for line in cut] == [30.0, 30.0, 200.0]
    before, between, after = cut
    assert before.end == between.start
    assert between.end == after.start
    assert between.start <= edge + 3_230 * MS <= between.end + 200 * MS
    assert between.end - between.start < 8_000 * MS
    assert between.error >= 170 * MS


def test_a_line_reaches_beyond_its_hour_only_where_nothing_else_is_known() -> None:
    edge = HOUR * 10
    line = lines(0.0, edge)[0]
    calls = pl.DataFrame({"caller": ["host-1"], "callee": ["host-2"], "at": [edge - HOUR // 2]})
    none = calls.clear()
    (alone,) = settled([line], calls, lambda low, high: none)
    assert (alone.start, alone.end) == (line.start - bounds.SLOT, edge + bounds.SLOT)
    later = pl.concat([calls, calls.with_columns(at=pl.lit(edge + HOUR // 2))])
    (judged,) = settled([line], later, lambda low, high: none)
    assert judged.end == edge


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9_999), count=st.integers(4, 40), slant=st.floats(-50e-6, 50e-6))
def test_no_clock_is_further_from_its_line_than_the_line_says(
    seed: int, count: int, slant: float
) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 3_000_000 * MS, 2 * count)) + traces.BEGIN * 1000
    true = 40.0 * MS + slant * (at - at[0])
    room = rng.exponential(300_000, (2, 2 * count)) + 60_000
    callee = rng.choice(["a", "b"], 2 * count)
    told = pl.DataFrame(
        {
            "caller": "right",
            "callee": callee,
            "at_low": at,
            "at_high": at,
            "low": (true - room[0]).astype(np.int64),
            "high": (true + room[1]).astype(np.int64),
        }
    )
    found = solve(told, {"a", "b"}, drift=True)
    for clock, (offset, drift) in found.lines.items():
        mine = callee == clock
        off = np.abs(offset + drift * (at[mine] - found.origin) - true[mine])
        assert off.max(initial=0.0) <= found.error[clock] + 1 or found.error[clock] == 0


def test_a_clock_is_not_bound_by_what_is_no_call_or_told_coarsely() -> None:
    usual = [span("a", None, 0, 9_000, "serve"), span("b", "a", 1_000, 2_000, "work")]
    rows = [
        row | {"trace_id": f"{number:032x}", "host": f"node-{place}"}
        for number in range(1, 202)
        for place, row in enumerate(usual)
    ]
    rows[-1]["operation"] = "serve"  # a link that no other row of the operation has
    frame = traces.narrow(rows)
    assert bounds.calls(frame).height == 200
    coarse = frame.with_columns(clock_error_ns=pl.lit(MS, pl.Int64))
    exact, wide = bounds.calls(frame), bounds.calls(coarse)
    assert ((exact["low"] - wide["low"]) >= 3 * MS).all()
    assert ((wide["high"] - exact["high"]) >= MS).all()


def test_hosts_of_a_window_are_wrong_there_only_if_most_of_many_calls_say_so() -> None:
    few = pl.DataFrame(
        {
            "caller": ["a"] * 3, "callee": ["b"] * 3, "at": [1, 2, 3],
            "low": [5 * MS] * 3, "high": [9 * MS] * 3, "calls": [6] * 3, "against": [6] * 3,
        },
        schema_overrides={"calls": pl.UInt32, "against": pl.UInt32},
    )  # fmt: skip
    assert hosts.within(few[:2], set()) == set()
    assert len(hosts.within(pl.concat([few] * 2), set())) == 1
    half = pl.concat([few] * 2).with_columns(against=pl.lit(4, pl.UInt32))
    assert hosts.within(half, set()) == set()
