"""How long a diagnosis of a busy hour takes: 10 million spans, 2 million log lines, 5,000 series.

    python -m bench.rca_speed [--spans 10000000] [--lake DIR] [--runs 3]

Makes the hour (the same seed, the same telemetry), then diagnoses it in a process of its own per
run and prints wall time, CPU time of all its threads, peak memory and what was sampled. Beside it, in the same run, the
alternative: the same question over every trace instead of a sample of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from lake import TABLES, Lake
from quality.slices import derive

START = datetime(2026, 3, 4, 13, 0, tzinfo=UTC)
ONSET = START + timedelta(minutes=45)
AT = START + timedelta(minutes=48)
SERVICES, ROUTES, SPANS, PODS = 30, 24, 12, 6
CULPRIT = 7
STEP = 4  # minutes made at a time


def _routes(dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per route and span: service, parent, own time in ms. Client and server spans alternate."""
    service = np.zeros((ROUTES, SPANS), dtype=np.int64)
    parent = np.full((ROUTES, SPANS), -1, dtype=np.int64)
    own = np.exp(dice.normal(0.5, 0.8, (ROUTES, SPANS)))
    for route in range(ROUTES):
        service[route, 0] = route % 3
        callee = dice.permutation(np.arange(3, SERVICES))[:6]
        if route % 2 == 0:
            callee[1] = CULPRIT
        servers = [0]
        for hop, place in enumerate(range(1, SPANS - 1, 2)):
            caller = servers[int(dice.integers(len(servers)))]
            service[route, place], parent[route, place] = service[route, caller], caller
            service[route, place + 1], parent[route, place + 1] = callee[hop], place
            own[route, place] = 0.3
            servers.append(place + 1)
        parent[route, SPANS - 1] = servers[-1]
        service[route, SPANS - 1] = service[route, servers[-1]]
    return service, parent, own


