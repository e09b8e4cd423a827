"""A row without a span id gets the one its children name, when exactly one such row fits exactly
one such name in their trace. Part of the rule `id_missing`."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules import around, fragments, kinship
from quality.rules.id_corrupt import LINK_DIGITS

NAME = "id_missing"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Span ids filled where nothing else fits."""
    nameless = spans.filter(
        pl.col("span_id").is_null() & pl.col("trace_id").is_not_null(), pl.col("duration_ns") >= 0
    )
    if not nameless.height:
        return spans
    pairs = nameless.join(_wanted(spans, nameless), on="trace_id").filter(_kin())
    pairs = _around(spans, pairs)
    if not pairs.height:
        return spans
    pairs = pairs.join(_strange(spans, pairs), on=["row", "name"], how="anti")
    names = pairs.filter(pl.len().over("row") == 1, pl.len().over("trace_id", "name") == 1).select(
        "row", "name"
    )
    if not names.height:
        return spans
    names = names.join(_alike(spans, names), on="name", how="anti")
    joined = spans.join(names, on="row", how="left", maintain_order="left")
    return joined.with_columns(
        pl.coalesce("span_id", "name").alias("span_id"),
        marks.repaired(NAME, pl.col("name").is_not_null()),
    ).drop("name")


def _wanted(spans: pl.DataFrame, nameless: pl.DataFrame) -> pl.DataFrame:
    """Names of parents that no row bears, with what their children tell of them: `of` the service
    of those that run inside it, and `calls` whether it called another."""
    inside = spans.join(nameless.select("trace_id"), on="trace_id", how="semi")
    known = inside.select("trace_id", parent_span_id="span_id").drop_nulls()
    within = pl.col("kind").is_in(["client", "producer", "internal"])
    return (
        inside.filter(pl.col("parent_span_id").is_not_null())
        .join(known, on=["trace_id", "parent_span_id"], how="anti")
        .group_by("trace_id", name="parent_span_id")
        .agg(
            pl.col("service").filter(within).unique().alias("of"),
            pl.col("kind").is_in(["server", "consumer"]).any().alias("calls"),
            pl.struct("service", "operation").unique().alias("children"),
        )
        .filter(pl.col("of").list.len() <= 1)
    )


def _strange(spans: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs (row, name) of which a child is never seen under such a row, only under others."""
    asked = (
        pairs.select(
            "row", "name", "children", service_above="service", operation_above="operation"
        )
        .explode("children", empty_as_null=True)
        .unnest("children")
    )
    edges = kinship.seen(spans, asked)
    unseen = asked.join(edges, on=kinship.EDGE, how="anti", nulls_equal=True)
    known = ["service", "operation"]
    return unseen.join(edges, on=known, how="semi", nulls_equal=True).select("row", "name").unique()


def _around(spans: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs whose row lies around the children of the name, if any of these binds it."""
    numbered = pairs.with_row_index("pair").with_columns(pl.col("pair").cast(pl.Int64))
    named = numbered.with_columns(span_id="name", row="pair").select(spans.columns)
    bounds = around.neighbours(spans, named).rename({"row": "pair"})
    ends = pl.col("start_ns") + pl.col("duration_ns")
    fits = (pl.col("start_ns") <= pl.col("first")) & (ends >= pl.col("last")).fill_null(value=True)
    return numbered.join(bounds, on="pair").filter(fits).drop("pair", *around.BOUNDS, "shared")


def _alike(spans: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Names that a link of any trace differs from in few digits: one of the two is damaged, and
    which is not known. Of three parts of such names at least one is the same."""
    links = spans.select(link="parent_span_id").drop_nulls().unique()
    found = []
    for part in (slice(0, 5), slice(5, 10), slice(10, 16)):
        size = part.stop - part.start
        keyed, known = (
            frame.with_columns(part=pl.col(column).str.slice(part.start, size))
            for frame, column in ((names, "name"), (links, "link"))
        )
        near = fragments.distance("name", "link", 16).is_between(1, LINK_DIGITS)
        found.append(keyed.join(known, on="part").filter(near).select("name"))
    return pl.concat(found).unique()


def _kin() -> pl.Expr:
    """Whether a row is of the kind that the children of a name have as parent."""
    service = pl.col("of").list.first()
    same = (pl.col("service") == service).fill_null(value=True)
    caller = pl.col("kind").is_in(["client", "producer"])
    kin = (~pl.col("calls") | caller.fill_null(value=True)) & (
        service.is_null() | ~caller.fill_null(value=False)
    )
    other = pl.col("parent_span_id").fill_null("") != pl.col("name")
    return same & kin.fill_null(value=True) & other
