"""Clocks of twenty hosts, wrong on purpose, corrected, beside Jaeger's adjuster.

    python -m bench.skew

Hosts call each other at random: most wait for the answer, a fifth do not (three in four of those
say so by their kind; the rest only outlive their parent). Some hosts' clocks are right, the others
are off by a normal distribution, drift, and one steps by 200 ms on the way.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from bench import jaeger_adjuster
from bench.traffic import BEGIN, hexes
from quality import frame
from quality.clock import skew

Floats = npt.NDArray[np.float64]
MS = 1_000_000


class World(NamedTuple):
    """spans: the working frame as the clocks told it; true_ns: when its rows began; wrong: hosts
    whose clock is off; waits: rows whose parent waits for them."""

    spans: pl.DataFrame
    true_ns: npt.NDArray[np.int64]
    wrong: set[str]
    waits: npt.NDArray[np.bool_]


def world(
    calls: int,
    hosts: int = 20,
    right: int = 8,
    sigma: float = 50.0,
    ppm: float = 5.0,
    queued: float = 0.2,
    step: float = 200.0,
    minutes: float = 60.0,
    seed: int = 7,
) -> World:
    """Two spans a call; offsets in ms."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, int(minutes * 60e6), calls)) + BEGIN
    caller = rng.integers(0, hosts, calls)
    callee = (caller + rng.integers(1, hosts, calls)) % hosts
    lag, back = (200 + rng.exponential(300, calls) for _ in range(2))
    took = np.exp(rng.normal(9, 0.8, calls))
    asynchronous = rng.random(calls) < queued
    told = asynchronous & (rng.random(calls) < 0.75)
    lag = np.where(asynchronous, 500 + rng.exponential(8_000, calls), lag)
    length = np.where(asynchronous, np.minimum(500 + took / 50, lag + took - 1), lag + took + back)
    offset = np.where(np.arange(hosts) < right, 0.0, rng.normal(0, sigma, hosts)) * 1e3
    drift = np.where(np.arange(hosts) < right, 0.0, rng.choice([-1, 1], hosts) * ppm)
    half = BEGIN + minutes * 30e6
    start = np.stack([at, at + lag.astype(np.int64)], 1)
    host = np.stack([caller, callee], 1)
    jump = np.where((host == hosts - 1) & (start > half), step * 1e3, 0.0)
    shown = start + (offset[host] + drift[host] * (start - BEGIN) * 1e-6 + jump).astype(np.int64)
    kinds = np.where(told[:, None], ["producer", "consumer"], ["client", "server"]).astype(object)
    kinds[asynchronous & ~told] = None
    ids = hexes(rng, 2 * calls, 8).to_numpy().reshape(-1, 2)
    raw = pl.DataFrame(
        {
            "trace_id": hexes(rng, calls, 16).to_numpy().repeat(2).tolist(),
            "span_id": ids.ravel().tolist(),
            "parent_span_id": np.stack([np.full(calls, None, object), ids[:, 0]], 1)
            .ravel()
            .tolist(),
            "kind": pl.Series(kinds.ravel().tolist(), dtype=pl.String),
            "host": [f"host-{one:02}" for one in host.ravel()],
            "start": shown.ravel(),
            "duration": np.stack([length, took], 1).ravel().astype(np.int64),
        },
        schema_overrides={"parent_span_id": pl.String},
    )
    spans = frame.narrow(_filled(raw))
    wrong = {f"host-{one:02}" for one in range(right, hosts)}
    return World(spans, start.ravel() * 1000, wrong, np.repeat(~asynchronous, 2))


def _filled(raw: pl.DataFrame) -> pl.DataFrame:
    """With the rest of a raw row's columns."""
    text = ("service", "operation", "status", "attributes", "resource", "events", "links")
    return raw.with_columns(
        *(pl.lit(None, pl.String).alias(name) for name in text),
        pl.lit("us").alias("start_unit"),
        pl.lit("b").alias("batch"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("arrival"),
        (pl.from_epoch("start", "us").max() + pl.duration(minutes=1))
        .dt.replace_time_zone("UTC")
        .alias("ingested_at"),
    ).with_columns(pl.col("service").fill_null("shop"))


class Result(NamedTuple):
    """ms of error at the middle, for 95 % and for all but 0.1 % of spans; right hosts that moved;
    children of waiting parents outside of them beyond the stated error and the resolution."""

    p50: float
    p95: float
    p999: float
    moved: int
    violations: int
    seconds: float


def measure(
    world: World, start: npt.NDArray[np.int64], doubt: npt.NDArray[np.int64], took: float
) -> Result:
    """Of what a method made of the starts, against the truth."""
    error = np.abs(start - world.true_ns) / MS
    was = world.spans["start_ns"].to_numpy()
    names = world.spans["host"].to_numpy()
    moved = set(names[start != was].tolist()) - world.wrong
    length = world.spans["duration_ns"].to_numpy()
    parent, child = start[::2], start[1::2]
    room = doubt[::2] + doubt[1::2] + 2_000
    out = (child < parent - room) | (child + length[1::2] > parent + length[::2] + room)
    return Result(
        float(np.quantile(error, 0.5)),
        float(np.quantile(error, 0.95)),
        float(np.quantile(error, 0.999)),
        len(moved),
        int((out & world.waits[::2]).sum()),
        took,
    )


def compare(made: World) -> dict[str, Result]:
    """As received, by Jaeger's adjuster, and by us."""
    nothing = np.zeros(made.spans.height, np.int64)
    out = {"as received": measure(made, made.spans["start_ns"].to_numpy(), nothing, 0.0)}
    began = time.monotonic()
    theirs = jaeger_adjuster.adjusted(made.spans)
    out["Jaeger's adjuster"] = measure(made, theirs, nothing, time.monotonic() - began)
    began = time.monotonic()
    ours = skew.apply(made.spans)
    took = time.monotonic() - began
    out["rootlake"] = measure(
        made, ours["start_ns"].to_numpy(), ours["clock_error_ns"].to_numpy(), took
    )
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=42_000)
    parser.add_argument("--right", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    print("| seed | method | p50 ms | p95 ms | p99.9 ms | right hosts moved | order broken | s |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in range(given.seeds):
        for name, one in compare(world(given.calls, right=given.right, seed=seed)).items():
            print(
                f"| {seed} | {name} | {one.p50:.3f} | {one.p95:.3f} | {one.p999:.3f} | {one.moved} | {one.violations} | {one.seconds:.1f} |"
            )


if __name__ == "__main__":
    main()
