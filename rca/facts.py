"""The telemetry a diagnosis looks at, read once: the incident's window and healthy time.

Of a busy site whole traces are left out, by the last digits of their ids, so that memory and time
do not grow with it; `Facts.sampled` says of which table how much was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import polars as pl

from lake import Lake
from rca.question import Stretch

POD = ("k8s.pod.name", "pod", "hostname")
MOST = 300_000  # spans that are read of the recent time, and as many of the healthy time before
MOST_LINES = 300_000  # log lines, of each likewise
MOST_SAMPLES = 2_000_000
_DIGITS = 4  # of a trace id's end, that decide: W3C Trace Context has the last 56 bits random, and
_ALL = 16**_DIGITS  # samplers upstream (OpenTelemetry's) decide by the first of these


@dataclass(frozen=True)
class Facts:
    """Frames with a column `bad`: true in the incident's window, false in healthy time.

    spans    start, trace_id, span_id, parent_span_id, service, operation, kind, host, pod (of a
             sample only in the window), status, duration_ns, self_ns, entry (the operation the
             trace began with), error
    logs     ts, service, pod, severity, template_id, template, trace_id, entry
    samples  ts, metric, series, value, service, pod, node; healthy time is all there is
    errors   ts, service, type, group_id, message, release
    load     requests a minute in the window, times those of healthy time; None where not known
    sampled  of which tables only a part was read: table, rows, read, how
    """

    window: Stretch
    baselines: tuple[Stretch, ...]
    spans: pl.DataFrame
    logs: pl.DataFrame
    samples: pl.DataFrame
    errors: pl.DataFrame
    load: float | None = None
    sampled: tuple[dict[str, Any], ...] = ()


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


class Source:
    """The telemetry of the recent time and of healthy time, read once for several looks at it."""

    def __init__(self, lake: Lake, recent: Stretch, healthy: Sequence[Stretch]) -> None:
        self.lake = lake
        self._parts = ((recent,), tuple(healthy))
        self._all = [recent, *healthy]
        self._shares = [1.0, 1.0]
        self.sampled: list[dict[str, Any]] = []

    def covers(self, stretches: Sequence[Stretch]) -> bool:
        """Whether all of some stretches was read."""
        return all(
            any(low <= start and end <= high for low, high in _joined(self._all))
            for start, end in stretches
        )

    @cached_property
    def spans(self) -> pl.DataFrame:
        """Spans with self-time, entry and error; with pod where all of them are read."""
        counts = [_count(self.lake, "spans", "start", part) for part in self._parts]
        self._shares = [_share(count, MOST) for count in counts]
        where = pl.any_horizontal(
            within("start", part) & kept(share)
            for part, share in zip(self._parts, self._shares, strict=True)
            if part
        )
        found = spans_of(self.lake, where, pods=not self.thinned)
        self._tell("spans", sum(counts), found.height, "whole traces, by the end of their ids")
        return found

    @property
    def thinned(self) -> bool:
        """Whether a part of the traces is left out."""
        return min(self._shares) < 1.0

    @cached_property
    def logs(self) -> pl.DataFrame:
        """Lines of the traces that are read, and those of no trace."""
        entries = self.spans.select("trace_id", "entry").unique("trace_id", keep="any")
        counts = [_count(self.lake, "logs", "ts", part) for part in self._parts]
        where = pl.any_horizontal(
            within("ts", part) & _lines(share, _share(count, MOST_LINES))
            for part, share, count in zip(self._parts, self._shares, counts, strict=True)
            if part
        )
        found = logs_of(self.lake, where)
        self._tell(
            "logs", sum(counts), found.height, "the lines of those traces, and a share of others"
        )
        found = found.join(entries, on="trace_id", how="left", maintain_order="left")
        texts = self.lake.scan("templates").select("template_id", "template").collect()
        return found.join(texts, on="template_id", how="left", maintain_order="left")

    @cached_property
    def errors(self) -> pl.DataFrame:
        return self.lake.scan("errors").filter(within("ts", self._all)).collect()

    @cached_property
    def _minutes(self) -> pl.DataFrame:
        rows = self.lake.scan("red").filter(within("minute", self._all))
        asked = pl.col("kind").fill_null("server").is_in(["server", "consumer"])
        return rows.filter(asked).group_by("minute").agg(pl.col("calls").sum()).collect()

    def samples(self, window: Stretch) -> pl.DataFrame:
        """Samples of a day around a window."""
        found, total = samples_of(self.lake, window)
        if found.height < total:
            self._tell("samples", total, found.height, "healthy time at every so many instants")
        return found

    def facts(self, window: Stretch, baselines: Sequence[Stretch]) -> Facts:
        """What was read, of one window and its healthy time."""
        both = [window, *baselines]
        spans = self.spans.filter(_inside("start", both)).with_columns(_bad("start", window))
        if self.thinned:
            spans = with_pods(self.lake, spans, window, kept(self._shares[0]))
        logs = self.logs.filter(_inside("ts", both)).with_columns(_bad("ts", window))
        errors = self.errors.filter(_inside("ts", both)).with_columns(_bad("ts", window))
        samples = self.samples(window).with_columns(_bad("ts", window))
        load = _load(self._minutes, window, baselines)
        told = tuple({one["table"]: one for one in self.sampled}.values())
        return Facts(window, tuple(baselines), spans, logs, samples, errors, load, told)

    def _tell(self, table: str, rows: int, read: int, how: str) -> None:
        if read < rows:
            self.sampled.append({"table": table, "rows": rows, "read": read, "how": how})


def load(source: Lake | Source, window: Stretch, baselines: Sequence[Stretch]) -> Facts:
    """The facts of one incident: of what a source has read already, or read for it."""
    if isinstance(source, Lake):
        source = Source(source, window, baselines)
    elif not source.covers([window, *baselines]):
        source = Source(source.lake, window, baselines)
    return source.facts(window, baselines)


def kept(share: float) -> pl.Expr:
    """Whether a trace is read, when so much of them is: by the last digits of its id, so that the
    same traces are read each time, and of a larger share all of a smaller one."""
    if share >= 1.0:
        return pl.lit(value=True)
    bound = f"{max(int(share * _ALL), 1):0{_DIGITS}x}"
    return pl.col("trace_id").str.tail(_DIGITS) < bound


def _share(count: int, most: int) -> float:
    return 1.0 if count <= most else most / count


def _count(lake: Lake, table: str, column: str, stretches: Sequence[Stretch]) -> int:
    if not stretches:
        return 0
    rows = lake.scan(table).filter(within(column, stretches)).select(pl.len())
    return int(rows.collect().item())


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    """The stretches with those that touch made one."""
    out = list[Stretch]()
    for start, end in sorted(stretches):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _inside(column: str, stretches: Sequence[Stretch]) -> pl.Expr:
    return pl.any_horizontal(
        (pl.col(column) >= pl.lit(start)) & (pl.col(column) < pl.lit(end))
        for start, end in stretches
    )


def _bad(column: str, window: Stretch) -> pl.Expr:
    return _inside(column, [window]).alias("bad")


def _load(minutes: pl.DataFrame, window: Stretch, baselines: Sequence[Stretch]) -> float | None:
    """Requests per whole minute in the window over those of healthy time."""
    minute = timedelta(minutes=1)
    now, before = (
        minutes.filter(
            pl.any_horizontal(
                (pl.col("minute") >= pl.lit(start)) & (pl.col("minute") + minute <= pl.lit(end))
                for start, end in stretches
            )
        )["calls"].mean()
        if stretches
        else None
        for stretches in ([window], list(baselines))
    )
    return float(now) / float(before) if now and before else None  # type: ignore[arg-type]


def spans_of(lake: Lake, where: pl.Expr, *, pods: bool = True) -> pl.DataFrame:
    """Spans that fit a condition, with self-time and entry operation, and with their pods."""
    columns = (
        *("start", "trace_id", "span_id", "parent_span_id", "service", "operation", "kind"),
        *("host", "cluster", "status", "start_ns", "duration_ns"),
    )
    pod = _pod() if pods else pl.lit(None, pl.String).alias("pod")
    found = lake.scan("spans").filter(where).select(*columns, pod).collect()
    return with_entry(with_self_time(found)).with_columns(error=pl.col("status") == "error")


def _pod() -> pl.Expr:
    return pl.coalesce(*(pl.col("resource").map.get(key) for key in POD)).alias("pod")


def with_pods(lake: Lake, spans: pl.DataFrame, window: Stretch, keep: pl.Expr) -> pl.DataFrame:
    """`spans` with the pods of those in the window."""
    rows = lake.scan("spans").filter(within("start", [window]), keep)
    pods = rows.select("trace_id", "span_id", _pod()).collect()
    pods = pods.unique(["trace_id", "span_id"], keep="any")
    return spans.drop("pod").join(
        pods, on=["trace_id", "span_id"], how="left", maintain_order="left"
    )


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


def logs_of(lake: Lake, where: pl.Expr) -> pl.DataFrame:
    """Log lines that fit a condition."""
    columns = ("ts", "service", "pod", "severity", "template_id", "trace_id")
    return lake.scan("logs").filter(where).select(columns).collect()


def _lines(traces: float, others: float) -> pl.Expr:
    """Lines of a share of the traces, and a share of the lines of none, by a multiplicative hash
    of their microsecond (Knuth, TAOCP 6.4)."""
    if traces >= 1.0 and others >= 1.0:
        return pl.lit(value=True)
    spread = (pl.col("ts").dt.epoch("us") % (1 << 31)) * 2_654_435_761 % (1 << 32)
    few = spread < int(others * (1 << 32)) if others < 1.0 else pl.lit(value=True)
    return pl.when(pl.col("trace_id").is_null()).then(few).otherwise(kept(traces))


def samples_of(
    lake: Lake, window: Stretch, reach: timedelta = timedelta(days=1)
) -> tuple[pl.DataFrame, int]:
    """Samples of a day around the window with the service, pod and node their labels name, and how
    many there are; of more than MOST_SAMPLES healthy ones those of every so many minutes.

    The quarter hours beside the window are neither bad nor healthy, and are left out.
    """
    start, end = window
    near = timedelta(minutes=15)
    healthy: list[tuple[datetime, datetime]] = [
        (start - reach, start - near),
        (end + near, end + reach),
    ]
    wanted = within("ts", [window, *healthy])
    rows = lake.scan("samples").filter(wanted, pl.col("value").is_not_nan())
    total = _count(lake, "samples", "ts", [window, *healthy])
    every = -(-total // MOST_SAMPLES)
    if every > 1:
        minute = pl.col("ts").dt.epoch("s") // 60
        rows = rows.filter((minute % every == 0) | _inside("ts", [window]))
    found = rows.select("ts", "metric", "series", "value").collect()
    labels = lake.scan("series").select(
        "metric",
        "series",
        "type",
        *(
            pl.col("labels").map.get(key).alias(key)
            for key in ("service", "pod", "node", "cluster")
        ),
    )
    joined = found.join(
        labels.collect(), on=["metric", "series"], how="left", maintain_order="left"
    )
    return joined, total if every > 1 else found.height
