"""Which stretch of time is bad, and which is healthy."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from lake import Lake, UserError
from rca.facts import Facts
from rca.onset import change_point
from rca.question import Question, Stretch
from rca.suspects import latency, logs, network

BEFORE = timedelta(minutes=2)  # looked at first, before somebody noticed
AFTER = timedelta(seconds=30)
LONGEST = timedelta(minutes=15)
HEALTHY = timedelta(minutes=30)
GUARD = timedelta(minutes=1)
TIMES = (("spans", "start"), ("logs", "ts"), ("samples", "ts"), ("errors", "ts"))


def first_look(question: Question) -> Stretch:
    """The window before anything is known of the onset but what the question says."""
    start = question.onset or question.at - BEFORE
    return max(start, question.at - LONGEST), max(question.at, start + BEFORE) + AFTER


def healthy(question: Question, window: Stretch) -> tuple[Stretch, ...]:
    """The baselines given, else the half hour before the window."""
    return question.baselines or ((window[0] - GUARD - HEALTHY, window[0] - GUARD),)


def reach(question: Question) -> tuple[Stretch, tuple[Stretch, ...]]:
    """The recent and the healthy time that all looks of a diagnosis lie in."""
    stretch = first_look(question)
    if question.onset:
        return stretch, healthy(question, stretch)
    wide = wider(question, stretch)
    return wide, question.baselines or ((healthy(question, wide)[0][0], wide[0]),)


def wider(question: Question, stretch: Stretch) -> Stretch:
    """The window of the first look with the time before, in which it may have begun; not what is
    named healthy."""
    named = [min(end, stretch[0]) for start, end in question.baselines if start < stretch[0]]
    return max([stretch[0] - (LONGEST - BEFORE), *named]), stretch[1]


def require_telemetry(lake: Lake, window: Stretch) -> None:
    """UserError when nothing at all was recorded in the window."""
    for table, column in TIMES:
        some = lake.scan(table).filter(
            pl.col("date").is_between(window[0].date(), window[1].date()),
            pl.col(column) >= window[0],
            pl.col(column) < window[1],
        )
        if some.select(column).head(1).collect().height:
            return
    raise UserError(
        f"the lake has no repaired telemetry around {window[0]:%Y-%m-%d %H:%M} UTC;"
        f" {_recorded(lake)}."
        + (" Rows of that day wait for `rootlake repair`." if _waiting(lake, window) else "")
    )


def _recorded(lake: Lake) -> str:
    """From when to when each kind of telemetry lies."""
    said = []
    for table, column in TIMES:
        ends = lake.scan(table).select(low=pl.col(column).min(), high=pl.col(column).max())
        low, high = ends.collect().row(0)
        if low:
            said.append(f"{table} lie between {low:%Y-%m-%d %H:%M} and {high:%Y-%m-%d %H:%M}")
    return ", ".join(said) or "it is empty"


def _waiting(lake: Lake, window: Stretch) -> bool:
    """Whether raw telemetry of a window's days was received."""
    days = {window[0].date(), window[1].date()}
    return any(days & set(lake.days(f"raw_{table}")) for table, _ in TIMES)


def onset_of(facts: Facts, row: dict[str, object]) -> datetime | None:
    """When the finding against a suspect began, from its own events; healthy time counts as
    before, though it may lie after."""
    events = _events(facts, row)
    if events is None or not events.height:
        return None
    later = pl.col("ts") >= facts.window[1]
    earlier = pl.col("ts") - (events["ts"].max() - facts.window[0])  # type: ignore[operator]
    return change_point(events.with_columns(pl.when(later).then(earlier).otherwise("ts")))


