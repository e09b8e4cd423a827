"""Where a piece of a trace belongs, by parent links: what `id_missing`, `id_truncated`,
`id_corrupt` and `trace_split` share.

A fragment is all rows of one trace id; each row without a trace id is one of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from quality import marks
from quality.rules.time_unit import plausible, resolution

FAR = 54_000_000_000_000  # ns: the times of two zones differ by no more
LINKS = pl.Schema(
    {
        "fragment": pl.String,
        "other": pl.String,
        "up": pl.Boolean,
        "start": pl.Int64,
        "length": pl.Int64,
    }
)


def settled(spans: pl.DataFrame, step: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """A step of `adopt` repeated until it finds nothing: a piece may belong to a piece. Every
    round leaves fewer fragments."""
    while (after := step(spans)) is not spans:
        spans = after
    return spans


def links(spans: pl.DataFrame) -> pl.DataFrame:
    """Pairs of fragments that belong together: (fragment, other, up, start, length).

    Only links whose parent is missing in the child's own fragment, and is found in exactly one
    other; `up` says that the fragment holds the child, and of such pairs start and length are those
    of the uppermost parent. Children of one parent that is nowhere are a pair too, and fragments on
    both sides of a row without a trace id. Every pair stands both ways.
    """
    rows = spans.select(
        "span_id",
        "parent_span_id",
        pl.when(plausible(pl.col("start_ns"))).then("start_ns").alias("start_ns"),
        "duration_ns",
        fragment().alias("fragment"),
    )
    named = rows.filter(pl.col("parent_span_id").is_not_null())
    own = rows.select("fragment", parent_span_id="span_id")
    stray = named.join(own, on=["fragment", "parent_span_id"], how="anti")
    if not stray.height:
        return pl.DataFrame(schema=LINKS)
    parents = (
        rows.join(stray.select(span_id="parent_span_id").unique(), on="span_id", how="semi")
        .group_by(parent_span_id="span_id")
        .agg(
            pl.col("fragment").n_unique().alias("places"),
            pl.col("fragment").min().alias("other"),
            pl.col("start_ns").min().alias("parent_start"),
            pl.col("duration_ns").max().alias("parent_length"),
        )
    )
    found = stray.join(parents.filter(pl.col("places") == 1), on="parent_span_id")
    up = _bridged(
        found.filter(_believed())
        .group_by("fragment", "other")
        .agg(start=pl.col("parent_start").min(), length=pl.col("parent_length").max())
    )
    down = up.select(fragment="other", other="fragment")
    both = [
        up.with_columns(up=pl.lit(value=True)),
        down.with_columns(up=pl.lit(value=False)),
        _siblings(stray.join(parents, on="parent_span_id", how="anti")),
    ]
    return pl.concat(both, how="diagonal").select(LINKS.names())


def _siblings(orphans: pl.DataFrame) -> pl.DataFrame:
    """Fragments with children of one parent, which none of them holds."""
    several = pl.col("fragment").n_unique().over("parent_span_id") > 1
    apart = orphans.filter(several).select("fragment", "parent_span_id").unique()
    pairs = apart.join(apart.rename({"fragment": "other"}), on="parent_span_id")
    pairs = pairs.filter(pl.col("fragment") != pl.col("other")).select("fragment", "other").unique()
    return pairs.with_columns(up=pl.lit(value=False))


def _bridged(up: pl.DataFrame) -> pl.DataFrame:
    """The links, and those that lead through one row without a trace id. Of two children of such
    a row each counts as a child of the other's."""
    alone = pl.col("other").str.starts_with("row ")
    below = up.filter(alone).select("fragment", through="other")
    if not below.height:
        return up
    above = up.filter(pl.col("fragment").str.starts_with("row ")).select(
        "other", through="fragment"
    )
    over = below.join(above, on="through").select("fragment", "other")
    beside = below.join(below.rename({"fragment": "other"}), on="through")
    more = pl.concat([over, beside.select("fragment", "other")])
    named = [~pl.col(side).str.starts_with("row ") for side in ("fragment", "other")]
    more = more.filter(*named, pl.col("fragment") != pl.col("other")).unique()
    more = more.join(up, on=["fragment", "other"], how="anti")
    return pl.concat([up, more], how="diagonal")


def _believed() -> pl.Expr:
    """Parent and child lie near in time, and the child does not hold its parent, as far as their
    times can be."""
    early = pl.col("parent_start") - pl.col("start_ns")
    late = pl.col("duration_ns") - early - pl.col("parent_length")
    grain = resolution(pl.col("start_ns")) + resolution(pl.col("parent_start"))
    holds = (early > grain) & (late > 2 * grain)
    far = early.abs() >= FAR
    return ~(far | holds).fill_null(value=False)


def fragment() -> pl.Expr:
    """What names a row's fragment."""
    alone = pl.format("row {}", "row")
    return pl.coalesce("trace_id", alone)


def sizes(spans: pl.DataFrame, fragments: pl.Series) -> pl.DataFrame:
    """How many distinct spans (`count`) some fragments hold."""
    rows = spans.select("span_id", fragment().alias("fragment"))
    asked = rows.join(fragments.unique().to_frame("fragment"), on="fragment", how="semi")
    return asked.group_by("fragment").agg(pl.col("span_id").n_unique().alias("count"))


def rooted(spans: pl.DataFrame, fragments: pl.Series) -> pl.DataFrame:
    """Those of some fragments that hold a root."""
    roots = spans.filter(pl.col("parent_span_id").is_null()).select(fragment().alias("fragment"))
    return roots.join(fragments.unique().to_frame("fragment"), on="fragment", how="semi").unique()


def adopt(spans: pl.DataFrame, homes: pl.DataFrame, name: str) -> pl.DataFrame:
    """Give every row of a fragment the trace id of its one home (fragment, home).

    A fragment with several possible homes stays as it is.
    """
    certain = (
        homes.unique()
        .group_by("fragment")
        .agg(pl.col("home").n_unique().alias("homes"), pl.col("home").first())
    )
    certain = certain.filter(
        pl.col("homes") == 1,
        ~pl.col("home").str.starts_with("row "),
        pl.col("home") != pl.col("fragment"),
    )
    if not certain.height:
        return spans
    joined = spans.with_columns(fragment().alias("fragment")).join(
        certain.select("fragment", "home"), on="fragment", how="left", maintain_order="left"
    )
    moved = pl.col("home").is_not_null()
    return joined.with_columns(
        pl.coalesce("home", "trace_id").alias("trace_id"), marks.repaired(name, moved)
    ).drop("fragment", "home")


def distance(one: str, other: str, size: int = 32, first: int = 0) -> pl.Expr:
    """In how many hex digits two ids differ, from digit `first` on."""
    digits = [
        (pl.col(one).str.slice(i, 1) != pl.col(other).str.slice(i, 1)).cast(pl.Int32)
        for i in range(first, size)
    ]
    return pl.sum_horizontal(digits)
