"""The telemetry a diagnosis looks at, loaded once: the incident's window and healthy time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lake import Lake
from rca.question import Stretch

NEAR = timedelta(minutes=5)
PEER = ("server.address", "peer.service", "net.peer.name")
STORE = ("db.system", "db.system.name")
POD = ("k8s.pod.name", "pod", "hostname")


@dataclass(frozen=True)
class Facts:
    """Frames with a column `bad`: true in the incident's window, false in healthy time.

    spans    start, trace_id, span_id, parent_span_id, service, operation, kind, host, pod, status,
             duration_ns, self_ns, entry (the operation the trace began with), error, party
             ('store' or 'external': whom a client span without a callee asked), unanswered (it
             asked a service and no span of that service's answers), callee (the service a
             span asks), client (it does nothing but wait for its callee)
    logs     ts, service, pod, severity, template_id, template, trace_id, entry
    samples  ts, metric, series, value, service, pod, node; healthy time is all there is
    errors   ts, service, type, group_id, message, release
    """

    window: Stretch
    baselines: tuple[Stretch, ...]
    spans: pl.DataFrame
    logs: pl.DataFrame
    samples: pl.DataFrame
    errors: pl.DataFrame


def within(column: str, stretches: Sequence[Stretch]) -> pl.Expr:
    """Whether a time lies in one of the stretches (start included, end not), by day first, so
    that files of other days are not opened."""
    days = pl.any_horizontal(
        pl.col("date").is_between(start.date(), end.date()) for start, end in stretches
    )
    times = pl.any_horizontal(
        (pl.col(column) >= pl.lit(start)) & (pl.col(column) < pl.lit(end))
        for start, end in stretches
    )
    return days & times


def load(lake: Lake, window: Stretch, baselines: Sequence[Stretch]) -> Facts:
    """The facts of one incident."""
    both = [window, *baselines, *before(window, baselines)]
    spans = spans_of(lake, both).with_columns(_bad("start", window, baselines))
    entries = spans.select("trace_id", "entry").unique("trace_id", keep="any")
    logs = logs_of(lake, both).with_columns(_bad("ts", window, baselines))
    logs = logs.join(entries, on="trace_id", how="left", maintain_order="left")
    texts = lake.scan("templates").select("template_id", "template").collect()
    logs = logs.join(texts, on="template_id", how="left", maintain_order="left")
    samples = samples_of(lake, window).with_columns(_bad("ts", window))
    errors = lake.scan("errors").filter(within("ts", both)).collect()
    errors = errors.with_columns(_bad("ts", window, baselines))
    return Facts(window, tuple(baselines), spans, logs, samples, errors)


def before(window: Stretch, baselines: Sequence[Stretch]) -> list[Stretch]:
    """The minutes just before the window, where healthy time lies elsewhere: what was so already
    then is not the incident's."""
    near = (window[0] - NEAR, window[0])
    apart = all(end <= near[0] or start >= window[1] for start, end in baselines)
    return [near] if apart else []


def _bad(column: str, window: Stretch, baselines: Sequence[Stretch] = ()) -> pl.Expr:
    """True in the window; false in healthy time, or everywhere else where none is given; else null."""
    bad = pl.when(_inside(column, window)).then(pl.lit(value=True))
    if not baselines:
        return bad.otherwise(pl.lit(value=False)).alias("bad")
    healthy = pl.any_horizontal(*(_inside(column, one) for one in baselines))
    return bad.when(healthy).then(pl.lit(value=False)).alias("bad")


def _inside(column: str, stretch: Stretch) -> pl.Expr:
    return (pl.col(column) >= pl.lit(stretch[0])) & (pl.col(column) < pl.lit(stretch[1]))


def spans_of(lake: Lake, stretches: Sequence[Stretch]) -> pl.DataFrame:
    """Spans of some stretches with pod, self-time and entry operation."""
    pod = pl.coalesce(*(pl.col("resource").map.get(key) for key in POD)).alias("pod")
    columns = (
        "start",
        "trace_id",
        "span_id",
        "parent_span_id",
        "service",
        "operation",
        "kind",
        "host",
        "cluster",
        "status",
        "start_ns",
        "duration_ns",
    )
    peer = pl.coalesce(*(pl.col("attributes").map.get(key) for key in PEER)).alias("peer")
    store = pl.coalesce(*(pl.col("attributes").map.get(key) for key in STORE)).alias("store")
    found = lake.scan("spans").filter(within("start", stretches))
    spans = found.select(*columns, pod, peer, store).collect()
    timed = with_entry(with_self_time(spans)).with_columns(error=pl.col("status") == "error")
    return with_party(timed)


