"""The rules of a repair by hand in PySpark, local, for `bench.repair`; as its polars by hand.

Needs `pip install pyspark` and Java. It writes Parquet, without a commit; to start Java is counted.
"""

from __future__ import annotations

from typing import Any

from lake import Lake
from lake.workers import cores

TAGS = "array<struct<key:string,type:string,value:string>>"


def by_hand(root: str) -> None:
    """The same rules: one frame, joins, a shift per trace, sorted, written by day."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    spark = (
        SparkSession.builder.master(f"local[{cores()}]")
        .config("spark.driver.memory", "8g")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", 4 * cores())
        .config("spark.ui.enabled", "false")
        .config("spark.sql.parquet.compression.codec", "zstd")
        .getOrCreate()
    )
    gateway = spark.sparkContext._gateway  # noqa: SLF001
    files = Lake(root).files("raw_spans")
    rows = _joined(_clean(spark.read.parquet(*files)))
    start = (f.col("start_ns") / 1e9).cast("timestamp")
    rows = rows.withColumns({"start": start, "date": start.cast("date")})
    rows = rows.withColumn("minute", f.date_trunc("minute", "start")).cache()
    shares = {f"p{share * 100:.0f}": share for share in (0.5, 0.95, 0.99)}
    red = rows.groupBy("date", "minute", "service", "operation").agg(
        f.count("*").alias("calls"),
        *(f.percentile_approx("duration_ns", q).alias(name) for name, q in shares.items()),
    )
    edges = rows.groupBy("date", "minute", "above", "service").agg(f.count("*").alias("calls"))
    changed = rows.where("was <> trace_id").select("was", "trace_id", "span_id")
    order = ("minute", "service", "operation", "start")
    clean = rows.repartitionByRange(2 * cores(), "minute").sortWithinPartitions(*order)
    clean.drop("minute", "was", "above").write.partitionBy("date").parquet(f"{root}/spark_spans")
    for name, table in (("red", red), ("edges", edges), ("repairs", changed)):
        table.write.parquet(f"{root}/spark_{name}")
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _clean(rows: Any) -> Any:
    """Ids, units and signs of each row by itself; tags read; doubles gone."""
    from pyspark.sql import functions as f

    unit = f.when(f.col("start") > 10_000_000_000_000_000, 1).otherwise(1000)
    ended = f.when(f.col("duration") < 0, f.col("start") + f.col("duration")).otherwise(
        f.col("start")
    )
    names = ("trace_id", "span_id", "parent_span_id")
    made = {"was": f.col("trace_id"), **{name: f.lower(name) for name in names}}
    made |= {"start_ns": ended * unit, "duration_ns": f.abs("duration") * unit}
    made |= {name: f.from_json(name, TAGS) for name in ("attributes", "resource")}
    rows = rows.withColumns(made).drop("start", "duration", "start_unit", "events", "links")
    return rows.dropDuplicates(["trace_id", "span_id"])


def _joined(rows: Any) -> Any:
    """The trace of each row's parent where they differ, and its clock shifted into the parent."""
    from pyspark.sql import functions as f

    above = rows.select(
        f.col("span_id").alias("parent_span_id"),
        f.col("trace_id").alias("trace_above"),
        f.col("service").alias("above"),
        f.col("host").alias("host_above"),
        f.col("start_ns").alias("start_above"),
        f.col("duration_ns").alias("took_above"),
    ).dropDuplicates(["parent_span_id"])
    slack = f.floor((f.col("took_above") - f.col("duration_ns")) / 2)
    inside = f.col("start_ns").between(
        f.col("start_above"), f.col("start_above") + f.col("took_above")
    )
    off = (f.col("host") != f.col("host_above")) & ~inside
    by = f.when(off, f.col("start_above") + slack - f.col("start_ns")).otherwise(0)
    joined = rows.join(above, "parent_span_id", "left").withColumns(
        {"trace_id": f.coalesce("trace_above", "trace_id"), "start_ns": f.col("start_ns") + by}
    )
    return joined.drop("trace_above", "host_above", "start_above", "took_above")
