"""What is read of the lake's telemetry: rows of some time, of a share of the traces, and no more
columns than are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from lake import Lake
from rca.question import Stretch
from rca.related import related

PEER = ("server.address", "peer.service", "net.peer.name")
STORE = ("db.system", "db.system.name")
POD = ("k8s.pod.name", "pod", "hostname")
TAGS = (
    *("start", "trace_id", "span_id", "parent_span_id", "service", "operation", "kind"),
    *("cluster", "host", "attributes", "resource"),
)
MOST_SAMPLES = 2_000_000
_DIGITS = 4  # of a trace id's end, that decide: W3C Trace Context has the last 56 bits random, and
_ALL = 16**_DIGITS  # samplers upstream (OpenTelemetry's) decide by the first of these


def within(column: str, stretch: Stretch) -> pl.Expr:
    """Whether a time lies in a stretch (start included, end not), by day first, so that files of
    other days are not opened."""
    days = pl.col("date").is_between(stretch[0].date(), stretch[1].date())
    return days & inside(column, [stretch])


def scan(lake: Lake, table: str, where: Sequence[pl.Expr]) -> pl.LazyFrame:
    """The rows of a table that fit one of some conditions of which no two hold of one row. Each is
    a scan of its own, for a scan by alternatives opens every file."""
    return pl.concat([lake.scan(table).filter(one) for one in where])


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


def count(lake: Lake, table: str, column: str, stretches: Sequence[Stretch]) -> int:
    if not stretches:
        return 0
    rows = scan(lake, table, [within(column, one) for one in stretches])
    return int(rows.select(pl.len()).collect().item())


def joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    """The stretches with those that touch made one."""
    out = list[Stretch]()
    for start, end in sorted(stretches):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def apart(stretches: Sequence[Stretch], other: Stretch) -> list[Stretch]:
    """The stretches, joined where they touch, without what lies in another one."""
    out = list[Stretch]()
    for start, end in joined(stretches):
        out += [
            one
            for one in ((start, min(end, other[0])), (max(start, other[1]), end))
            if one[0] < one[1]
        ]
    return out


def inside(column: str, stretches: Sequence[Stretch]) -> pl.Expr:
    return pl.any_horizontal(
        (pl.col(column) >= pl.lit(start)) & (pl.col(column) < pl.lit(end))
        for start, end in stretches
    )


def spans_of(
    lake: Lake, where: Sequence[pl.Expr], asked: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Spans that fit one of some conditions, with self-time, entry operation, pod and party.

    Tags are dear to read: with `asked` (see `asked_of`), pods are left out, and whom a span asks is
    what most of its operation do.
    """
    columns = (
        *("start", "trace_id", "span_id", "parent_span_id", "service", "operation", "kind"),
        *("host", "cluster", "status", "start_ns", "duration_ns"),
    )
    rows = scan(lake, "spans", where)
    if asked is None:
        found = rows.select(*columns, _pod(), *_asked()).collect()
    else:
        found = rows.select(*columns, pl.lit(None, pl.String).alias("pod")).collect()
        found = found.join(asked, on=["service", "operation"], how="left", maintain_order="left")
    return related(found.with_columns(error=pl.col("status") == "error"))


def _asked() -> list[pl.Expr]:
    """Whom a span asked by its tags: `peer` and `store`."""
    names = (("peer", PEER), ("store", STORE))
    tags = pl.col("attributes").map
    return [pl.coalesce(*(tags.get(key) for key in keys)).alias(name) for name, keys in names]


def asked_of(tags: pl.DataFrame) -> pl.DataFrame:
    """(service, operation, peer, store): whom most of some client spans of each operation ask."""
    found = tags.select("service", "operation", *_asked())
    most = [pl.col(name).drop_nulls().mode().sort().first() for name in ("peer", "store")]
    return found.group_by("service", "operation").agg(most)


def _pod() -> pl.Expr:
    return pl.coalesce(*(pl.col("resource").map.get(key) for key in POD)).alias("pod")


def tags_of(lake: Lake, window: Stretch, keep: pl.Expr) -> pl.DataFrame:
    """TAGS of the spans of a window that fit a condition."""
    return lake.scan("spans").filter(within("start", window), keep).select(TAGS).collect()


def pods_of(tags: pl.DataFrame) -> pl.DataFrame:
    """(trace_id, span_id, pod) of some spans."""
    pods = tags.select("trace_id", "span_id", _pod())
    return pods.unique(["trace_id", "span_id"], keep="first")


def logs_of(lake: Lake, where: Sequence[pl.Expr]) -> pl.DataFrame:
    """Log lines that fit one of some conditions."""
    columns = ("ts", "service", "pod", "severity", "template_id", "trace_id")
    return scan(lake, "logs", where).select(columns).collect()


def lines_of(traces: float, others: float) -> pl.Expr:
    """Lines of a share of the traces, and a share of the lines of none, by a multiplicative hash
    of their microsecond (Knuth, TAOCP 6.4)."""
    if traces >= 1.0 and others >= 1.0:
        return pl.lit(value=True)
    spread = (pl.col("ts").dt.epoch("us") % (1 << 31)) * 2_654_435_761 % (1 << 32)
    few = spread < int(others * (1 << 32)) if others < 1.0 else pl.lit(value=True)
    return pl.when(pl.col("trace_id").is_null()).then(few).otherwise(kept(traces))


def samples_of(lake: Lake, window: Stretch) -> tuple[pl.DataFrame, int]:
    """Samples of a day around a window with the service, pod and node their labels name, and how
    many there are; of more than MOST_SAMPLES those of every so many minutes, and all of the
    window's."""
    day = timedelta(days=1)
    wanted = (window[0] - day, window[1] + day)
    total = count(lake, "samples", "ts", [wanted])
    every = -(-total // MOST_SAMPLES)
    rows = lake.scan("samples").filter(within("ts", wanted), pl.col("value").is_not_nan())
    if every > 1:
        minute = pl.col("ts").dt.epoch("s") // 60
        rows = rows.filter((minute % every == 0) | inside("ts", [window]))
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