def with_party(spans: pl.DataFrame) -> pl.DataFrame:
    """`party` and `unanswered` of client spans that have no span of a callee below them; whether
    a service should have answered is known from the calls of the same operation that were."""
    keys = ["trace_id", "span_id"]
    called = spans.select("trace_id", span_id="parent_span_id", callee="service").drop_nulls()
    called = called.unique(keys, keep="any")
    joined = spans.join(called, on=keys, how="left", maintain_order="left")
    names = spans["service"].unique().implode()
    client = (pl.col("kind") == "client") & pl.col("callee").is_null()
    outside = pl.col("peer").is_not_null() & ~pl.col("peer").is_in(names)
    party = pl.when(client & pl.col("store").is_not_null()).then(pl.lit("store"))
    party = party.when(client & outside).then(pl.lit("external"))
    usually = pl.col("callee").drop_nulls().mode().first().over("service", "operation")
    joined = joined.with_columns(party=party)
    waits = client & pl.col("party").is_null() & (usually != pl.col("service"))
    parents = joined.select("trace_id", parent_span_id="span_id", above="service").unique(
        ["trace_id", "parent_span_id"], keep="any"
    )
    joined = joined.with_columns(
        unanswered=waits.fill_null(value=False), callee=pl.coalesce("callee", usually)
    ).join(parents, on=["trace_id", "parent_span_id"], how="left", maintain_order="left")
    inner = pl.col("kind").is_null() & (pl.col("above") == pl.col("service"))
    asks = pl.col("party").is_null() & (pl.col("callee") != pl.col("service"))
    waiting = asks & ((pl.col("kind") == "client") | inner)
    return joined.with_columns(client=waiting.fill_null(value=False)).drop("peer", "store", "above")


def with_self_time(spans: pl.DataFrame) -> pl.DataFrame:
    """Duration less what the span's children cover of it, their union taken."""
    keys = ["trace_id", "parent_span_id"]
    ends = pl.col("start_ns") + pl.col("duration_ns")
    parents = spans.select("trace_id", parent_span_id="span_id", low="start_ns", high=ends)
    parents = parents.drop_nulls(keys).unique(keys, keep="any")
    children = (
        spans.filter(pl.col("kind").fill_null("") != "consumer")
        .select(*keys, "start_ns", ends.alias("end_ns"))
        .join(parents, on=keys)
        .select(
            *keys,
            pl.max_horizontal("start_ns", "low").alias("from_ns"),
            pl.min_horizontal("end_ns", "high").alias("to_ns"),
        )
        .filter(pl.col("to_ns") > pl.col("from_ns"))
        .sort(*keys, "from_ns")
    )
    before = pl.col("to_ns").cum_max().shift(1).over(keys)
    fresh = (pl.col("to_ns") - pl.max_horizontal("from_ns", before)).clip(lower_bound=0)
    covered = children.group_by(keys).agg(fresh.sum().alias("covered"))
    joined = spans.join(
        covered.rename({"parent_span_id": "span_id"}),
        on=["trace_id", "span_id"],
        how="left",
        maintain_order="left",
    )
    left = pl.col("duration_ns") - pl.col("covered").fill_null(0)
    return joined.with_columns(left.clip(lower_bound=0).alias("self_ns")).drop("covered")


def with_entry(spans: pl.DataFrame) -> pl.DataFrame:
    """What each trace was asked for: its root's operation, or, where the root's service only
    hands on to one other (a gateway), the operation it called there."""
    order = spans.sort(pl.col("parent_span_id").is_not_null(), "start_ns", maintain_order=True)
    root = order.group_by("trace_id", maintain_order=True).agg(
        pl.col("service").first().alias("gate"), pl.col("operation").first().alias("asked")
    )
    gates = spans.join(root, on="trace_id").filter(pl.col("service") == pl.col("gate"))
    gates = gates.select("trace_id", parent_span_id="span_id").unique()
    behind = (
        spans.join(root, on="trace_id")
        .filter(pl.col("service") != pl.col("gate"))
        .join(gates, on=["trace_id", "parent_span_id"], how="semi")
        .sort("start_ns", maintain_order=True)
        .group_by("trace_id", maintain_order=True)
        .agg(
            pl.col("service").n_unique().alias("others"),
            pl.format("{} {}", pl.col("service").first(), pl.col("operation").first()).alias(
                "route"
            ),
        )
        .filter(pl.col("others") == 1)
    )
    entry = root.join(behind, on="trace_id", how="left").select(
        "trace_id", pl.coalesce("route", pl.format("{} {}", "gate", "asked")).alias("entry")
    )
    return spans.join(entry, on="trace_id", how="left", maintain_order="left")


def logs_of(lake: Lake, stretches: Sequence[Stretch]) -> pl.DataFrame:
    columns = ("ts", "service", "pod", "severity", "template_id", "trace_id")
    return lake.scan("logs").filter(within("ts", stretches)).select(columns).collect()


def samples_of(lake: Lake, window: Stretch, reach: timedelta = timedelta(days=1)) -> pl.DataFrame:
    """Samples of a day around the window with the service, pod and node their labels name.

    The quarter hours beside the window are neither bad nor healthy, and are left out.
    """
    start, end = window
    near = timedelta(minutes=15)
    healthy: list[tuple[datetime, datetime]] = [
        (start - reach, start - near),
        (end + near, end + reach),
    ]
    found = (
        lake.scan("samples")
        .filter(within("ts", [window, *healthy]), pl.col("value").is_not_nan())
        .select("ts", "metric", "series", "value")
        .collect()
    )
    labels = lake.scan("series").select(
        "metric",
        "series",
        "type",
        *(
            pl.col("labels").map.get(key).alias(key)
            for key in ("service", "pod", "node", "cluster")
        ),
    )
    return found.join(labels.collect(), on=["metric", "series"], how="left", maintain_order="left")
