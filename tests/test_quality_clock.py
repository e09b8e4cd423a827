"""Clocks: who is wrong moves, who is right stays, steps are found, resolution is respected."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality import spans
from quality.clock import skew
from tests import quality_traces as traces

MS = 1_000_000


def fleet(
    seed: int,
    offsets: dict[int, float],
    *,
    minutes: float = 4,
    drift: float = 0.0,
    step: tuple[float, float] | None = None,
    hosts: int = 8,
    grain: int = 1,
) -> pl.DataFrame:
    """Calls among hosts of which some have clocks off by `offsets` ms (drifting, and stepping at
    a minute by some ms), as the working frame; `true_ns` is when a span really began."""
    rng = np.random.default_rng(seed)
    count = int(minutes * 240)
    rows: list[traces.Row] = []
    for number in range(count):
        at = traces.BEGIN + int(number * minutes * 60e6 / count)
        caller, callee = (int(i) for i in rng.choice(hosts, 2, replace=False))
        length = int(rng.integers(4_000, 40_000))
        lag, back = (int(200 + rng.exponential(300)) for _ in range(2))
        trace = f"{seed + 1:016x}{number + 1:016x}"
        one = traces._row(trace, f"{number + 1:016x}", None, 0, "client", at, length + lag + back)
        two = traces._row(trace, f"{number + 1:08x}00000000", one["span_id"], 1, "server", at, 0)
        one["host"], two["host"] = f"host-{caller}", f"host-{callee}"
        two["start"], two["duration"] = at + lag, length
        rows += [one, two]
    truth = [row["start"] * 1000 for row in rows]
    for row in rows:
        since = (row["start"] - traces.BEGIN) / 6e7
        host = int(row["host"].split("-")[1])
        if host in offsets:
            jump = step[1] if step and since >= step[0] else 0.0
            row["start"] += round((offsets[host] + jump) * 1e3 + drift * since * 60e6)
        row["start"] = row["start"] // grain * grain
    return traces.narrow(rows).with_columns(pl.Series("true_ns", truth, pl.Int64))


def error_ms(frame: pl.DataFrame) -> pl.Series:
    return ((frame["start_ns"] - frame["true_ns"]).abs() / MS).alias("error")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), wrong=st.floats(-80, 80).filter(lambda ms: abs(ms) > 3))
def test_one_wrong_clock_is_corrected_and_no_other_moves(seed: int, wrong: float) -> None:
    frame = fleet(seed, {2: wrong})
    fixed = skew.apply(frame)
    moved = fixed.filter(pl.col("clock_offset_ns") != 0)
    assert set(moved["host"]) == {"host-2"}
    assert error_ms(fixed).quantile(0.95) < 0.2  # type: ignore[operator]
    assert ((fixed["start_ns"] + fixed["clock_offset_ns"]) == frame["start_ns"]).all()


def test_a_drifting_clock_gets_a_line_not_a_constant() -> None:
    fixed = skew.apply(fleet(1, {1: 40.0, 5: -25.0}, minutes=20, drift=20e-6))
    assert error_ms(fixed).quantile(0.95) < 0.2  # type: ignore[operator]
    assert fixed.filter(pl.col("host") == "host-1")["clock_offset_ns"].n_unique() > 2


def test_a_step_starts_a_new_line_where_it_happened() -> None:
    fixed = skew.apply(fleet(3, {4: 30.0}, minutes=10, step=(5.2, 200.0)))
    assert error_ms(fixed).quantile(0.99) < 1  # type: ignore[operator]
    assert (error_ms(fixed) > 1).sum() <= 4


@pytest.mark.parametrize("grain", [pytest.param(1, id="µs"), pytest.param(1_000, id="ms")])
def test_right_clocks_never_move_whatever_their_resolution(grain: int) -> None:
    frame = fleet(5, {}, grain=grain)
    assert skew.lines(frame) == []


def test_hosts_without_calls_between_them_stay() -> None:
    frame = fleet(6, {0: 500.0}, hosts=4)
    alone = frame.with_columns(host=pl.format("{}-{}", "host", "row"))
    assert skew.lines(alone.with_columns(parent_span_id=pl.lit(None, pl.String))) == []


def test_a_clock_half_a_day_off_is_left_alone() -> None:
    assert skew.lines(fleet(7, {2: 86_400_000.0 * 0.6})) == []


def test_a_time_that_cannot_be_neither_teaches_nor_moves() -> None:
    frame = fleet(8, {2: 20.0})
    zero = pl.when(pl.col("row") == 10).then(0).otherwise("start_ns").alias("start_ns")
    fixed = skew.apply(frame.with_columns(zero))
    assert fixed.filter(pl.col("row") == 10)["start_ns"].to_list() == [0]
    assert all(abs(line.offset) < 30 * MS for line in skew.lines(frame.with_columns(zero)))


def test_the_audit_tells_each_line_and_how_many_rows_it_moved() -> None:
    found = spans.repair(fleet(9, {2: 20.0}).drop("true_ns"))
    moved = found.spans.filter(pl.col("clock_offset_ns") != 0)
    assert found.clock_audit["row_count"].sum() == moved.height
    assert found.audit.filter(pl.col("rule") == "clock_skew").is_empty()


def test_an_asynchronous_callee_may_end_late() -> None:
    frame = fleet(10, {})
    late = pl.when(pl.col("kind") == "server").then(9_000 * MS).otherwise("duration_ns")
    kind = pl.col("kind").replace({"server": "consumer", "client": "producer"})
    queued = frame.with_columns(late.alias("duration_ns"), kind)
    assert skew.lines(queued) == []


@pytest.mark.parametrize(
    ("wrong", "called"),
    [
        pytest.param({0, 1}, ["01", "02", "03", "24", "35"], id="a host and one alike to it"),
        pytest.param({2, 4}, ["01", "05", "02", "24"], id="at the far end"),
        pytest.param({2, 3}, ["01", "04", "05", "02", "03"], id="fewer than those in the middle"),
    ],
)
def test_hosts_alike_to_a_wrong_one_move_with_it(wrong: set[int], called: list[str]) -> None:
    frame = fleet(11, dict.fromkeys(wrong, 30.0), minutes=10, hosts=6)
    host = pl.col("host").str.slice(-1)
    pair = host.sort_by("start_ns", "kind").str.join("").over("trace_id")
    either = pair.is_in(called) | pair.str.reverse().is_in(called)
    fixed = skew.apply(frame.filter(either))
    moved = fixed.filter(pl.col("clock_offset_ns") != 0)["host"]
    assert set(moved) == {f"host-{one}" for one in wrong}
    assert error_ms(fixed).quantile(0.95) < 0.5  # type: ignore[operator]
