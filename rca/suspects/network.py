"""Network: the time around a call that neither the caller nor the callee spends.

Around each call: what passes between the caller's previous doing (its start, or the end of the
call before) and the callee's start, and from the callee's end to the caller's next doing. Per edge
the median of it in the window less the one in healthy time, over the healthy spread, less the
median growth of the caller's other edges. Where a caller has no span for the call alone, its own
work lies there too: then as much of the growth counts as what else it does did not grow by.
Blamed on the callee, the more the greater a part of all that grew touches it. Loss shows in the
tail instead: some calls wait for a packet to be sent again, some are never answered.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame
from rca.suspects.failures import likelihood

MS = 1e6
PAIR = ["caller", "callee"]
LEAST = 3  # spans that must tell what else a caller does
BEHIND = 0.25  # of what grows around a call: the least behind it, where its way takes longer
TAIL = 15 * MS  # beyond what is usual: no retransmission takes less


def edges(spans: pl.DataFrame) -> pl.DataFrame:
    """Calls between services: caller, callee, pod (the callee's), gap in ns, bad; `client` where
    the caller has a span for the call alone."""
    calls = spans.filter(
        pl.col("kind").fill_null("") != "consumer", pl.col("caller") != pl.col("service")
    )
    return calls.select(
        *("trace_id", "parent_span_id", "caller", "bad", "pod", "cluster", "gap", "rest", "start"),
        callee="service",
        client="alone",
    )


def score(spans: pl.DataFrame, bare: pl.DataFrame) -> pl.DataFrame:
    """What the gaps of its callers' edges say against each service; `bare`: see below."""
    calls = edges(spans)
    grown = _grown(calls)
    outside = bare.select(*PAIR, "apart").unique(PAIR, keep="first")
    blamed = grown.join(_others(grown), on=PAIR, how="left").join(outside, on=PAIR, how="left")
    blamed = _shared(blamed).with_columns(blame=_beyond() * pl.col("rather"))
    each = blamed.group_by("callee").agg(
        pl.col("blame").max().alias("most"),
        ((pl.col("blame") * pl.col("count")).sum() / pl.col("count").sum()).alias("usual"),
        pl.col("caller").sort_by("blame", "caller").last(),
        (pl.col("before").sort_by("blame", "caller").last() / MS).alias("before"),
        (pl.col("after").sort_by("blame", "caller").last() / MS).alias("after"),
        pl.col("explained").first(),
    )
    share = pl.col("explained").sqrt()
    delay = each.select(
        service="callee",
        modality=pl.lit("network"),
        fault=pl.lit("network_delay"),
        score=(pl.col("most") * pl.col("usual")).sqrt() * share,
        pod=pl.lit(None, pl.String),
        subject="caller",
        before="before",
        after="after",
    )
    return pl.concat([frame(delay), _loss(calls, spans, outside)])


def _beyond() -> pl.Expr:
    """What grew at an edge (z) beyond what grew around it."""
    others = (pl.col("z") - pl.col("other").fill_null(0.0)).clip(lower_bound=0)
    return pl.when(pl.col("apart").is_null()).then(others).otherwise(pl.col("z") * pl.col("apart"))


def bare(spans: pl.DataFrame) -> pl.DataFrame:
    """Spans of callers that have none for their calls, once for each callee that their operation
    ever calls: how much of their self-time does `touch` its calls (the `rest`: behind them) and how
    much lies `away` from them, with the usual of each (`touch0`, …), and how far the callee's edge
    is `apart`."""
    calls = edges(spans).filter(~pl.col("client"))
    around = calls.group_by("caller", "callee", "trace_id", span_id="parent_span_id").agg(
        pl.col("gap").sum().alias("touch"), pl.col("rest").sum()
    )
    names = calls["caller"].unique().implode()
    mine = spans.filter(
        pl.col("service").is_in(names), ~pl.col("client"), pl.col("bad").is_not_null()
    )
    columns = ("trace_id", "span_id", "operation", "bad", "error", "self_ns")
    mine = mine.select(*columns, caller="service").with_row_index("row")
    own = around.join(
        mine.select("row", "operation", "trace_id", "span_id"), on=["trace_id", "span_id"]
    )
    asks = own.select("caller", "operation", "callee").unique()
    each = mine.join(asks, on=["caller", "operation"]).join(
        own.select("row", "callee", "touch", "rest"), on=["row", "callee"], how="left"
    )
    each = each.with_columns(
        called=pl.col("touch").is_not_null(),
        touch=pl.min_horizontal(pl.col("touch").fill_null(0.0), "self_ns"),
        rest=pl.col("rest").fill_null(0.0),
    ).with_columns(away=pl.col("self_ns") - pl.col("touch"))
    by = [*PAIR, "operation", "called"]
    middle = pl.col("touch", "rest", "away", "self_ns").median().name.suffix("0")
    each = each.join(each.filter(~pl.col("bad")).group_by(by).agg(middle), on=by)
    return each.join(_apart(each), on=PAIR)


def _apart(bare: pl.DataFrame) -> pl.DataFrame:
    """(caller, callee, apart): the share of the time that grew around the calls to a callee that
    did not grow in what else its caller does; null where it does nothing else that tells. What
    grows before the calls alone, and not behind them, is the caller's."""
    does = (pl.col("away0") > 0.1 * pl.col("self_ns0")) & ~pl.col("error")
    touch, rest, away = (
        (pl.col(name) - pl.col(f"{name}0")).filter("bad", which).mean().clip(0).alias(name)
        for name, which in (("touch", "called"), ("rest", "called"), ("away", does))
    )
    each = bare.group_by(PAIR).agg(touch, rest, away, count=does.filter("bad").sum())
    both = pl.min_horizontal("touch", pl.col("rest") / BEHIND)
    share = pl.when(both > 0).then((both - pl.col("away")) / pl.col("touch")).otherwise(0.0)
    return each.select(*PAIR, apart=pl.when(pl.col("count") >= LEAST).then(share.clip(0, 1)))


def relieved(spans: pl.DataFrame, bare: pl.DataFrame) -> pl.DataFrame:
    """`spans` with less self-time where a caller without spans for its calls waits for a callee,
    as far as it is known to be the way there that takes longer."""
    beyond = (pl.col("touch") - pl.col("touch0")).clip(lower_bound=0) * pl.col("apart")
    waits = bare.filter(pl.col("called"), beyond > 0).group_by("trace_id", "span_id")
    wait = waits.agg(beyond.max().cast(pl.Int64).alias("wait"))
    if not wait.height:
        return spans
    joined = spans.join(wait, on=["trace_id", "span_id"], how="left", maintain_order="left")
    left = (pl.col("self_ns") - pl.col("wait").fill_null(0)).clip(lower_bound=0)
    return joined.with_columns(self_ns=left).drop("wait")


def _grown(calls: pl.DataFrame) -> pl.DataFrame:
    """Per edge the growth of its median gap, as z over healthy spread, in ns of all calls."""
    gap = pl.col("gap")
    each = calls.group_by(PAIR).agg(
        gap.filter(~pl.col("bad")).median().alias("before"),
        (
            gap.filter(~pl.col("bad")).quantile(0.75) - gap.filter(~pl.col("bad")).quantile(0.25)
        ).alias("iqr"),
        gap.filter("bad").median().alias("after"),
        pl.col("bad").sum().alias("count"),
        (~pl.col("bad")).sum().alias("seen"),
    )
    each = each.filter(pl.col("count") >= 2, pl.col("seen") >= 2).sort(PAIR)
    error = 1.25 * pl.col("iqr") / 1.35 / pl.col("count").sqrt()  # of a median of so many
    spread = pl.col("iqr") / 1.35 + MS + 0.1 * pl.col("before").abs()
    rise = pl.col("after") - pl.col("before")
    return each.with_columns(
        z=(rise - error).clip(lower_bound=0) / spread,
        lost=(rise - error).clip(lower_bound=0) * pl.col("count"),
    )


def _others(grown: pl.DataFrame) -> pl.DataFrame:
    """For each edge the median growth of its caller's other edges (0 where there are none)."""
    pairs = grown.select("caller", "callee").join(
        grown.select("caller", "z", rival="callee"), on="caller"
    )
    pairs = pairs.filter(pl.col("callee") != pl.col("rival"))
    return pairs.group_by("caller", "callee").agg(
        pl.col("z").median().clip(lower_bound=0.0).alias("other")
    )


def _shared(blamed: pl.DataFrame) -> pl.DataFrame:
    """Edges with the share of all that is `lost` (time, calls) that is lost at the callee, and how
    much the loss is `rather` the callee's: less where as much is lost on the way to the caller."""
    total = max(blamed["lost"].sum(), 1.0)
    share = (pl.col("lost").sum() / total).alias
    calls = blamed.select("lost", service="caller")
    asked = blamed.select("lost", service="callee")
    each = pl.concat([calls, asked]).group_by("service").agg(share("explained"))
    before = asked.group_by("service").agg(share("before_it"))
    both = blamed.join(each, left_on="callee", right_on="service", how="left").join(
        before, left_on="caller", right_on="service", how="left"
    )
    rather = pl.col("explained") / (pl.col("explained") + pl.col("before_it").fill_null(0.0))
    return both.with_columns(rather=pl.when(pl.col("explained") > 0).then(rather).otherwise(1.0))


def _loss(calls: pl.DataFrame, spans: pl.DataFrame, outside: pl.DataFrame) -> pl.DataFrame:
    """Calls with a gap far beyond the usual, and calls that no span of the callee answers: the
    growth of their share, less that of the caller's other edges; less sure where the caller has no
    span for the call alone, and its own slowness looks the same. Where nearly every call of an edge
    is late it is a delay."""
    late = _late(calls)
    lost = spans.filter("unanswered").select(
        "callee", "bad", "client", caller="service", hit="error"
    )
    counted = _counted(pl.concat([late.drop("pod"), lost.select(*PAIR, "bad", "client", "hit")]))
    whole = _together(_beside(counted, outside)).join(_of_pods(late), on="callee", how="left")
    likely = likelihood(pl.col("k1"), pl.col("n1"), pl.col("k0"), pl.col("n0")).clip(0, None)
    all_late = pl.col("late").fill_null(0.0) > 0.6  # of a pod's calls: delayed, not lost
    seen = pl.col("grown") * pl.col("explained").sqrt() * (1 - (-likely / 4).exp())
    return frame(
        whole.filter(pl.col("k1") >= 3).select(
            service="callee",
            modality=pl.lit("loss"),
            fault=pl.when(all_late).then(pl.lit("network_delay")).otherwise(pl.lit("network_loss")),
            score=20 * pl.col("known") * seen,
            before=pl.col("k0") / pl.col("n0"),
            after=pl.col("k1") / pl.col("n1"),
        )
    )


def _late(calls: pl.DataFrame) -> pl.DataFrame:
    """Calls, with a `hit` where the gap is far beyond what is usual of the edge."""
    usual = (
        calls.filter(~pl.col("bad")).group_by(PAIR).agg(pl.col("gap").quantile(0.98).alias("q98"))
    )
    return calls.join(usual, on=PAIR).select(
        *PAIR, "bad", "pod", "client", hit=pl.col("gap") > 1.5 * pl.col("q98") + TAIL
    )


def _of_pods(late: pl.DataFrame) -> pl.DataFrame:
    """(callee, late): of the pod that is late most, the share of its calls that are."""
    pods = late.filter("bad").group_by("callee", "pod")
    each = pods.agg(pl.col("hit").mean().alias("late"), pl.len().alias("calls"))
    return each.filter(pl.col("calls") >= 3).group_by("callee").agg(pl.col("late").max())


def _counted(calls: pl.DataFrame) -> pl.DataFrame:
    """Of each edge its calls in the window and in healthy time (n1, n0), the hits among them (k1,
    k0), and whether the caller has a span for the call alone."""
    bad, hit = pl.col("bad"), pl.col("hit")
    each = calls.group_by(PAIR).agg(
        hit.filter(bad).sum().alias("k1"),
        bad.sum().alias("n1"),
        hit.filter(~bad).sum().alias("k0"),
        (~bad).sum().alias("n0"),
        pl.col("client").any(),
    )
    return each.filter(pl.col("n1") >= 2, pl.col("n0") >= 2).sort(PAIR)


def _beside(counted: pl.DataFrame, outside: pl.DataFrame) -> pl.DataFrame:
    """Edges with what their share of hits grew `beyond` what grew around them, and `explained`."""
    before, after = pl.col("k0") / pl.col("n0"), pl.col("k1") / pl.col("n1")
    each = counted.with_columns(z=(after - before).clip(lower_bound=0))
    each = each.join(_others(each), on=PAIR, how="left").join(outside, on=PAIR, how="left")
    some = (1 - 2 * (after - 0.5)).clip(0, 1)
    each = each.with_columns(beyond=_beyond() * some)
    each = _shared(each.with_columns(lost=pl.col("beyond") * pl.col("n1")))
    return each.with_columns(beyond=pl.col("beyond") * pl.col("rather"))


def _together(each: pl.DataFrame) -> pl.DataFrame:
    """All edges of a callee: their counts, how well `known` they are, and what has `grown`."""
    return each.group_by("callee").agg(
        pl.col("k1", "n1", "k0", "n0").sum(),
        pl.when(pl.col("client").any()).then(1.0).otherwise(0.6).alias("known"),
        ((pl.col("beyond") * pl.col("n1")).sum() / pl.col("n1").sum()).alias("grown"),
        pl.col("explained").first(),
    )
