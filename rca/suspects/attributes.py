"""Attributes: what the bad requests of a service have in common that its good ones have not.

Every attribute of its spans (and of their process) is compared in one pass; pairs of the best
ones too, so that "this model on that cluster" can be said. A value counts when its share differs
by more than chance would have it among so many values (G-test; Bonferroni's correction).
"""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import polars as pl

from lake import Lake
from rca.facts import Facts
from rca.read import tags_of
from rca.suspects.failures import likelihood

LEAST = 5  # bad spans a value must have
CHANCE = 0.01  # that any value at all is named where nothing sets the bad spans apart
EFFECTS = (  # what a span is or came to: it goes with being bad, but explains nothing
    r"^(span\.kind|error|status|otel\.status_code|otel\.status_description|http\.status_code"
    r"|http\.response\..*|rpc\.grpc\.status_code|exception\..*|error\..*|duration.*|sampl.*)$"
)
MANY = 1000  # values beyond which an attribute names single requests, not a kind of them


class Trait(NamedTuple):
    """`names` with these `values` were on `bad` of all bad spans and on `good` of all good ones."""

    names: tuple[str, ...]
    values: tuple[str, ...]
    bad: float
    good: float
    score: float

    def __str__(self) -> str:
        return " and ".join(f"{n} = {v}" for n, v in zip(self.names, self.values, strict=True))


def traits(lake: Lake, seen: Facts, service: str, bad_ids: pl.DataFrame) -> list[Trait]:
    """What sets the bad spans (span_id) of a service apart from the good ones that play the
    same part (have a parent of the same operation), the most telling first."""
    wide = _values(lake, seen, service, bad_ids)
    if not wide.height or not bad_ids.height:
        return []
    marked = wide.join(
        bad_ids.select("span_id", is_bad=pl.lit(value=True)),
        on="span_id",
        how="left",
        maintain_order="left",
    ).with_columns(pl.col("is_bad").fill_null(value=False))
    ids = marked.select("span_id", "is_bad").unique()
    bad = ids.filter("is_bad").height
    good = ids.height - bad
    if bad < LEAST or good < LEAST:
        return []
    values = marked.select("key", "value").n_unique()
    best = _scored(marked.rename({"key": "k", "value": "v"}), ["k", "v"], bad, good).head(6)
    single = best.filter(pl.col("likely") >= beyond_chance(values))
    out = [Trait((k,), (v,), b, g, s) for k, v, b, g, s, _ in single.rows()]
    pairs = _pairs(marked, best, bad, good, values**2)
    return sorted(out + pairs, key=lambda one: (-one.score, str(one)))


def _values(lake: Lake, seen: Facts, service: str, bad_ids: pl.DataFrame) -> pl.DataFrame:
    """(span_id, key, value) of every attribute with few values, of the traces that were read."""
    mine = pl.col("service") == service
    spans = tags_of(lake, seen.window, mine) if seen.tags is None else seen.tags.filter(mine)
    parents = spans.select(parent_span_id="span_id", part="operation").unique(
        "parent_span_id", keep="first"
    )
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
    every = pl.concat(parts).drop_nulls("value").filter(~pl.col("key").str.contains(EFFECTS))
    few = every.group_by("key").agg(pl.col("value").n_unique().alias("values"))
    return every.join(few.filter(pl.col("values").is_between(2, MANY)), on="key", how="semi")


def beyond_chance(values: int) -> float:
    """The log-likelihood ratio that one of so many values reaches by chance in CHANCE of cases."""
    return NormalDist().inv_cdf(1 - CHANCE / 2 / max(values, 1)) ** 2 / 2


def _scored(marked: pl.DataFrame, by: list[str], bad: int, good: int) -> pl.DataFrame:
    """Values by how much more frequent they are among bad spans: (…, bad, good, score)."""
    counted = marked.group_by(by).agg(
        pl.col("span_id").filter("is_bad").n_unique().alias("k1"),
        pl.col("span_id").filter(~pl.col("is_bad")).n_unique().alias("k0"),
    )
    p1, p0 = pl.col("k1") / bad, pl.col("k0") / good
    likely = likelihood(pl.col("k1"), pl.lit(bad), pl.col("k0"), pl.lit(good))
    return (
        counted.filter(pl.col("k1") >= LEAST)
        .select(*by, bad=p1, good=p0, score=likely * (p1 - p0), likely=likely)
        .filter(pl.col("score") > 0)
        .sort("score", *by, descending=[True, *[False] * len(by)])
    )


def _pairs(
    marked: pl.DataFrame, best: pl.DataFrame, bad: int, good: int, values: int
) -> list[Trait]:
    """Two values together, where that tells more than either alone."""
    out = []
    for (k1, v1, *_, s1, _), (k2, v2, *_, s2, _) in combinations(best.rows(), 2):
        if k1 == k2:
            continue
        both = marked.filter((pl.col("key") == k1) & (pl.col("value") == v1)).join(
            marked.filter((pl.col("key") == k2) & (pl.col("value") == v2)).select("span_id"),
            on="span_id",
            how="semi",
        )
        named = both.with_columns(k=pl.lit("both"))
        for _, b, g, s, likely in _scored(named, ["k"], bad, good).rows():
            if s > 1.05 * max(s1, s2) and likely >= beyond_chance(values):
                out.append(Trait((k1, k2), (v1, v2), b, g, s))
    return out