def _hex(dice: np.random.Generator, count: int, width: int) -> pl.Series:
    """Random ids of `width` hex digits."""
    raw = dice.integers(0, 256, (count, width // 2), dtype=np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    text = np.empty((count, width), dtype=np.uint8)
    text[:, 0::2], text[:, 1::2] = digits[raw >> 4], digits[raw & 15]
    return pl.Series(np.ascontiguousarray(text).view(f"S{width}").ravel().astype(f"U{width}"))


def _tags(**columns: pl.Expr) -> pl.Expr:
    pairs = [
        pl.struct(pl.lit(key.replace("__", ".")).alias("key"), one.cast(pl.String).alias("value"))
        for key, one in columns.items()
    ]
    return pl.concat_list(pairs).cast(pl.Map(pl.String, pl.String))


def spans_of(
    dice: np.random.Generator,
    routes: tuple[np.ndarray, ...],
    begin: datetime,
    minutes: int,
    traces: int,
) -> pl.DataFrame:
    """So many traces within some minutes, as rows of `spans`."""
    service, parent, own = routes
    route = dice.integers(0, ROUTES, traces)
    at = (
        np.sort(dice.integers(0, minutes * 60_000_000, traces)) * 1000
        + int(begin.timestamp()) * 10**9
    )
    bad = (at >= int(ONSET.timestamp()) * 10**9)[:, None] & (service[route] == CULPRIT)
    took = own[route] * np.exp(dice.normal(0, 0.25, (traces, SPANS))) * 1e6
    hurt = bad & (parent[route] >= 0) & (dice.random((traces, SPANS)) < 0.7)
    took = np.where(hurt, took * 9 + 2e7, took).astype(np.int64)
    lasts, begins = took.copy(), np.zeros_like(took)
    rows = np.arange(traces)
    for place in range(SPANS - 1, 0, -1):
        np.add.at(lasts, (rows, parent[route, place]), lasts[:, place])
    spent = np.full((traces, SPANS), 100_000, dtype=np.int64)
    for place in range(1, SPANS):
        above = parent[route, place]
        begins[:, place] = begins[rows, above] + spent[rows, above]
        spent[rows, above] += lasts[:, place]
    failed = hurt & (dice.random((traces, SPANS)) < 0.15) | (dice.random((traces, SPANS)) < 0.001)
    return _frame(dice, route, at, service, parent, lasts, begins, failed)


def _frame(dice, route, at, service, parent, lasts, begins, failed) -> pl.DataFrame:  # noqa: ANN001
    traces = len(route)
    count = traces * SPANS
    span_id = _hex(dice, count, 16)
    above = parent[route] + (np.arange(traces) * SPANS)[:, None]
    parents = span_id.gather(np.where(parent[route] < 0, 0, above).ravel())
    place = np.tile(np.arange(SPANS), traces)
    frame = pl.DataFrame(
        {
            "trace_id": _hex(dice, traces, 32).gather(np.repeat(np.arange(traces), SPANS)),
            "span_id": span_id,
            "parent_span_id": parents,
            "root": (parent[route] < 0).ravel(),
            "number": service[route].ravel(),
            "route": np.repeat(route, SPANS),
            "place": place,
            "start_ns": (at[:, None] + begins).ravel(),
            "duration_ns": lasts.ravel(),
            "failed": failed.ravel(),
            "pod_number": dice.integers(0, PODS, count),
            "port": dice.integers(1024, 65535, count),
            "tenant": dice.integers(0, 200, count),
        }
    )
    client = (pl.col("place") % 2 == 1) & (pl.col("place") < SPANS)
    named = pl.format("svc-{}", "number")
    pod = pl.format("svc-{}-7d9f-{}", "number", "pod_number")
    node = pl.format("node-{}", (pl.col("number") + pl.col("pod_number")) % 12)
    frame = frame.with_columns(
        start=pl.from_epoch("start_ns", time_unit="ns")
        .dt.replace_time_zone("UTC")
        .cast(pl.Datetime("us", "UTC")),
        service=named,
        operation=pl.format("op-{}", pl.col("route") % 5 + pl.col("place")),
        kind=pl.when(client).then(pl.lit("client")).otherwise(pl.lit("server")),
        parent_span_id=pl.when("root").then(None).otherwise("parent_span_id"),
        host=node,
        cluster=pl.lit("eu-1"),
        status=pl.when("failed").then(pl.lit("error")).otherwise(pl.lit("ok")),
        weight=pl.lit(1.0),
    )
    frame = frame.with_columns(
        date=pl.col("start").dt.date(), minute=pl.col("start").dt.truncate("1m")
    )
    frame = frame.sort("minute", "service", "operation", "start")
    return frame.with_columns(
        attributes=_tags(
            http__method=pl.lit("GET"),
            tenant=pl.col("tenant"),
            net__peer__port=pl.col("port"),
            http__route=pl.format("/v1/{}", "route"),
        ),
        resource=_tags(
            **{"k8s.pod.name": pod, "k8s.node.name": node, "service.version": pl.lit("1.4.2")}
        ),
    )


def fit(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the columns of a table; what it has not is null."""
    from lake import empty

    return pl.concat(
        [
            empty(TABLES[name]),
            frame.select(one for one in TABLES[name].schema.names if one in frame.columns),
        ],
        how="diagonal",
    )


def logs_of(dice: np.random.Generator, spans: pl.DataFrame, lines: int) -> pl.DataFrame:
    """Lines of some server spans; the culprit's slow ones complain."""
    some = spans.filter(pl.col("kind") == "server").sample(
        min(lines, spans.height // 3), seed=int(dice.integers(1 << 30))
    )
    hurt = (
        (pl.col("number") == CULPRIT) & (pl.col("start") >= ONSET) & (pl.col("duration_ns") > 20e6)
    )
    template = (
        pl.when(hurt)
        .then(pl.lit("t-wait"))
        .otherwise(pl.format("t-{}-{}", "number", pl.col("place") % 3))
    )
    body = (
        pl.when(hurt)
        .then(pl.lit("connection pool exhausted, waited 800 ms"))
        .otherwise(pl.format("handled request {} in {} us", "port", "duration_ns"))
    )
    return some.select(
        "date",
        "service",
        "trace_id",
        "span_id",
        "cluster",
        ts="start",
        template_id=template,
        body=body,
        pod=pl.format("svc-{}-7d9f-{}", "number", "pod_number"),
        node="host",
        severity=pl.when(hurt).then(pl.lit("ERROR")).otherwise(pl.lit("INFO")),
    ).sort(pl.col("ts").dt.truncate("1m"), "service", "ts")


def samples_of(dice: np.random.Generator, lake: Lake, count: int) -> None:
    """`count` series of four gauges and two counters of pods, one sample each 15 s of the hour."""
    names = (
        "container_cpu_usage_cores",
        "container_memory_working_set_bytes",
        "db_pool_in_use",
        "process_open_fds",
        "http_requests_total",
        "http_request_seconds_sum",
    )
    number = np.arange(count)
    metric = number % 6
    service = (number // 6) % SERVICES
    pod = (number // 6) // SERVICES
    series = pl.DataFrame(
        {
            "series": number.astype(np.int64),
            "metric": [names[k] for k in metric],
            "service": [f"svc-{k}" for k in service],
            "pod": [f"svc-{s}-7d9f-{p}" for s, p in zip(service, pod, strict=True)],
        }
    )
    labels = series.with_columns(
        labels=_tags(
            service=pl.col("service"),
            pod=pl.col("pod"),
            node=pl.format("node-{}", pl.col("series") % 12),
        ),
        type=pl.when(
            pl.col("metric").str.ends_with("total") | pl.col("metric").str.ends_with("sum")
        )
        .then(pl.lit("counter"))
        .otherwise(pl.lit("gauge")),
    )
    lake.append("series", fit("series", labels))
    steps = 240
    value = np.abs(dice.normal(5, 1, (count, steps)))
    late = np.arange(steps) * 15 >= 45 * 60
    value[np.ix_((metric == 2) & (service == CULPRIT), late)] += 30
    value[metric >= 4] = np.cumsum(value[metric >= 4], axis=1)
    frame = pl.DataFrame(
        {
            "series": np.repeat(number, steps).astype(np.int64),
            "value": value.ravel(),
            "second": np.tile(np.arange(steps) * 15, count),
        }
    )
    frame = frame.join(
        series.select("series", "metric"), on="series", how="left", maintain_order="left"
    )
    frame = frame.with_columns(ts=pl.lit(START) + pl.duration(seconds="second")).with_columns(
        date=pl.col("ts").dt.date()
    )
    lake.append("samples", fit("samples", frame.sort("metric", "series", "ts")))


DIFF = """diff --git a/services/svc-7/orders.py b/services/svc-7/orders.py
@@ -10,3 +10,5 @@ def orders(ids):
-    rows = db.query("select * from orders where id = any(%s)", ids)
+    rows = []
+    for one in ids:
+        rows.append(db.query("select * from orders where id = %s", one))
     return rows"""


def changes_of(lake: Lake) -> None:
    """A culprit among two hundred commits and deploys."""
    rows = [
        {
            "ts": START - timedelta(hours=k / 2),
            "kind": "commit" if k % 2 else "deploy",
            "service": f"svc-{k % SERVICES}",
            "ref": f"{k:040x}",
            "author": "a",
            "message": f"tidy {k}",
            "files": [f"services/svc-{k % SERVICES}/a.py"],
            "diff": f"diff --git a/services/svc-{k % SERVICES}/a.py b/services/svc-{k % SERVICES}/a.py\n@@ -1,1 +1,1 @@\n-# {k}\n+# so {k}\n",
        }
        for k in range(1, 200)
    ]
    rows.append(
        {
            "ts": ONSET - timedelta(hours=2),
            "kind": "commit",
            "service": "svc-7",
            "ref": "c" * 40,
            "author": "b",
            "message": "orders one by one",
            "files": ["services/svc-7/orders.py"],
            "diff": DIFF,
        }
    )
    rows.append(
        {
            "ts": ONSET - timedelta(minutes=1),
            "kind": "deploy",
            "service": "svc-7",
            "ref": "svc-7@2.0.1",
            "author": "b",
            "message": "release",
            "after": "c" * 40,
        }
    )
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(date=pl.col("ts").dt.date())
    lake.append("changes", fit("changes", frame))


def made(lake: Lake, spans: int, lines: int, series: int) -> None:
    """The hour in a lake; minutes that are there already are left as they are."""
    dice = np.random.default_rng(7)
    routes = _routes(dice)
    last = lake.create().scan("logs").select(pl.col("ts").max()).collect().item()
    for minute in range(0, 60, STEP):
        dice = np.random.default_rng([7, minute])
        begin = START + timedelta(minutes=minute)
        if last and last >= begin:
            continue
        frame = spans_of(dice, routes, begin, STEP, spans * STEP // 60 // SPANS)
        whole = fit("spans", frame)
        lake.append("spans", whole, ordered=True)
        for table, rows in derive.of(whole.filter(pl.col("date") == START.date())).items():
            lake.append(table, fit(table, rows))
        lake.append("logs", fit("logs", logs_of(dice, frame, lines * STEP // 60)), ordered=True)
    texts = [("t-wait", "connection pool exhausted, waited <*> ms")]
    texts += [
        (f"t-{k}-{j}", f"handled request <*> in <*> us {k} {j}")
        for k in range(SERVICES)
        for j in range(3)
    ]
    lake.append(
        "templates",
        fit("templates", pl.DataFrame(texts, schema=["template_id", "template"], orient="row")),
    )
    samples_of(dice, lake, series)
    changes_of(lake)


ONE = """
import json, sys, time
from datetime import datetime
from bench.memory import Peak
from lake import Lake
from rca import facts
from rca.diagnose import diagnose
from rca.question import Question
if sys.argv[3] == "all":
    facts.MOST = facts.MOST_LINES = (10**12, 10**12)
busy = time.process_time()
with Peak(0.02) as peak:
    answer = diagnose(Lake(sys.argv[1]), Question(datetime.fromisoformat(sys.argv[2])))
first = answer["suspects"][0]
cause = answer["root_cause_change"] or {}
busy = time.process_time() - busy
print(json.dumps({"ms": answer["duration_ms"], "cpu_s": round(busy, 2), "mb": round(peak.megabytes),
  "first": first["service"], "fault": first["fault"], "change": str(cause.get("ref"))[:8], "onset": answer["onset"],
  "verdict": answer["verdict"], "sampled": answer.get("sampled")}))
"""


def once(lake: Lake, how: str) -> dict[str, object]:
    """One diagnosis in a process of its own: milliseconds, peak MB, what it found."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", ONE, lake.root, AT.isoformat(), how], capture_output=True, text=True
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:] or done.returncode}
    return {**json.loads(done.stdout), "process_s": round(time.perf_counter() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--series", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--lake", type=Path, help="keep the hour here, and use it again")
    parser.add_argument(
        "--no-alternative", action="store_true", help="leave out the run over every trace"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(given.lake or Path(folder) / "lake")
        if not lake.exists():
            began = time.perf_counter()
            made(lake, given.spans, given.lines, given.series)
            print(f"made in {time.perf_counter() - began:.0f} s")
        for name in ("spans", "logs", "samples", "series"):
            print(f"  {name:<8} {lake.scan(name).select(pl.len()).collect().item():>12,}")
        runs = [once(lake, "sample") for _ in range(given.runs)]
        for one in runs:
            print(f"  sampled      {one}")
        if all("ms" in one for one in runs):
            print(
                f"  median {statistics.median(one['ms'] for one in runs) / 1000:.2f} s, peak {max(one['mb'] for one in runs):.0f} MB"
            )  # type: ignore[type-var]
        if not given.no_alternative:
            print(f"  every trace  {once(lake, 'all')}")


if __name__ == "__main__":
    main()
