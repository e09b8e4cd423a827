"""The faults that recorded spans came with, before and after the repair.

    python -m bench.natural

doubled           rows beyond the first of a trace and span id
without a parent  rows whose parent is not there
before its parent children that start before their parent, on another host or service
after its parent  those that end after it, and are no consumers
beyond doubt      of both, those beyond the clocks' stated error and the sources' resolution
"""

from __future__ import annotations

import polars as pl

from bench import sources
from quality import frame, spans
from quality.rules.time_unit import resolution

RECORDED = ("hotel-load50", "hotel-load150", "train-ticket")


def counts(rows: pl.DataFrame) -> dict[str, int]:
    """What is wrong with rows of the working frame."""
    known = rows.filter(pl.col("trace_id").is_not_null(), pl.col("span_id").is_not_null())
    doubled = known.height - known.select("trace_id", "span_id").n_unique()
    linked = known.filter(pl.col("parent_span_id").is_not_null())
    up = known.unique(["trace_id", "span_id"]).select(
        "trace_id", parent_span_id="span_id", service_above="service",
        host_above="host", began="start_ns", length="duration_ns",
        doubt=pl.col("clock_error_ns") + resolution(pl.col("start_ns")),
    )  # fmt: skip
    both = linked.join(up, on=["trace_id", "parent_span_id"], how="left")
    orphans = both["began"].null_count()
    pairs = both.drop_nulls("began").filter(
        pl.col("host").ne_missing(pl.col("host_above"))
        | pl.col("service").ne_missing(pl.col("service_above"))
    )
    room = pl.col("doubt") + pl.col("clock_error_ns") + resolution(pl.col("start_ns"))
    early = pl.col("began") - pl.col("start_ns")
    late = pl.col("start_ns") + pl.col("duration_ns") - pl.col("began") - pl.col("length")
    waited = ~pl.col("kind").fill_null("").is_in(["consumer", "producer"])
    return {
        "rows": rows.height,
        "doubled": doubled,
        "without a parent": orphans,
        "before its parent": pairs.filter(early > 0).height,
        "after its parent": pairs.filter(waited, late > 0).height,
        "before, beyond doubt": pairs.filter(early > room).height,
        "after, beyond doubt": pairs.filter(waited, late > 2 * room).height,
        "end before start": rows.filter(pl.col("duration_ns") < 0).height,
    }


def main() -> None:
    """Print the table."""
    print("| source | | " + " | ".join(counts(frame.narrow(sources.raw("sample").head(0)))) + " |")
    for name in RECORDED:
        before = frame.narrow(sources.raw(name))
        found = spans.repair(before)
        for when, rows in (("before", before), ("after", found.spans)):
            print(
                f"| {name} | {when} | " + " | ".join(f"{n:,}" for n in counts(rows).values()) + " |"
            )
        changed = found.audit.group_by("rule", "column_name").len().sort("rule", "column_name")
        print(changed.rows(), found.clock_audit.group_by("rule").agg(pl.len(), pl.col("row_count").sum()).rows())  # fmt: skip
        faults = found.spans.explode("faults").drop_nulls("faults")["faults"]
        print("marked", faults.value_counts().rows())


if __name__ == "__main__":
    main()
