"""A full pass of repair over spans: speed, memory and bytes at rest, beside polars by hand.

    python -m bench.repair [--millions 1 5 20] [--by-hand 2] [--json-mb 500] [--lookup 100]

A pass reads raw rows, runs all rules, sorts, writes clean rows with audit and derived tables, and
commits. Sizes are of the raw rows as Arrow in memory (`bench/spans.py`: six tags, random ids, one
host's clock off, `--faulty` of the spans with a fault). Every pass is a process of its own, whose
memory is counted with its workers', at its peak. By hand is what one writes in polars for the same
rules: in memory, in one frame, per-trace clock shift; in PySpark too, where that is installed
(`bench/repair_spark.py`). `--json-mb` takes Jaeger JSON from the file to the repaired day. `--lookup`
writes that many millions of healthy spans of a day as a repair does, straight from memory, and looks
traces up by id.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import polars as pl

from bench import spans, telemetry
from bench.memory import Peak
from lake import Lake, workers
from lake.workers import Workers

EACH = spans.EACH
PART = 25  # million spans of one making


def filled(root: Path, millions: float, faulty: float) -> float:
    """A lake with so many raw spans in batches of a million; MB of them as Arrow."""
    lake = Lake(root).create()
    counts = [int(min(EACH, millions * EACH - low)) for low in range(0, int(millions * EACH), EACH)]
    work = [partial(spans.batch, str(root), n, count, faulty) for n, count in enumerate(counts)]
    with Workers() as many:
        made = list(many.map(work))
    for number, (staged, _) in enumerate(made):
        lake.commit("raw_spans", staged, {f"bench/{number}": 1})
    return sum(size for _, size in made) / 1e6


def ours(root: str) -> None:
    """The product."""
    from quality.run import repair

    repair(Lake(root))


def from_json(root: str) -> None:
    """From the file beside the lake to the repaired day."""
    from ingest.run import ingest

    lake = Lake(root).create()
    ingest(lake, "jaeger", f"{root}.json")
    ours(root)


def by_hand(root: str) -> None:
    """The same rules, straightforward: one frame, joins, a shift per trace, one write."""
    from deltalake import write_deltalake

    rows = pl.scan_delta(f"{root}/raw_spans").collect()
    rows = _clean(rows)
    rows = _joined(rows)
    start = pl.from_epoch("start_ns", "ns").cast(pl.Datetime("us", "UTC"))
    rows = rows.with_columns(start.alias("start"), start.dt.date().alias("date"))
    rows = rows.with_columns(pl.col("start").dt.truncate("1m").alias("minute"))
    rows = rows.sort("minute", "service", "operation", "start")
    red = rows.group_by("date", "minute", "service", "operation").agg(
        pl.len().alias("calls"),
        *(
            pl.col("duration_ns").quantile(share).alias(f"p{share * 100:.0f}")
            for share in (0.5, 0.95, 0.99)
        ),
    )
    edges = rows.group_by("date", "minute", "above", "service").agg(pl.len().alias("calls"))
    changed = rows.filter(pl.col("was") != pl.col("trace_id")).select("was", "trace_id", "span_id")
    write_deltalake(f"{root}/hand_repairs", changed.to_arrow(), mode="overwrite")
    clean = rows.drop("minute", "was", "above").to_arrow(compat_level=pl.CompatLevel.oldest())
    write_deltalake(f"{root}/hand_spans", clean, mode="overwrite", partition_by=["date"])
    write_deltalake(f"{root}/hand_red", red.to_arrow(), mode="overwrite")
    write_deltalake(f"{root}/hand_edges", edges.to_arrow(), mode="overwrite")


def _clean(rows: pl.DataFrame) -> pl.DataFrame:
    """Ids, units and signs of each row by itself; tags read; doubles gone."""
    tag = pl.List(pl.Struct({"key": pl.String, "type": pl.String}))
    far = pl.col("start") > 10_000_000_000_000_000
    unit = pl.when(far).then(1).otherwise(1000)
    negative = pl.col("duration") < 0
    start = pl.when(negative).then(pl.col("start") + pl.col("duration")).otherwise("start")
    return (
        rows.with_columns(
            pl.col("trace_id").alias("was"),
            pl.col("trace_id", "span_id", "parent_span_id").str.to_lowercase(),
            (start * unit).alias("start_ns"),
            (pl.col("duration").abs() * unit).alias("duration_ns"),
            pl.col("attributes", "resource").str.json_decode(tag),
        )
        .drop("start", "duration", "date", "start_unit", "events", "links")
        .unique(["trace_id", "span_id"], keep="first")
    )


def _joined(rows: pl.DataFrame) -> pl.DataFrame:
    """The trace of each row's parent where they differ, and its clock shifted into the parent."""
    above = rows.select(
        parent_span_id="span_id",
        trace_above="trace_id",
        above="service",
        host_above="host",
        start_above="start_ns",
        took_above="duration_ns",
    ).unique("parent_span_id", keep="first")
    joined = rows.join(above, on="parent_span_id", how="left")
    slack = (pl.col("took_above") - pl.col("duration_ns")) // 2
    inside = pl.col("start_ns").is_between(
        pl.col("start_above"), pl.col("start_above") + pl.col("took_above")
    )
    off = (pl.col("host") != pl.col("host_above")) & ~inside
    by = pl.when(off).then(pl.col("start_above") + slack - pl.col("start_ns")).otherwise(0)
    return joined.with_columns(
        pl.coalesce("trace_above", "trace_id").alias("trace_id"),
        (pl.col("start_ns") + by).alias("start_ns"),
    ).drop("trace_above", "host_above", "start_above", "took_above")


