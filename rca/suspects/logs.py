"""Logs: templates whose share of requests flips.

Per (service, entry operation, template): of the requests that reached the service, the share
whose trace wrote it, in the window against healthy time. Only ordinary templates that fall silent
or are new, and WARN or ERROR templates that rise count. A request in which a service further in
behaves oddly too does not count against the service around it: what fails inside is passed up,
and each service on the way complains of it.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame
from rca.suspects.failures import MOST, gave_up, likelihood

LOUD = ("WARN", "ERROR", "FATAL")
THROWN = r"(?i)exception|traceback|panic|threw|stack ?trace|segfault|unhandled|error:"
TELLING = 0.3  # the score from which a flip marks the requests it is seen in as odd
KNOWN, RARE = 100, 0.01  # healthy requests after which a line in fewer of them is a strange one
FEW = 3  # requests that write a line, of which it is said how often each does
KEY = ["service", "entry", "template_id"]
OFTEN = [pl.col(f"s{i}") / pl.col(f"k{i}") for i in (1, 0)]  # lines of a request that writes one
NEARLY = 0.98  # of the requests in which a line is written, that reach the operation it is of


def flips(visits: pl.DataFrame, lines: pl.DataFrame, passed: pl.DataFrame) -> pl.DataFrame:
    """Every (service, entry, template) with its shares and score; `passed` (trace_id, service)
    are left out of the count. An ordinary line is counted against the requests that reached the
    operation it is written by: a service that is asked for less is not silent."""
    visits, lines = (
        rows.join(passed, on=["trace_id", "service"], how="anti") if passed.height else rows
        for rows in (visits, lines)
    )
    near = pl.col("trace_id").filter(pl.col("bad").is_null()).len()
    reached = visits.group_by("service", "entry", "operation").agg(
        pl.col("bad").sum().alias("n1"), (~pl.col("bad")).sum().alias("n0"), near.alias("nn")
    )
    counted = lines.group_by(*KEY, "operation").agg(
        pl.col("bad").sum().alias("k1"),
        (~pl.col("bad")).sum().alias("k0"),
        pl.col("bad").is_null().sum().alias("kn"),
        *(
            pl.col("lines").pow(power).filter(which).sum().alias(f"{name}{number}")
            for power, name in ((1, "s"), (2, "q"))
            for which, number in (("bad", 1), (~pl.col("bad"), 0))
        ),
        pl.col("loud").any(),
        pl.col("pod").filter("bad").mode().sort().first().alias("pod"),
    )
    joined = counted.join(reached, on=["service", "entry", "operation"])
    joined = joined.filter(pl.col("n1") >= 2, pl.col("n0") >= 2)
    return pl.concat([_scored(joined), _scored(_whatever_entry(counted, reached))])


def _whatever_entry(counted: pl.DataFrame, reached: pl.DataFrame) -> pl.DataFrame:
    """The counts of all entries together, for a line that hardly any healthy request wrote: that is
    so whatever is asked for, and of each entry there may be few."""
    lines = counted.group_by("service", "template_id", "operation").agg(
        pl.col("entry"),
        pl.col("loud").any(),
        pl.col("pod").mode().sort().first(),
        pl.selectors.numeric().sum(),
    )
    every = reached.group_by("service", "operation").agg(pl.col("n0", "n1", "nn").sum())
    rare = lines.join(every, on=["service", "operation"]).filter(
        pl.col("n0") >= KNOWN, pl.col("k0") <= RARE * pl.col("n0"), pl.col("k1") >= 3
    )
    return rare.explode("entry").select(*counted.columns, "n1", "n0", "nn")


def visits_of(spans: pl.DataFrame) -> pl.DataFrame:
    """The requests that reached each service (operation ''), and each of its operations that others
    ask for, with how often they are `asked`."""
    outer = (pl.col("caller").is_null() | (pl.col("caller") != pl.col("service"))).fill_null(
        value=True
    )
    first = pl.col("entry", "bad").first()
    whole = spans.group_by("trace_id", "service").agg(first, asked=outer.sum())
    parts = spans.filter(outer).group_by("trace_id", "service", "operation")
    columns = ("trace_id", "service", "entry", "bad", "operation", "asked")
    return pl.concat(
        [
            whole.with_columns(operation=pl.lit("")).select(columns),
            parts.agg(first, asked=pl.len()).select(columns),
        ]
    )


def _homes(lines: pl.DataFrame, visits: pl.DataFrame) -> pl.DataFrame:
    """(service, template_id, operation): the least often asked for operation that was reached in
    nearly all requests in which an ordinary line was written."""
    quiet = lines.filter(~pl.col("loud"))
    by = ["service", "template_id"]
    beside = quiet.select("trace_id", *by).join(
        visits.filter(pl.col("operation") != "").select("trace_id", "service", "operation"),
        on=["trace_id", "service"],
    )
    size = visits.group_by("service", "operation").agg(pl.len().alias("visits"))
    held = beside.group_by(*by, "operation").agg(pl.len().alias("held"))
    held = held.join(quiet.group_by(by).agg(pl.len().alias("all")), on=by)
    held = held.filter(pl.col("all") >= 5, pl.col("held") >= NEARLY * pl.col("all"))
    held = held.join(size, on=["service", "operation"])
    return held.sort("visits", "operation").unique(by, keep="first").select(*by, "operation")


def written(logs: pl.DataFrame, visits: pl.DataFrame) -> pl.DataFrame:
    """(…, lines): how often each request wrote each template, each time it was asked."""
    severe = pl.col("severity").is_in(LOUD)
    each = (
        logs.filter(pl.col("trace_id").is_not_null())
        .group_by("trace_id", "service", "template_id")
        .agg(
            pl.len().cast(pl.Float64).alias("lines"),
            severe.any().alias("loud"),
            pl.col("pod").first(),
        )
    )
    homes = _homes(each, visits)
    each = each.join(homes, on=["service", "template_id"], how="left")
    each = each.with_columns(pl.col("operation").fill_null(""))
    found = each.join(visits, on=["trace_id", "service", "operation"])
    often = pl.col("lines") / pl.col("asked").clip(lower_bound=1)
    return found.with_columns(lines=(often * 1024).round() / 1024)  # sums alike in any order


def _scored(counted: pl.DataFrame) -> pl.DataFrame:
    """Presence: log-likelihood ratio × Δp², for a rising loud line × Δp, because what it tells of
    may touch few requests. Weighed by how well the minutes just before the window agree with
    healthy time: what was so before is not the incident's. An ordinary line that hardly any of
    KNOWN healthy requests wrote tells as much as a loud one. It may also come less often in each
    request that writes it at all (Welch's t² / 6 × relative fall²)."""
    p1, p0 = pl.col("k1") / pl.col("n1"), pl.col("k0") / pl.col("n0")
    likely = likelihood(pl.col("k1") + 0.5, pl.col("n1") + 1, pl.col("k0") + 0.5, pl.col("n0") + 1)
    entries = pl.len().over("service", "template_id")  # the best of so many is taken
    likely = (likely - entries.log()).clip(0, MOST)
    quiet = pl.when(p1 < p0).then(likely * (p1 - p0) ** 2).otherwise(0.0)
    loud = pl.when(p1 > p0).then(likely * (p1 - p0)).otherwise(0.0)
    known = (pl.col("n0") >= KNOWN) & (pl.col("k1") >= 3)
    strange = known & (p0 <= RARE) & (p1 > p0)
    quiet = pl.max_horizontal(quiet, pl.when(strange).then(loud).otherwise(0.0))
    agrees = as_before(p1, p0)
    return counted.with_columns(
        before=p0,
        after=p1,
        strange=strange,
        rise=pl.when(strange).then(loud).otherwise(likely * (p1 - p0).clip(0) ** 2),
        flip=pl.when("loud").then(loud * agrees.clip(0.5)).otherwise(quiet * agrees**1.5),
        fewer=pl.when("loud").then(0.0).otherwise(_fewer()),
    ).with_columns(score=pl.max_horizontal("flip", "fewer"))


def _fewer() -> pl.Expr:
    """How much less often each request that writes a line does so (see `_scored`)."""
    m1, m0 = OFTEN
    floor = 0.15 * pl.max_horizontal(m1, m0)
    spread = sum(
        pl.max_horizontal(pl.col(f"q{i}") / pl.col(f"k{i}") - mean**2, floor) / pl.col(f"k{i}")
        for i, mean in ((1, m1), (0, m0))
    )
    told = ((m1 - m0) ** 2 / spread / 6).clip(0, MOST) * (1 - m1 / m0) ** 2
    enough = (pl.col("k1") >= FEW) & (pl.col("k0") >= FEW)
    return pl.when(enough, m1 < m0, m0 > 1.5).then(told).otherwise(0.0)


def as_before(p1: pl.Expr, p0: pl.Expr) -> pl.Expr:
    """Between 0.25 and 1: how much better the minutes just before (kn of nn) agree with the healthy
    share than with the window's; 1 where there are none."""
    kn, nn = pl.col("kn"), pl.col("nn")

    def logl(p: pl.Expr) -> pl.Expr:
        safe = p.clip(0.03, 0.97)
        return kn * safe.log() + (nn - kn) * (1 - safe).log()

    return (2.0 / (1.0 + (logl(p1) - logl(p0)).clip(-20, 20).exp())).clip(0.25, 1.0)


def odd(visits: pl.DataFrame, lines: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """(trace_id, service): the window's requests in which a service does what it did not do in
    healthy time: it fails, writes a loud or strange line that is new, or leaves out one it always
    wrote."""
    failed = spans.filter("bad", "error").select("trace_id", "service")
    now = lines.filter("bad")
    if not now.height:
        return failed.unique()
    telling = flips(visits, lines, failed.clear()).filter(pl.col("score") > TELLING)
    loud = telling.filter(pl.col("loud") | pl.col("strange")).select(KEY)
    rising = now.join(loud, on=KEY, how="semi").select("trace_id", "service")
    always = telling.filter(~pl.col("loud"), pl.col("before") > 0.8).select(*KEY, "operation")
    asked = visits.filter("bad").join(always, on=["service", "entry", "operation"])
    silent = asked.join(now, on=["trace_id", *KEY], how="anti").select("trace_id", "service")
    return pl.concat([failed, rising, silent]).unique()


def passed_on(marked: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The (trace_id, service) of `marked` around others of it: what they do is passed up."""
    stay = (
        spans.join(marked.select("trace_id").unique(), on="trace_id", how="semi")
        .group_by("trace_id", "service")
        .agg(
            pl.col("start_ns").min().alias("start"),
            (pl.col("start_ns") + pl.col("duration_ns")).max().alias("end"),
        )
    )
    here = marked.join(stay, on=["trace_id", "service"])
    return (
        here.join(here, on="trace_id", suffix="_within")
        .filter(
            pl.col("service") != pl.col("service_within"),
            pl.col("start") < pl.col("start_within"),
            pl.col("end") > pl.col("end_within"),
        )
        .select("trace_id", "service")
        .unique()
    )


def score(logs: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The worst flip of each service. Where another line is written instead, the service answered
    wrongly; where lines only break off, or tell of something thrown, it is an exception's."""
    if not logs.height:
        return frame(pl.DataFrame(schema={"service": pl.String, "score": pl.Float64}))
    calls = spans.filter(pl.col("caller") != pl.col("service"))
    calls = calls.select(service="caller", callee="service").unique()
    logs = logs.join(complaints(logs, calls), on=["service", "template_id"], how="anti")
    logs, spans = _numbered(logs), _numbered(spans)
    visits = visits_of(spans)
    lines = written(logs, visits)
    marked = odd(visits, lines, spans)
    waited = pl.concat([spans.filter("error", "client"), gave_up(spans)]).filter("bad")
    waited = waited.select("trace_id", "service")
    passed = pl.concat([passed_on(marked, spans), waited]).unique()
    every = flips(visits, lines, passed)
    found = every.filter(pl.col("score") > 0)
    worst = found.sort("score", *KEY, descending=[True, False, False, False]).unique(
        "service", keep="first", maintain_order=True
    )
    worst = worst.join(_instead(every, logs), on="service", how="left")
    worst = worst.join(_failing(marked, spans), on="service", how="left")
    instead = pl.col("instead").fill_null(0.0) > 0.15 * pl.col("score")
    instead &= pl.col("instead").fill_null(0.0) >= pl.col("thrown").fill_null(0.0)
    wrong = instead & (pl.col("failing").fill_null(0.0) < 0.3)
    often = pl.col("fewer") > pl.col("flip")
    after, before = OFTEN
    return frame(
        worst.select(
            "service",
            modality=pl.when(often).then(pl.lit("logs/often")).otherwise(pl.lit("logs")),
            fault=pl.when(wrong).then(pl.lit("wrong_return")).otherwise(pl.lit("exception")),
            score="score",
            pod="pod",
            subject="template_id",
            before=pl.when(often).then(before).otherwise("before"),
            after=pl.when(often).then(after).otherwise("after"),
        )
    )


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with a number for a trace's id: a fraction of the cost where they are joined."""
    trace = pl.when(pl.col("trace_id").is_not_null()).then(pl.col("trace_id").hash())
    return rows.with_columns(trace.alias("trace_id"))


def complaints(lines: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """(service, template_id) of loud lines that name a service the writer calls."""
    by = ["service", "template_id"]
    loud = lines.filter(pl.col("severity").is_in(LOUD)).select(*by, "template").unique()
    named = pl.col("template").str.contains(pl.col("callee"), literal=True)
    return loud.join(calls, on="service").filter(named).select(by).unique()


def _instead(every: pl.DataFrame, logs: pl.DataFrame) -> pl.DataFrame:
    """(service, instead, thrown): the strongest rise among its lines of any severity, of those
    that tell of nothing thrown and of those that do."""
    texts = logs.select("template_id", "template").unique("template_id")
    rises = every.filter(pl.col("after") > pl.col("before")).join(texts, on="template_id")
    thrown = pl.col("template").str.contains(THROWN).fill_null(value=False)
    return rises.group_by("service").agg(
        pl.col("rise").filter(~thrown).max().alias("instead"),
        pl.col("rise").filter(thrown).max().alias("thrown"),
    )


def _failing(marked: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """(service, failing): of the requests in which a service is odd, the share that fail."""
    failed = spans.filter("error", "bad").select("trace_id", "service").unique()
    hit = marked.join(
        failed.with_columns(hit=pl.lit(value=True)), on=["trace_id", "service"], how="left"
    )
    return hit.group_by("service").agg(pl.col("hit").fill_null(value=False).mean().alias("failing"))
