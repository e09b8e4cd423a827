"""Network: the time around a call that neither the caller nor the callee spends.

Around each call: what passes between the caller's previous doing (its start, or the end of the
call before) and the callee's start, and, where a span of the caller's stands for the call alone,
from the callee's end to that span's. Per
edge the median of it in the window less the one in healthy time, over the healthy spread, less
the median growth of the caller's other edges; blamed on the callee, the more the greater a part of
all that grew touches it. Loss shows in the tail instead: some calls wait for a packet to be sent
again, some are never answered.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame
from rca.suspects.failures import likelihood

MS = 1e6
PAIR = ["caller", "callee"]
TAIL = 15 * MS  # beyond what is usual: no retransmission takes less


def edges(spans: pl.DataFrame) -> pl.DataFrame:
    """Calls between services: caller, callee, pod (the callee's), gap in ns, bad; `client` where
    the caller has a span for the call alone."""
    calls = spans.filter(
        pl.col("kind").fill_null("") != "consumer", pl.col("caller") != pl.col("service")
    )
    return calls.select(
        *("trace_id", "parent_span_id", "caller", "bad", "pod", "cluster", "gap", "start"),
        callee="service",
        client="alone",
    )


def score(spans: pl.DataFrame) -> pl.DataFrame:
    """What the gaps of its callers' edges say against each service."""
    calls = edges(spans)
    grown = _grown(calls)
    blamed = grown.join(_others(grown), on=PAIR, how="left").with_columns(
        blame=(pl.col("z") - pl.col("other").fill_null(0.0)).clip(lower_bound=0)
    )
    each = blamed.group_by("callee").agg(
        pl.col("blame").max().alias("most"),
        ((pl.col("blame") * pl.col("count")).sum() / pl.col("count").sum()).alias("usual"),
        pl.col("caller").sort_by("blame", "caller").last(),
        (pl.col("before").sort_by("blame", "caller").last() / MS).alias("before"),
        (pl.col("after").sort_by("blame", "caller").last() / MS).alias("after"),
    )
    each = each.join(_explained(blamed), left_on="callee", right_on="service", how="left")
    share = pl.col("explained").fill_null(0.0).sqrt()
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
    return pl.concat([frame(delay), _loss(calls, spans)])


def relieved(spans: pl.DataFrame) -> pl.DataFrame:
    """`spans` with less self-time where a caller without spans for its calls waits for a callee,
    and it is known to be the way there that takes longer: its other calls take what they took."""
    calls = edges(spans)
    grown = _grown(calls)
    apart = grown.join(_others(grown), on=PAIR).filter(pl.col("z") > 1 + 3 * pl.col("other"))
    wait = calls.filter(~pl.col("client")).join(apart.select(*PAIR, "before"), on=PAIR)
    wait = wait.group_by("trace_id", span_id="parent_span_id").agg(
        (pl.col("gap") - pl.col("before")).clip(lower_bound=0).sum().cast(pl.Int64).alias("wait")
    )
    if not wait.height:
        return spans
    joined = spans.join(wait, on=["trace_id", "span_id"], how="left", maintain_order="left")
    left = (pl.col("self_ns") - 2 * pl.col("wait").fill_null(0)).clip(lower_bound=0)
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


def _explained(blamed: pl.DataFrame) -> pl.DataFrame:
    """(service, explained): the share of all time lost that is lost on edges at the service."""
    ends = pl.concat(
        [
            blamed.select("lost", service="caller"),
            blamed.select("lost", service="callee"),
        ]
    )
    total = blamed["lost"].sum()
    return ends.group_by("service").agg((pl.col("lost").sum() / max(total, 1.0)).alias("explained"))


def _loss(calls: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Calls with a gap far beyond the usual, and calls that no span of the callee answers: the
    growth of their share, less that of the caller's other edges; less sure where the caller has no
    span for the call alone, and its own slowness looks the same. Where nearly every call is late it
    is a delay."""
    usual = (
        calls.filter(~pl.col("bad")).group_by(PAIR).agg(pl.col("gap").quantile(0.98).alias("q98"))
    )
    late = calls.join(usual, on=PAIR).select(
        *PAIR, "bad", "pod", "client", hit=pl.col("gap") > 1.5 * pl.col("q98") + TAIL
    )
    whole_pods = (
        late.filter("bad")
        .group_by("callee", "pod")
        .agg(pl.col("hit").mean().alias("late"), pl.len().alias("calls"))
        .filter(pl.col("calls") >= 3)
        .group_by("callee")
        .agg(pl.col("late").max())
    )
    lost = spans.filter("unanswered").select(
        "callee", "bad", "client", caller="service", hit="error"
    )
    each = (
        pl.concat([late.drop("pod"), lost.select(*PAIR, "bad", "client", "hit")])
        .group_by(PAIR)
        .agg(
            pl.col("hit").filter("bad").sum().alias("k1"),
            pl.col("bad").sum().alias("n1"),
            pl.col("hit").filter(~pl.col("bad")).sum().alias("k0"),
            (~pl.col("bad")).sum().alias("n0"),
            pl.col("client").any(),
        )
        .filter(pl.col("n1") >= 2, pl.col("n0") >= 2)
        .sort(PAIR)
    )
    before, after = pl.col("k0") / pl.col("n0"), pl.col("k1") / pl.col("n1")
    each = each.with_columns(z=(after - before).clip(lower_bound=0))
    each = each.join(_others(each), on=PAIR, how="left").with_columns(
        beyond=(pl.col("z") - pl.col("other").fill_null(0.0)).clip(lower_bound=0)
    )
    whole = each.group_by("callee").agg(
        pl.col("k1", "n1", "k0", "n0").sum(),
        pl.when(pl.col("client").any()).then(1.0).otherwise(0.6).alias("known"),
        ((pl.col("beyond") * pl.col("n1")).sum() / pl.col("n1").sum()).alias("grown"),
    )
    likely = likelihood(pl.col("k1"), pl.col("n1"), pl.col("k0"), pl.col("n0")).clip(0, None)
    some = (1 - 2 * (after - 0.5)).clip(0, 1)
    all_late = pl.col("late").fill_null(0.0) > 0.6  # of a pod's calls: delayed, not lost
    return frame(
        whole.join(whole_pods, on="callee", how="left")
        .filter(pl.col("k1") >= 3)
        .select(
            service="callee",
            modality=pl.lit("loss"),
            fault=pl.when(all_late).then(pl.lit("network_delay")).otherwise(pl.lit("network_loss")),
            score=20 * pl.col("known") * pl.col("grown") * some * (1 - (-likely / 4).exp()),
            before=before,
            after=after,
        )
    )