def spark(root: str) -> None:
    """The same by hand in PySpark."""
    from bench import repair_spark

    repair_spark.by_hand(root)


CASES: dict[str, Callable[[str], None]] = {
    "ours": ours,
    "json": from_json,
    "by hand": by_hand,
    "spark": spark,
}


class Cost(NamedTuple):
    """Seconds and processor seconds (without the start of Python), and MB of memory at its peak."""

    seconds: float
    processor: float
    peak: float


def measured(case: str, root: Path) -> Cost:
    """What a case costs in a fresh process."""
    command = [sys.executable, "-m", "bench.repair", "--one", case, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def one(case: str, root: str) -> None:
    """Run a case in this process and print what it took."""
    for name in ("deltalake", "polars", "ingest.run", "ingest.jaeger", "quality.run"):
        import_module(name)  # importing is not what is measured
    with Peak() as peak:
        began, spent = time.perf_counter(), _processor()
        CASES[case](root)
        seconds = time.perf_counter() - began
        workers.release()
        cpu = _processor() - spent
    print(json.dumps([seconds, cpu, peak.megabytes]))


def _processor() -> float:
    """Processor seconds of this process and of those it started that have ended."""
    mine = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(one)[:2]) for one in mine)


def passes(home: Path, millions: Sequence[float], faulty: float) -> None:
    """Full passes over growing lakes."""
    print(f"repair, {faulty:.2%} of the spans with a fault")
    for many in millions:
        root = home / "lake"
        size = filled(root, many, faulty)
        _line(f"{many:g} M spans", size, measured("ours", root))
        print(f"    {_at_rest(Lake(root)):.1f} bytes a span at rest", flush=True)
        shutil.rmtree(root)


def _line(name: str, size: float, cost: Cost) -> None:
    print(
        f"  {name:<26}{size:9,.0f} MB {cost.seconds:7.1f} s {size / cost.seconds:6.1f} MB/s"
        f" {size / cost.processor:6.1f} MB/cpu-s {cost.peak:6,.0f} MB of memory",
        flush=True,
    )


def _at_rest(lake: Lake) -> float:
    sizes = sum(Path(file).stat().st_size for file in lake.files("spans"))
    rows = int(lake.scan("spans").select(pl.len()).collect().item())
    return sizes / rows


def hand(home: Path, millions: float, faulty: float) -> None:
    """Polars and PySpark by hand and ours, over the same rows."""
    root = home / "lake"
    size = filled(root, millions, faulty)
    cases = ["by hand", "spark", "ours"]
    if not find_spec("pyspark"):
        print("  PySpark is not installed (`pip install pyspark`, and Java): left out")
        cases.remove("spark")
    for name in cases:
        _line(f"{millions:g} M spans, {name}", size, measured(name, root))
    shutil.rmtree(root)


def json_files(home: Path, megabytes: int) -> None:
    """Jaeger JSON to the repaired day."""
    file = home / "lake.json"
    count = telemetry.jaeger_json(file, megabytes * 1_000_000)
    size = file.stat().st_size / 1e6
    _line(f"{count:,} spans of JSON", size, measured("json", home / "lake"))
    file.unlink()
    shutil.rmtree(home / "lake")


def lookup(home: Path, millions: int) -> None:
    """A trace by id among so many clean spans of one day."""
    from rootlake import Lake as Door

    root = home / "lake"
    lake = Lake(root).create()
    with Workers() as many:
        parts = [range(low, min(low + PART, millions)) for low in range(0, millions, PART)]
        work = [partial(spans.clean, root, list(part), millions) for part in parts]
        made = list(many.map(work))
    traces = [trace for _, some in made for trace in some]
    lake.commit("spans", [file for files, _ in made for file in files], {"bench": 1})
    rows = lake.scan("spans").select(pl.len()).collect().item()
    print(f"a trace by id among {rows:,} spans, {_at_rest(lake):.1f} bytes a span")
    door = Door(root)
    for name, ask in (("SQL", _sql), ("Python", _frame)):
        taken = []
        for trace in traces[:: max(millions // 20, 1)]:
            began = time.perf_counter()
            found = ask(door, trace)
            taken.append((time.perf_counter() - began) * 1000)
            assert found == spans.SPANS, (trace, found)
        told = f"median {statistics.median(taken):.1f} ms, slowest {max(taken):.1f} ms"
        print(f"  {name:<8} {told}, first {taken[0]:.1f} ms, of {len(taken)}", flush=True)


def _sql(door: object, trace: str) -> int:
    found = door.sql(f"select * from spans where trace_id = '{trace}'")  # type: ignore[attr-defined]
    return len(found)


def _frame(door: object, trace: str) -> int:
    rows = door.spans.filter(pl.col("trace_id") == trace)  # type: ignore[attr-defined]
    return int(rows.collect().height)


def main() -> None:
    """What is asked for; all of it in small where nothing is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--millions", type=float, nargs="+", default=[])
    parser.add_argument("--by-hand", type=float, default=0)
    parser.add_argument("--json-mb", type=int, default=0)
    parser.add_argument("--lookup", type=int, default=0)
    parser.add_argument("--faulty", type=float, default=0.001)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(*given.one)
        return
    if not (given.millions or given.by_hand or given.json_mb or given.lookup):
        given.millions, given.by_hand, given.json_mb, given.lookup = [1, 4], 1, 300, 5
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if given.millions:
            passes(home, given.millions, given.faulty)
        if given.by_hand:
            hand(home, given.by_hand, given.faulty)
        if given.json_mb:
            json_files(home, given.json_mb)
        if given.lookup:
            lookup(home, given.lookup)


if __name__ == "__main__":
    main()