def _events(facts: Facts, row: dict[str, object]) -> pl.DataFrame | None:
    """(ts, abnormal) of what the finding counts."""
    service, subject = row["service"], row["subject"]
    kind = str(row["modality"]).split("/")[0]
    if kind == "network":
        calls = network.edges(facts.spans).filter(
            pl.col("callee") == service, pl.col("caller") == subject
        )
        usual = calls.filter(~pl.col("bad"))["gap"].quantile(0.95) or 0.0
        return calls.select(ts="start", abnormal=pl.col("gap") > 1.5 * usual + network.MS)
    if kind == "loss":
        return _lost(facts, str(service))
    if kind == "latency":
        mine = latency.slow(facts.spans).filter(
            pl.col("service") == service, pl.col("operation") == subject
        )
        return mine.select(ts="start", abnormal="slow")
    if kind == "errors":
        mine = facts.spans.filter(pl.col("service") == service)
        return mine.select(ts="start", abnormal="error")
    if kind in {"lines", "reports"}:
        rows, name = (facts.logs, "template_id") if kind == "lines" else (facts.errors, "type")
        mine = rows.filter(pl.col("service") == service)
        return mine.select("ts", abnormal=pl.col(name) == subject)
    if row["modality"] == "logs/untraced":
        mine = facts.logs.filter(pl.col("service") == service)
        falls = float(row["after"] or 0) < float(row["before"] or 0)  # type: ignore[arg-type]
        return mine.select("ts", abnormal=(pl.col("template_id") == subject) != pl.lit(falls))
    if row["modality"] == "logs/often":
        usual = (float(row["before"] or 0) + float(row["after"] or 0)) / 2  # type: ignore[arg-type]
        return _rarer(facts, str(service), str(subject), usual)
    if kind == "logs":
        return _log_events(facts, str(service), str(subject))
    mine = facts.samples.filter(pl.col("service") == service, pl.col("metric") == subject)
    middle = (float(row["before"] or 0) + float(row["after"] or 0)) / 2  # type: ignore[arg-type]
    rises = float(row["after"] or 0) > float(row["before"] or 0)  # type: ignore[arg-type]
    beyond = pl.col("value") > middle if rises else pl.col("value") < middle
    return mine.select("ts", abnormal=beyond)


def _lost(facts: Facts, service: str) -> pl.DataFrame:
    """Calls to the service: abnormal when far later than usual, or failed and never answered."""
    calls = network.edges(facts.spans).filter(pl.col("callee") == service)
    usual = calls.filter(~pl.col("bad"))["gap"].quantile(0.98) or 0.0
    late = calls.select(ts="start", abnormal=pl.col("gap") > 1.5 * usual + network.TAIL)
    none = facts.spans.filter("unanswered", pl.col("callee") == service)
    return pl.concat([late, none.select(ts="start", abnormal="error")])


def _rarer(facts: Facts, service: str, template: str, usual: float) -> pl.DataFrame:
    """Requests that wrote the line: abnormal where less often than usual each time it was asked."""
    seen = logs.written(facts.logs, logs.visits_of(facts.spans))
    mine = seen.filter(pl.col("template_id") == template, pl.col("service") == service)
    began = facts.spans.filter(pl.col("service") == service).group_by("trace_id")
    when = began.agg(pl.col("start").min().alias("ts"))
    return mine.join(when, on="trace_id").select("ts", abnormal=pl.col("lines") < usual)


def _log_events(facts: Facts, service: str, template: str) -> pl.DataFrame:
    """Requests that reached the service: abnormal with a loud template, or without a quiet one."""
    mine = facts.logs.filter(pl.col("template_id") == template, pl.col("service") == service)
    wrote = mine.select("trace_id", "entry", wrote=pl.lit(value=True)).unique()
    reached = (
        facts.spans.filter(pl.col("service") == service)
        .group_by("trace_id", "entry")
        .agg(pl.col("start").min().alias("ts"))
    )
    entries = wrote.filter(pl.col("entry").is_not_null())["entry"].unique()
    asked = reached.filter(pl.col("entry").is_in(entries.implode()))
    joined = asked.join(wrote, on=["trace_id", "entry"], how="left")
    loud = mine["severity"].is_in(logs.LOUD).any()
    flag = pl.col("wrote").fill_null(value=False)
    return joined.select("ts", abnormal=flag if loud else ~flag)
