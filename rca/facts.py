"""The telemetry a diagnosis looks at, read once: the incident's window and healthy time.

Of a busy site whole traces are left out, by the last digits of their ids, so that memory and time
do not grow with it; `Facts.sampled` says of which table how much was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import polars as pl

from lake import Lake
from rca.question import Stretch
from rca.related import related

NEAR = timedelta(minutes=5)
MINUTE = timedelta(minutes=1)
PEER = ("server.address", "peer.service", "net.peer.name")
STORE = ("db.system", "db.system.name")
POD = ("k8s.pod.name", "pod", "hostname")
MOST = (240_000, 120_000)  # spans that are read of the recent time, and of healthy time
MOST_LINES = (240_000, 120_000)  # log lines of no trace, likewise
MOST_SAMPLES = 2_000_000
_DIGITS = 4  # of a trace id's end, that decide: W3C Trace Context has the last 56 bits random, and
_ALL = 16**_DIGITS  # samplers upstream (OpenTelemetry's) decide by the first of these


@dataclass(frozen=True)
class Facts:
    """Frames with a column `bad`: true in the incident's window, false in healthy time.

    spans    start, trace_id, span_id, parent_span_id, service, operation, kind, host, pod (of a
             sample only in the window), status, duration_ns, self_ns, entry (the operation the
             trace began with), error, party ('store' or 'external': whom a client span without
             a callee asked), unanswered (it asked a service and no span of that service's
             answers), callee (the service a span asks), client (it does nothing but wait for
             its callee), caller (the parent's service), alone (whether the parent is such a
             client), gap (ns around the call that neither spends)
    logs     ts, service, pod, severity, template_id, template, trace_id, entry
    samples  ts, metric, series, value, service, pod, node; healthy time is all there is
    errors   ts, service, type, group_id, message, release
    load     requests a minute in the window, times those of healthy time; None where not known
    share    of the traces of the window that were read, by the end of their ids (see `kept`)
    sampled  of which tables only a part was read: table, rows, read, how
    """

    window: Stretch
    baselines: tuple[Stretch, ...]
    spans: pl.DataFrame
    logs: pl.DataFrame
    samples: pl.DataFrame
    errors: pl.DataFrame
    load: float | None = None
    share: float = 1.0
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
        healthy = (*healthy, *before(recent, healthy))
        self._parts = ((recent,), healthy)
        self._all = [recent, *healthy]
        self._shares = [1.0, 1.0]
        self._read: dict[Stretch, pl.DataFrame] = {}
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
        self._shares = [_share(count, most) for count, most in zip(counts, MOST, strict=True)]
        where = pl.any_horizontal(
            within("start", part) & kept(share)
            for part, share in zip(self._parts, self._shares, strict=True)
            if part
        )
        end = self._all[0][1]
        found = spans_of(self.lake, where, (end - MINUTE, end) if self.thinned else None)
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
            within("ts", part) & _lines(share, _share(count, most))
            for part, share, count, most in zip(
                self._parts, self._shares, counts, MOST_LINES, strict=True
            )
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

    @cached_property
    def samples(self) -> pl.DataFrame:
        """Samples of a day around the recent time."""
        found, total = samples_of(self.lake, self._all[0])
        self._tell("samples", total, found.height, "healthy time at every so many minutes")
        return found

    def _pods(self, window: Stretch) -> pl.DataFrame:
        """(trace_id, span_id, pod) of a window's spans; what was read is not read again."""
        start, end = window
        for low, high in self._read:
            if low <= start < high:
                start = min(high, end)
            if low < end <= high:
                end = max(low, start)
        if start < end:
            self._read[start, end] = pods_of(self.lake, (start, end), kept(self._shares[0]))
        return pl.concat(self._read.values())

    def facts(self, window: Stretch, baselines: Sequence[Stretch], *, pods: bool = True) -> Facts:
        """What was read, of one window and its healthy time."""
        both = [window, *baselines, *before(window, baselines)]
        spans = self.spans.filter(_inside("start", both))
        spans = spans.with_columns(_bad("start", window, baselines))
        if self.thinned and pods:
            spans = spans.drop("pod").join(
                self._pods(window), on=["trace_id", "span_id"], how="left", maintain_order="left"
            )
        logs = self.logs.filter(_inside("ts", both)).with_columns(_bad("ts", window, baselines))
        errors = self.errors.filter(_inside("ts", both))
        errors = errors.with_columns(_bad("ts", window, baselines))
        around = [window, *_beside(window)]
        samples = self.samples.filter(_inside("ts", around)).with_columns(_bad("ts", window))
        return Facts(
            window,
            tuple(baselines),
            spans,
            logs,
            samples,
            errors,
            load=_load(self._minutes, window, baselines),
            share=self._shares[0],
            sampled=tuple({one["table"]: one for one in self.sampled}.values()),
        )

    def _tell(self, table: str, rows: int, read: int, how: str) -> None:
        if read < rows:
            self.sampled.append({"table": table, "rows": rows, "read": read, "how": how})


def load(
    source: Lake | Source, window: Stretch, baselines: Sequence[Stretch], *, pods: bool = True
) -> Facts:
    """The facts of one incident: of what a source has read already, or read for it."""
    if isinstance(source, Lake):
        source = Source(source, window, baselines)
    elif not source.covers([window, *baselines]):
        source = Source(source.lake, window, baselines)
    return source.facts(window, baselines, pods=pods)


