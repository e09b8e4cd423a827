"""`red` and `edges`, derived from `spans` a day at a time."""

from __future__ import annotations

import polars as pl

from lake import TABLES

GAMMA = 1.02  # ratio of neighbouring buckets of a sketch: quantiles are right within 1 %
QUANTILES = (50, 90, 95, 99)
PLACE = ["cluster", "namespace", "environment"]


def self_time(spans: pl.DataFrame) -> pl.DataFrame:
    """`spans` with `self_ns`: the duration less the time its children cover (their union, inside
    the span); what a consumer does afterwards is not subtracted."""
    ends = pl.col("start_ns") + pl.col("duration_ns")
    parent = spans.select(
        "trace_id", parent_span_id="span_id", from_ns="start_ns", to_ns=ends
    ).drop_nulls(["trace_id", "parent_span_id"])
    parent = parent.unique(["trace_id", "parent_span_id"], keep="any")
    keys = ["trace_id", "parent_span_id"]
    children = (
        spans.filter(
            pl.col("parent_span_id").is_not_null(), pl.col("kind").fill_null("") != "consumer"
        )
        .select("trace_id", "parent_span_id", "start_ns", ends.alias("end_ns"))
        .join(parent, on=keys)
        .select(
            *keys,
            pl.max_horizontal("start_ns", "from_ns").alias("low"),
            pl.min_horizontal("end_ns", "to_ns").alias("high"),
        )
        .filter(pl.col("high") > pl.col("low"))
        .sort(*keys, "low")
    )
    before = pl.col("high").cum_max().shift(1).over(keys)
    fresh = pl.col("high") - pl.max_horizontal("low", before)
    covered = children.group_by(keys).agg(fresh.clip(lower_bound=0).sum().alias("covered"))
    joined = spans.join(
        covered.rename({"parent_span_id": "span_id"}),
        on=["trace_id", "span_id"],
        how="left",
        maintain_order="left",
    )
    left = pl.col("duration_ns") - pl.col("covered").fill_null(0)
    return joined.with_columns(left.clip(lower_bound=0).alias("self_ns")).drop("covered")


def red(spans: pl.DataFrame) -> pl.DataFrame:
    """Rows of `red`: calls, errors and durations per minute, service, operation and kind."""
    keys = ["date", "minute", "service", "operation", "kind", *PLACE]
    timed = self_time(spans).with_columns(pl.col("start").dt.truncate("1m").alias("minute"))
    rows = timed.group_by(keys).agg(
        pl.col("weight").sum().alias("calls"),
        _errors(),
        *_quantiles("duration_ns", "duration"),
        *_quantiles("self_ns", "self"),
    )
    sketched = _sketches(timed, keys)
    joined = rows.join(sketched, on=keys, how="left", nulls_equal=True)
    return joined.select(TABLES["red"].schema.names)


def edges(spans: pl.DataFrame) -> pl.DataFrame:
    """Rows of `edges`: calls between services per minute, as the caller saw them."""
    caller = spans.select(
        "trace_id",
        parent_span_id="span_id",
        caller="service",
        kind_of_caller="kind",
        seen=pl.col("duration_ns"),
    ).unique(["trace_id", "parent_span_id"], keep="any")
    calls = spans.join(caller, on=["trace_id", "parent_span_id"]).filter(
        pl.col("service") != pl.col("caller")
    )
    took = pl.when(pl.col("kind_of_caller") == "client").then("seen").otherwise("duration_ns")
    calls = calls.with_columns(
        took.alias("duration_ns"),
        pl.col("start").dt.truncate("1m").alias("minute"),
        callee="service",
    )
    keys = ["date", "minute", "caller", "callee", *PLACE]
    rows = calls.group_by(keys).agg(
        pl.col("weight").sum().alias("calls"), _errors(), *_quantiles("duration_ns", "duration")
    )
    return rows.select(TABLES["edges"].schema.names)


def _errors() -> pl.Expr:
    return pl.col("weight").filter(pl.col("status") == "error").sum().alias("errors")


def _quantiles(column: str, name: str) -> list[pl.Expr]:
    return [
        pl.col(column).quantile(q / 100, "nearest").cast(pl.Int64).alias(f"{name}_p{q}_ns")
        for q in QUANTILES
    ]


def _sketches(timed: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """A mergeable sketch of durations per group: text `bucket:count,…` as bytes, where bucket b
    holds durations d with ceil(log(d) / log(γ)) = b, γ = 1.02 (DDSketch, VLDB 2019); add the
    counts of equal buckets to merge two."""
    bucket = pl.col("duration_ns").clip(lower_bound=1).cast(pl.Float64).log(GAMMA).ceil()
    counted = (
        timed.with_columns(bucket.cast(pl.Int32).alias("bucket")).group_by([*keys, "bucket"]).len()
    )
    pair = pl.format("{}:{}", "bucket", "len")
    texts = counted.sort("bucket").group_by(keys, maintain_order=True).agg(pair.str.join(","))
    name = texts.columns[-1]
    return texts.with_columns(pl.col(name).cast(pl.Binary).alias("sketch")).select(*keys, "sketch")
