"""How spans relate: whose child each is, what time is its own, what its trace was asked for, and
whom it asks. One join finds every parent; all else is arithmetic on row numbers."""

from __future__ import annotations

import numpy as np
import polars as pl


def related(spans: pl.DataFrame) -> pl.DataFrame:
    """Spans with `self_ns`, `entry`, `callee`, `party`, `unanswered`, `client`, `caller`, `alone`,
    `outlived`, `leaf`, `gap` and `rest` (see `rca.facts.Facts`), without `peer` and `store`, which
    they are told by."""
    numbered = _numbered(spans)
    found = _party(_entry(_self_time(spans, numbered), numbered), numbered)
    return _gap(found, numbered)


def _numbered(spans: pl.DataFrame) -> pl.DataFrame:
    """What relates spans to each other, in numbers: `row`, `trace`, and `parent`, the row of the
    parent span (null where it is not among them). Joins on numbers cost a fraction of those on
    two texts; two spans are taken for one when 64 bits of hashes agree."""
    key = pl.col("trace_id").hash(seed=1) ^ pl.col("span_id").hash(seed=2)
    above = pl.col("trace_id").hash(seed=1) ^ pl.col("parent_span_id").hash(seed=2)
    rows = spans.select(trace=pl.col("trace_id").hash(seed=1), key=key, above=above).with_row_index(
        "row"
    )
    known = rows.select("key", parent="row").unique("key", keep="first")
    found = rows.join(known, left_on="above", right_on="key", how="left", maintain_order="left")
    return found.select(
        "row", "trace", parent=pl.when(spans["parent_span_id"].is_not_null()).then("parent")
    )


def with_self_time(spans: pl.DataFrame) -> pl.DataFrame:
    """Duration less what the span's children cover of it, their union taken."""
    return _self_time(spans, _numbered(spans))


def _self_time(spans: pl.DataFrame, numbered: pl.DataFrame) -> pl.DataFrame:
    ends = spans["start_ns"] + spans["duration_ns"]
    parent = numbered["parent"]
    children = (
        pl.DataFrame(
            {"parent": parent, "start_ns": spans["start_ns"], "end_ns": ends, "kind": spans["kind"]}
        )
        .with_columns(low=spans["start_ns"].gather(parent), high=ends.gather(parent))
        .filter(pl.col("kind").fill_null("") != "consumer", pl.col("parent").is_not_null())
        .select(
            "parent",
            from_ns=pl.max_horizontal("start_ns", "low"),
            to_ns=pl.min_horizontal("end_ns", "high"),
        )
        .filter(pl.col("to_ns") > pl.col("from_ns"))
        .sort("parent", "from_ns")
    )
    fresh = (pl.col("to_ns") - pl.max_horizontal("from_ns", _before())).clip(lower_bound=0)
    covered = children.select("parent", fresh=fresh).group_by("parent").agg(pl.col("fresh").sum())
    spent = numbered.select("row").join(
        covered, left_on="row", right_on="parent", how="left", maintain_order="left"
    )
    left = pl.col("duration_ns") - spent["fresh"].fill_null(0)
    return spans.with_columns(self_ns=left.clip(lower_bound=0))


def _before() -> pl.Expr:
    """The latest end among a parent's children so far, of children sorted by (parent, from_ns).

    A running maximum over (parent, end) as one 128-bit number: a window per parent costs twenty
    times as much.
    """
    parent = pl.col("parent").cast(pl.Int128) * (1 << 64)
    latest = (parent + pl.col("to_ns")).cum_max().shift(1) - parent
    return pl.when(pl.col("parent") == pl.col("parent").shift(1)).then(
        latest.cast(pl.Int64, strict=False)
    )


def with_entry(spans: pl.DataFrame) -> pl.DataFrame:
    """What each trace was asked for: its root's operation, or, where the root's service only
    hands on to one other (a gateway), the operation it called there."""
    return _entry(spans, _numbered(spans))


def _entry(spans: pl.DataFrame, numbered: pl.DataFrame) -> pl.DataFrame:
    rows = numbered.with_columns(
        spans["service"],
        spans["operation"],
        spans["start_ns"],
        child=spans["parent_span_id"].is_not_null(),
    )
    first = rows.sort("trace", "child", "start_ns", maintain_order=True).unique(
        "trace", keep="first", maintain_order=True
    )
    first = first.select("trace", gate="service", asked="operation")
    rows = rows.join(first, on="trace", how="left", maintain_order="left")
    at_gate = rows["service"] == rows["gate"]
    behind = (
        rows.filter(~at_gate, at_gate.gather(rows["parent"]))
        .sort("trace", "start_ns", maintain_order=True)
        .group_by("trace", maintain_order=True)
        .agg(
            pl.col("service").n_unique().alias("others"),
            pl.format("{} {}", pl.col("service").first(), pl.col("operation").first()).alias(
                "route"
            ),
        )
        .filter(pl.col("others") == 1)
    )
    entry = first.join(behind, on="trace", how="left").select(
        "trace", entry=pl.coalesce("route", pl.format("{} {}", "gate", "asked"))
    )
    named = rows.select("trace").join(entry, on="trace", how="left", maintain_order="left")
    return spans.with_columns(named["entry"])