def kept(share: float) -> pl.Expr:
    """Whether a trace is read, when so much of them is: by the last digits of its id, so that the
    same traces are read each time, and of a larger share all of a smaller one."""
    if share >= 1.0:
        return pl.lit(value=True)
    bound = f"{max(int(share * _ALL), 1):0{_DIGITS}x}"
    return pl.col("trace_id").str.tail(_DIGITS) < bound


def newest(lake: Lake, table: str, column: str) -> datetime | None:
    """The newest time in an event table, by the statistics of its last day's files where they
    have them; None for an empty table."""
    days = lake.days(table)
    if not days:
        return None
    last = lake.scan(table).filter(pl.col("date") == days[-1])
    files = pl.DataFrame(lake.open(table).get_add_actions(flatten=True))
    mine = files.filter(pl.col("partition.date") == days[-1])
    known = f"max.{column}" in files.columns and not mine[f"max.{column}"].null_count()
    found = (
        mine[f"max.{column}"].max() if known else last.select(pl.col(column).max()).collect().item()
    )
    return found.replace(tzinfo=UTC) if isinstance(found, datetime) else None


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


def before(window: Stretch, baselines: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """The minutes just before the window, where healthy time lies elsewhere: what was so already
    then is not the incident's."""
    near = (window[0] - NEAR, window[0])
    apart = all(end <= near[0] or start >= window[1] for start, end in baselines)
    return (near,) if apart else ()


def _bad(column: str, window: Stretch, baselines: Sequence[Stretch] = ()) -> pl.Expr:
    """True in the window; false in healthy time, or everywhere else where none is given; else null."""
    bad = pl.when(_inside(column, [window])).then(pl.lit(value=True))
    if not baselines:
        return bad.otherwise(pl.lit(value=False)).alias("bad")
    return bad.when(_inside(column, baselines)).then(pl.lit(value=False)).alias("bad")


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


def spans_of(lake: Lake, where: pl.Expr, told: Stretch | None = None) -> pl.DataFrame:
    """Spans that fit a condition, with self-time, entry operation, pod and party.

    Tags are dear to read: with `told`, pods are left out, and whom an operation asks is what its
    spans of that stretch say.
    """
    columns = (
        *("start", "trace_id", "span_id", "parent_span_id", "service", "operation", "kind"),
        *("host", "cluster", "status", "start_ns", "duration_ns"),
    )
    rows = lake.scan("spans").filter(where)
    if told is None:
        found = rows.select(*columns, _pod(), *_asked()).collect()
    else:
        found = rows.select(*columns, pl.lit(None, pl.String).alias("pod")).collect()
        found = found.join(
            asked_of(lake, told), on=["service", "operation"], how="left", maintain_order="left"
        )
    return related(found.with_columns(error=pl.col("status") == "error"))


def _asked() -> list[pl.Expr]:
    """Whom a span asked by its tags: `peer` and `store`."""
    names = (("peer", PEER), ("store", STORE))
    tags = pl.col("attributes").map
    return [pl.coalesce(*(tags.get(key) for key in keys)).alias(name) for name, keys in names]


def asked_of(lake: Lake, stretch: Stretch) -> pl.DataFrame:
    """(service, operation, peer, store): whom most client spans of each operation ask."""
    rows = lake.scan("spans").filter(within("start", [stretch]), pl.col("kind") == "client")
    found = rows.select("service", "operation", *_asked()).collect()
    most = [pl.col(name).drop_nulls().mode().sort().first() for name in ("peer", "store")]
    return found.group_by("service", "operation").agg(most)


def _pod() -> pl.Expr:
    return pl.coalesce(*(pl.col("resource").map.get(key) for key in POD)).alias("pod")


def pods_of(lake: Lake, window: Stretch, keep: pl.Expr) -> pl.DataFrame:
    """(trace_id, span_id, pod) of the spans of a window that fit a condition."""
    rows = lake.scan("spans").filter(within("start", [window]), keep)
    pods = rows.select("trace_id", "span_id", _pod()).collect()
    return pods.unique(["trace_id", "span_id"], keep="any")


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


def _beside(window: Stretch, reach: timedelta = timedelta(days=1)) -> list[Stretch]:
    """The healthy time of metrics: a day around a window, without the quarter hours beside it."""
    near = timedelta(minutes=15)
    return [(window[0] - reach, window[0] - near), (window[1] + near, window[1] + reach)]


def samples_of(lake: Lake, window: Stretch) -> tuple[pl.DataFrame, int]:
    """Samples of a day around a window with the service, pod and node their labels name, and how
    many there are; of more than MOST_SAMPLES those of every so many minutes, and all of the
    window's."""
    day = timedelta(days=1)
    wanted = [(window[0] - day, window[1] + day)]
    total = _count(lake, "samples", "ts", wanted)
    every = -(-total // MOST_SAMPLES)
    rows = lake.scan("samples").filter(within("ts", wanted), pl.col("value").is_not_nan())
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
    keys = ["metric", "series"]
    joined = found.join(labels.collect(), on=keys, how="left", maintain_order="left")
    return joined, total if every > 1 else found.height
