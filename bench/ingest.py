"""Ingest into a committed Delta table, beside what people write by hand, in the same run.

    python -m bench.ingest [--runs 3] [--jaeger-mb 500] [--series 5000] [--samples 4000]

Prometheus: a real server (Debian's) with generated blocks; remote-read, with and without numba,
against prometheus-api-client's `get_metric_range_data` per metric → polars → write_deltalake.
Jaeger: a generated reply of the query API of some 940 bytes a span; ours against orjson-like
loops (msgspec's untyped decoding, which is no slower) → polars → write_deltalake. Medians of
alternating runs; memory is that of the process and its workers together, at its peak.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import numpy as np

from bench import telemetry
from bench.memory import Peak

LOW, HIGH = datetime(2025, 3, 11, 14, tzinfo=UTC), datetime(2025, 3, 12, tzinfo=UTC)
WINDOW = (HIGH - LOW) // timedelta(seconds=15)  # samples of a series in it


def prometheus_ours(url: str, lake: str, *, numba: bool) -> int:
    """Remote-read into a lake; how many samples."""
    from ingest import xor
    from ingest.run import ingest
    from lake import Lake

    if not numba:
        xor.compiled = lambda: None  # type: ignore[assignment]
    return ingest(Lake(lake), "prometheus", url, since=LOW, until=HIGH, exemplars=False).rows


def prometheus_by_hand(url: str, table: str) -> int:
    """The client library's own way."""
    import polars as pl
    from deltalake import write_deltalake
    from prometheus_api_client import PrometheusConnect

    client = PrometheusConnect(url=url)
    frames = []
    for metric in client.all_metrics():
        found = client.get_metric_range_data(
            metric, start_time=LOW, end_time=HIGH, chunk_size=HIGH - LOW
        )
        for one in found:
            times, values = zip(*one["values"], strict=True)
            frames.append(
                pl.DataFrame(
                    {
                        "metric": [metric] * len(times),
                        "labels": [json.dumps(one["metric"])] * len(times),
                        "ts": times,
                        "value": [float(value) for value in values],
                    }
                )
            )
    whole = pl.concat(frames).sort("metric", "labels", "ts")
    write_deltalake(table, whole.to_arrow())
    return whole.height


def jaeger_ours(file: str, lake: str) -> int:
    """A file into a lake; how many spans."""
    from ingest.run import ingest
    from lake import Lake

    return ingest(Lake(lake), "jaeger", file).rows


def jaeger_by_hand(file: str, table: str) -> int:
    """Decode, loop over the spans, one frame, one write."""
    import msgspec
    import polars as pl
    from deltalake import write_deltalake

    reply = msgspec.json.decode(Path(file).read_bytes())
    rows = []
    for trace in reply["data"]:
        processes = trace["processes"]
        for span in trace["spans"]:
            parent = next(
                (one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"), None
            )
            process = processes[span["processID"]]
            rows.append(
                {
                    "trace_id": span["traceID"],
                    "span_id": span["spanID"],
                    "parent_span_id": parent,
                    "service": process["serviceName"],
                    "operation": span["operationName"],
                    "start": span["startTime"],
                    "duration": span["duration"],
                    "attributes": json.dumps(span["tags"]),
                    "events": json.dumps(span["logs"]),
                    "resource": json.dumps(process["tags"]),
                }
            )
    frame = pl.DataFrame(rows).sort("trace_id")
    write_deltalake(table, frame.to_arrow())
    return frame.height


CASES: dict[str, Callable[[str, str], int]] = {
    "prometheus numba": lambda url, to: prometheus_ours(url, to, numba=True),
    "prometheus numpy": lambda url, to: prometheus_ours(url, to, numba=False),
    "prometheus by hand": prometheus_by_hand,
    "jaeger ours": jaeger_ours,
    "jaeger by hand": jaeger_by_hand,
}


def measured(case: str, source: str) -> tuple[float, int, float]:
    """Seconds (without the start of Python), rows, and MB of memory of a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.ingest", "--one", case, source, f"{folder}/out"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        seconds, rows, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, rows, memory


def one(case: str, source: str, to: str) -> None:
    """Run a case in this process and print what it took."""
    for name in ("deltalake", "polars", "prometheus_api_client", "ingest.run", "ingest.prometheus"):
        import_module(name)  # importing is not what is measured
    if "numba" in case:
        fast = import_module("ingest.xor_compiled")  # nor is loading compiled code
        fast.frames(np.zeros(0, np.uint8))
        none = np.zeros(1, np.int64)
        import_module("ingest.xor").decode(np.zeros(16, np.uint8), none, none + 2)
    with Peak() as peak:
        began = time.perf_counter()
        rows = CASES[case](source, to)
        seconds = time.perf_counter() - began
    print(json.dumps([seconds, rows, peak.megabytes]))


def table(title: str, cases: list[str], source: str, runs: int, unit: float, name: str) -> None:
    """Medians of alternating runs."""
    taken: dict[str, list[float]] = {case: [] for case in cases}
    sizes: dict[str, float] = {}
    rows: dict[str, int] = {}
    for _ in range(runs):
        for case in cases:
            seconds, rows[case], sizes[case] = measured(case, source)
            taken[case].append(seconds)
    slowest = statistics.median(taken[cases[-1]])
    print(f"\n{title}")
    for case in cases:
        seconds = statistics.median(taken[case])
        print(
            f"  {case:<20} {seconds:7.2f} s  {unit / seconds:8.2f} {name}"
            f"  {slowest / seconds:5.1f} x  {sizes[case]:6.0f} MB  {rows[case]:,} rows"
        )


def main() -> None:
    """Both sources, as asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jaeger-mb", type=int, default=500)
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--samples", type=int, default=4000, help="of each series")
    parser.add_argument("--only", choices=("jaeger", "prometheus"))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(*given.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.only != "jaeger" and shutil.which("prometheus"):
            from tests.servers import prometheus

            home = Path(folder) / "prometheus"
            home.mkdir()
            samples = telemetry.openmetrics(home / "made.om", given.series, given.samples)
            with prometheus(home, (home / "made.om").read_bytes()) as url:
                cases = ["prometheus numba", "prometheus numpy", "prometheus by hand"]
                inside = given.series // 2 * 2 * min(given.samples, WINDOW)
                title = f"{inside:,} of {samples:,} samples of {given.series:,} series, a real Prometheus"
                table(title, cases, url, given.runs, inside / 1e6, "M/s")
        if given.only != "prometheus":
            file = Path(folder) / "jaeger.json"
            spans = telemetry.jaeger_json(file, given.jaeger_mb * 1_000_000)
            megabytes = file.stat().st_size / 1e6
            title = f"{spans:,} spans, {megabytes:,.0f} MB of Jaeger JSON"
            table(
                title, ["jaeger ours", "jaeger by hand"], str(file), given.runs, megabytes, "MB/s"
            )


if __name__ == "__main__":
    main()