def with_party(spans: pl.DataFrame) -> pl.DataFrame:
    """`party` and `unanswered` of client spans that have no span of a callee below them; whether
    a service should have answered is known from the calls of the same operation that were."""
    return _party(spans, _numbered(spans))


def _party(spans: pl.DataFrame, numbered: pl.DataFrame) -> pl.DataFrame:
    parent = numbered["parent"]
    called = pl.DataFrame({"row": parent, "callee": spans["service"]}).drop_nulls()
    callee = numbered.select("row").join(
        called.unique("row", keep="first"), on="row", how="left", maintain_order="left"
    )["callee"]
    joined = spans.with_columns(callee=callee, above=spans["service"].gather(parent))
    names = spans["service"].unique().implode()
    client = (pl.col("kind") == "client") & pl.col("callee").is_null()
    outside = pl.col("peer").is_not_null() & ~pl.col("peer").is_in(names)
    store = pl.when(client & pl.col("store").is_not_null()).then(pl.lit("store"))
    joined = joined.with_columns(party=store.when(client & outside).then(pl.lit("external")))
    key = ["service", "operation"]
    often = (
        joined.drop_nulls("callee")
        .group_by(key)
        .agg(usually=pl.col("callee").mode().sort().first())
    )
    joined = joined.join(often, on=key, how="left", maintain_order="left")
    usually = pl.col("usually")
    waits = client & pl.col("party").is_null() & (usually != pl.col("service"))
    joined = joined.with_columns(
        unanswered=waits.fill_null(value=False), callee=pl.coalesce("callee", usually)
    )
    inner = pl.col("kind").is_null() & (pl.col("above") == pl.col("service"))
    asks = pl.col("party").is_null() & (pl.col("callee") != pl.col("service"))
    waiting = asks & ((pl.col("kind") == "client") | inner)
    joined = joined.with_columns(client=waiting.fill_null(value=False))
    return joined.drop("peer", "store", "above", "usually")


def _gap(spans: pl.DataFrame, numbered: pl.DataFrame) -> pl.DataFrame:
    """`caller`, whether its span stands for the call `alone`, and the `gap` around the call, in ns,
    that neither the callee nor other calls spend: from the caller's previous doing (its start, or
    the end of the call before) to the callee's start, and, the `rest`, from the callee's end to the
    caller's next doing (a call, or its end), but not what passes before it tries again; and whether
    a span is `outlived` by a child."""
    parent = numbered["parent"]
    ends = spans["start_ns"] + spans["duration_ns"]
    alone = spans["client"].gather(parent)
    calls = (
        pl.DataFrame({"row": numbered["row"], "parent": parent, "from_ns": spans["start_ns"]})
        .with_columns(
            to_ns=ends,
            low=spans["start_ns"].gather(parent),
            high=ends.gather(parent),
            error=spans["error"],
        )
        .filter(pl.col("parent").is_not_null(), spans["kind"].fill_null("") != "consumer")
        .sort("parent", "from_ns", "row")
    )
    same = pl.col("parent") == pl.col("parent").shift(-1)
    following = pl.when(same).then(pl.col("from_ns").shift(-1))
    lag = (pl.col("from_ns") - pl.max_horizontal("low", _before())).clip(lower_bound=0)
    rest = (pl.coalesce(following, "high") - pl.col("to_ns")).clip(lower_bound=0)
    rest = pl.when(same & pl.col("error")).then(0).otherwise(rest)
    lag = pl.when((same & pl.col("error")).shift(1, fill_value=False)).then(0).otherwise(lag)
    gaps = calls.select("row", gap=(lag + rest).cast(pl.Float64), rest=rest.cast(pl.Float64))
    placed = numbered.select("row").join(gaps, on="row", how="left", maintain_order="left")
    late = np.zeros(spans.height, dtype=bool)
    late[calls.filter(pl.col("to_ns") > pl.col("high"))["parent"].to_numpy()] = True
    return spans.with_columns(
        placed["gap"],
        placed["rest"],
        caller=spans["service"].gather(parent),
        alone=alone,
        outlived=pl.Series(late),
        leaf=~numbered["row"].is_in(parent.drop_nulls().unique().implode()),
    )
