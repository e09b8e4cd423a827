"""Attributes: what the bad requests of a service have in common that its good ones have not.

Every attribute of its spans (and of their process) is compared in one pass; pairs of the best
ones too, so that "this model on that cluster" can be said.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import polars as pl

from lake import Lake
from rca.facts import within
from rca.question import Stretch
from rca.suspects.failures import likelihood

LEAST = 5  # bad spans a value must have
EFFECTS = (  # what a span is or came to: it goes with being bad, but explains nothing
    "span.kind",
    "error",
    "otel.status_code",
    "http.status_code",
    "http.response.status_code",
    "rpc.grpc.status_code",
)
MANY = 40  # values beyond which an attribute names single requests, not a kind of them


class Trait(NamedTuple):
    """`names` with these `values` were on `bad` of all bad spans and on `good` of all good ones."""

    names: tuple[str, ...]
    values: tuple[str, ...]
    bad: float
    good: float
    score: float

    def __str__(self) -> str:
        return " and ".join(f"{n} = {v}" for n, v in zip(self.names, self.values, strict=True))


def traits(lake: Lake, window: Stretch, service: str, bad_ids: pl.DataFrame) -> list[Trait]:
    """What sets the bad spans (span_id) of a service apart from the good ones that play the
    same part (have a parent of the same operation), the most telling first."""
    wide = _values(lake, window, service, bad_ids)
    if not wide.height or not bad_ids.height:
        return []
    marked = wide.join(
        bad_ids.select("span_id", is_bad=pl.lit(value=True)), on="span_id", how="left"
    )
    marked = marked.with_columns(pl.col("is_bad").fill_null(value=False))
    bad, good = (
        marked.filter("is_bad")["span_id"].n_unique(),
        marked.filter(~pl.col("is_bad"))["span_id"].n_unique(),
    )
    if bad < LEAST or good < LEAST:
        return []
    single = _scored(marked.rename({"key": "k", "value": "v"}), ["k", "v"], bad, good)
    best = single.head(6)
    out = [Trait((k,), (v,), b, g, s) for k, v, b, g, s in best.rows()]
    return sorted(out + _pairs(marked, best, bad, good), key=lambda one: (-one.score, str(one)))


def _values(lake: Lake, window: Stretch, service: str, bad_ids: pl.DataFrame) -> pl.DataFrame:
    """(span_id, key, value) of every attribute with few values."""
    wanted = ("cluster", "host", "attributes", "resource")
    spans = (
        lake.scan("spans")
        .filter(within("start", [window]), pl.col("service") == service)
        .select("span_id", "parent_span_id", "operation", *wanted)
        .collect()
    )
    parents = spans.select(parent_span_id="span_id", part="operation").unique("parent_span_id")
    spans = spans.join(parents, on="parent_span_id", how="left")
    spans = spans.with_columns(pl.coalesce("part", "operation").alias("part"))
    same = spans.join(bad_ids, on="span_id", how="semi")["part"].unique()
    spans = spans.filter(pl.col("part").is_in(same.implode()))
    parts = [
        spans.select("span_id", pl.col(column).map.entries().alias("pair"))
        .explode("pair", empty_as_null=True)
        .drop_nulls("pair")
        .unnest("pair")
        for column in ("attributes", "resource")
    ]
    parts += [
        spans.select("span_id", pl.lit(name).alias("key"), pl.col(name).alias("value"))
        for name in ("cluster", "host")
    ]
    every = pl.concat(parts).drop_nulls("value").filter(~pl.col("key").is_in(EFFECTS))
    few = every.group_by("key").agg(pl.col("value").n_unique().alias("values"))
    return every.join(few.filter(pl.col("values").is_between(2, MANY)), on="key", how="semi")


def _scored(marked: pl.DataFrame, by: list[str], bad: int, good: int) -> pl.DataFrame:
    """Values by how much more frequent they are among bad spans: (…, bad, good, score)."""
    counted = marked.group_by(by).agg(
        pl.col("span_id").filter("is_bad").n_unique().alias("k1"),
        pl.col("span_id").filter(~pl.col("is_bad")).n_unique().alias("k0"),
    )
    p1, p0 = pl.col("k1") / bad, pl.col("k0") / good
    weight = likelihood(pl.col("k1"), pl.lit(bad), pl.col("k0"), pl.lit(good)) * (p1 - p0)
    return (
        counted.filter(pl.col("k1") >= LEAST)
        .select(*by, p1.alias("bad"), p0.alias("good"), weight.alias("score"))
        .filter(pl.col("score") > 0)
        .sort("score", *by, descending=[True, *[False] * len(by)])
    )


def _pairs(marked: pl.DataFrame, best: pl.DataFrame, bad: int, good: int) -> list[Trait]:
    """Two values together, where that tells more than either alone."""
    out = []
    for (k1, v1, *_, s1), (k2, v2, *_, s2) in combinations(best.rows(), 2):
        if k1 == k2:
            continue
        both = marked.filter((pl.col("key") == k1) & (pl.col("value") == v1)).join(
            marked.filter((pl.col("key") == k2) & (pl.col("value") == v2)).select("span_id"),
            on="span_id",
            how="semi",
        )
        named = both.with_columns(k=pl.lit("both"))
        for _, b, g, s in _scored(named, ["k"], bad, good).rows():
            if s > 1.05 * max(s1, s2):
                out.append(Trait((k1, k2), (v1, v2), b, g, s))
    return out
