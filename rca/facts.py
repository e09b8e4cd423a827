"""The telemetry a diagnosis looks at, read once: the incident's window and healthy time.

Of a busy site whole traces are left out, by the last digits of their ids, so that memory and time
do not grow with it; `Facts.sampled` says of which table how much was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import polars as pl

from lake import Lake
from rca import read
from rca.question import Stretch
from rca.read import apart, count, inside, joined, kept, lines_of, scan, within

NEAR = timedelta(minutes=5)
MINUTE = timedelta(minutes=1)
READ = ("spans", "_lines", "samples", "errors", "_minutes")  # at the same time
KINDS = ("spans", "logs", "samples", "errors")  # in the order in which they are spoken of
MOST = (160_000, 80_000)  # spans that are read of the recent time, and of healthy time
MOST_LINES = (160_000, 80_000)  # log lines of no trace, likewise


@dataclass(frozen=True)
class Facts:
    """Frames with a column `bad`: true in the incident's window, false in healthy time.

    spans    start, trace_id, span_id, parent_span_id, service, operation, kind, host, pod (of a
             sample only in the window), status, duration_ns, self_ns, entry (the operation the
             trace began with), error, party ('store' or 'external': whom a client span without
             a callee asked), unanswered (it asked a service and no span of that service's
             answers), callee (the service a span asks), client (it does nothing but wait for
             its callee), caller (the parent's service), alone (whether the parent is such a
             client), leaf (it has no child), outlived (a child ends after it), gap (ns around the
             call that neither spends), rest (what of it lies behind the call)
    logs     ts, service, pod, severity, template_id, template, trace_id, entry
    samples  ts, metric, series, value, service, pod, node; healthy time is all there is
    errors   ts, service, type, group_id, message, release
    load     requests a minute in the window, times those of healthy time; None where not known
    share    of the traces of the window that were read, by the end of their ids (see `kept`)
    sampled  of which tables only a part was read: table, rows, read, how
    tags     attributes and resource of the window's spans (see `read.TAGS`) where spans are a
             sample; else None, and they are read of whom it matters
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
    tags: pl.DataFrame | None = None

    @property
    def thinned(self) -> bool:
        """Whether a part of the traces is left out."""
        return any(one["table"] == "spans" for one in self.sampled)


class Source:
    """The telemetry of the recent time and of healthy time, read once for several looks at it;
    `near`: the part of the recent time that is looked at first."""

    def __init__(
        self,
        lake: Lake,
        recent: Stretch,
        healthy: Sequence[Stretch],
        near: Stretch | None = None,
    ) -> None:
        self.lake = lake
        healthy = (*healthy, *before(recent, healthy))
        self._parts: tuple[Sequence[Stretch], ...] = ([recent], apart(healthy, recent))
        self._all = [recent, *healthy]
        self._near = near or (recent[1] - MINUTE, recent[1])
        self._read: dict[Stretch, pl.DataFrame] = {}
        self._sampled: dict[str, dict[str, Any]] = {}

    def read(self) -> None:
        """Read all kinds of telemetry, at the same time."""
        assert self._shares  # what two of them need
        with ThreadPoolExecutor() as pool:
            for one in [pool.submit(getattr, self, name) for name in READ]:
                one.result()

    @property
    def sampled(self) -> tuple[dict[str, Any], ...]:
        """Of which tables only a part was read."""
        return tuple(self._sampled[name] for name in KINDS if name in self._sampled)

    def covers(self, stretches: Sequence[Stretch]) -> bool:
        """Whether all of some stretches was read."""
        return all(
            any(low <= start and end <= high for low, high in joined(self._all))
            for start, end in stretches
        )

    @cached_property
    def spans(self) -> pl.DataFrame:
        """Spans with self-time, entry and error; with pod where all of them are read."""
        where = [
            within("start", part) & kept(share)
            for parts, share in zip(self._parts, self._shares, strict=True)
            for part in parts
        ]
        found = read.spans_of(self.lake, where, self._asked if self.thinned else None)
        self._tell(
            "spans", sum(self._counts), found.height, "whole traces, by the end of their ids"
        )
        return found

    @cached_property
    def _counts(self) -> list[int]:
        return [count(self.lake, "spans", "start", part) for part in self._parts]

    @cached_property
    def _shares(self) -> list[float]:
        return [_share(count, most) for count, most in zip(self._counts, MOST, strict=True)]

    @cached_property
    def _asked(self) -> pl.DataFrame:
        """Whom each operation asks, by all that was asked in the last minute. Tags are dear to
        read, so those of the sample are kept from the same scan."""
        told, keep = (self._near[1] - MINUTE, self._near[1]), kept(self._shares[0])
        client = inside("start", [told]) & (pl.col("kind") == "client")
        rows = read.tags_of(self.lake, self._near, keep | client)
        self._read[self._near] = rows.filter(keep)
        return read.asked_of(rows.filter(client))

    @property
    def thinned(self) -> bool:
        """Whether a part of the traces is left out."""
        return min(self._shares) < 1.0

    @cached_property
    def logs(self) -> pl.DataFrame:
        """Lines of the traces that are read, and those of no trace."""
        entries = self.spans.select("trace_id", "entry").unique("trace_id", keep="any")
        found = self._lines.join(entries, on="trace_id", how="left", maintain_order="left")
        texts = self.lake.scan("templates").select("template_id", "template", "intent").collect()
        return found.join(texts, on="template_id", how="left", maintain_order="left")

    @cached_property
    def _lines(self) -> pl.DataFrame:
        counts = [count(self.lake, "logs", "ts", part) for part in self._parts]
        where = [
            within("ts", part) & lines_of(share, _share(count, most))
            for parts, share, count, most in zip(
                self._parts, self._shares, counts, MOST_LINES, strict=True
            )
            for part in parts
        ]
        found = read.logs_of(self.lake, where)
        self._tell(
            "logs", sum(counts), found.height, "the lines of those traces, and a share of others"
        )
        return found

    @cached_property
    def errors(self) -> pl.DataFrame:
        where = [within("ts", part) for parts in self._parts for part in parts]
        return scan(self.lake, "errors", where).collect()

    @cached_property
    def _minutes(self) -> pl.DataFrame:
        where = [within("minute", part) for parts in self._parts for part in parts]
        rows = scan(self.lake, "red", where)
        asked = pl.col("kind").fill_null("server").is_in(["server", "consumer"])
        return rows.filter(asked).group_by("minute").agg(pl.col("calls").sum()).collect()

    @cached_property
    def samples(self) -> pl.DataFrame:
        """Samples of a day around the recent time."""
        found, total = read.samples_of(self.lake, self._all[0])
        self._tell("samples", total, found.height, "healthy time at every so many minutes")
        return found

    def _tags(self, window: Stretch) -> pl.DataFrame:
        """Tags of the sample of a window and more; what was read is not read again."""
        start, end = window
        for low, high in self._read:
            if low <= start < high:
                start = min(high, end)
            if low < end <= high:
                end = max(low, start)
        if start < end:
            self._read[start, end] = read.tags_of(self.lake, (start, end), kept(self._shares[0]))
        return pl.concat(self._read.values())

    def facts(self, window: Stretch, baselines: Sequence[Stretch], *, pods: bool = True) -> Facts:
        """What was read, of one window and its healthy time."""
        self.read()
        both = [window, *baselines, *before(window, baselines)]
        spans = self.spans.filter(inside("start", both))
        spans = spans.with_columns(_bad("start", window, baselines))
        tags = self._tags(window) if self.thinned and pods else None
        if tags is not None:
            spans = spans.drop("pod").join(
                read.pods_of(tags),
                on=["trace_id", "span_id"],
                how="left",
                maintain_order="left",
            )
        logs = self.logs.filter(inside("ts", both)).with_columns(_bad("ts", window, baselines))
        errors = self.errors.filter(inside("ts", both))
        errors = errors.with_columns(_bad("ts", window, baselines))
        around = [window, *_beside(window)]
        samples = self.samples.filter(inside("ts", around)).with_columns(_bad("ts", window))
        return Facts(
            window,
            tuple(baselines),
            spans,
            logs,
            samples,
            errors,
            tags=None if tags is None else tags.filter(inside("start", [window])),
            load=_load(self._minutes, window, baselines),
            share=self._shares[0],
            sampled=self.sampled,
        )

    def _tell(self, table: str, rows: int, read: int, how: str) -> None:
        if read < rows:
            self._sampled[table] = {"table": table, "rows": rows, "read": read, "how": how}


def load(
    source: Lake | Source, window: Stretch, baselines: Sequence[Stretch], *, pods: bool = True
) -> Facts:
    """The facts of one incident: of what a source has read already, or read for it."""
    if isinstance(source, Lake):
        source = Source(source, window, baselines)
    elif not source.covers([window, *baselines]):
        source = Source(source.lake, window, baselines)
    return source.facts(window, baselines, pods=pods)


def _share(count: int, most: int) -> float:
    return 1.0 if count <= most else most / count


def before(window: Stretch, baselines: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """The minutes just before the window, where healthy time lies elsewhere: what was so already
    then is not the incident's."""
    near = (window[0] - NEAR, window[0])
    apart = all(end <= near[0] or start >= window[1] for start, end in baselines)
    return (near,) if apart else ()


def _bad(column: str, window: Stretch, baselines: Sequence[Stretch] = ()) -> pl.Expr:
    """True in the window; false in healthy time (or elsewhere where none is given); else null."""
    bad = pl.when(inside(column, [window])).then(pl.lit(value=True))
    if not baselines:
        return bad.otherwise(pl.lit(value=False)).alias("bad")
    return bad.when(inside(column, baselines)).then(pl.lit(value=False)).alias("bad")


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


def _beside(window: Stretch, reach: timedelta = timedelta(days=1)) -> list[Stretch]:
    """The healthy time of metrics: a day around a window, without the quarter hours beside it."""
    near = timedelta(minutes=15)
    return [(window[0] - reach, window[0] - near), (window[1] + near, window[1] + reach)]
