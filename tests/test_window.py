"""The window a diagnosis looks at, and what a line that is new tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from rca import window
from rca.facts import Facts
from rca.question import Question
from rca.suspects import logs, untraced

AT = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_the_time_before_is_looked_at_but_not_what_is_named_healthy() -> None:
    first = window.first_look(Question(AT))
    assert window.wider(Question(AT), first)[0] == AT - 15 * MINUTE
    for start, end, begins in [
        (-60, -30, -15),
        (-60, -7, -7),
        (-10, 5, -2),
        (60, 90, -15),
    ]:
        named = Question(AT, baselines=((AT + start * MINUTE, AT + end * MINUTE),))
        assert window.wider(named, first) == (AT + begins * MINUTE, first[1])
        assert window.reach(named) == (window.wider(named, first), named.baselines)


def test_healthy_time_that_lies_after_counts_as_before() -> None:
    times = [AT + step * MINUTE / 4 for step in range(80)]
    stretch = (AT, AT + 5 * MINUTE)
    told = [(ts, ts < stretch[1], 9.0 if ts < stretch[1] else 1.0) for ts in times]
    samples = pl.DataFrame(told, schema=["ts", "bad", "value"], orient="row").with_columns(
        service=pl.lit("a"), metric=pl.lit("cpu")
    )
    seen = Facts(stretch, (), pl.DataFrame(), pl.DataFrame(), samples, pl.DataFrame())
    row: dict[str, Any] = {"service": "a", "modality": "metrics/cpu", "subject": "cpu"}
    assert window.onset_of(seen, {**row, "before": 1.0, "after": 9.0}) == AT


def scored(healthy: int, wrote_before: int) -> dict[str, float]:
    """The scores of a request's everyday line and of one that 5 of 20 bad requests wrote."""
    traces = pl.DataFrame({"n": range(healthy + 20)}).select(
        trace_id=pl.col("n").cast(pl.String),
        service=pl.lit("a"),
        entry=pl.lit("a get"),
        operation=pl.lit("get"),
        caller=pl.lit(None, pl.String),
        bad=pl.col("n") >= healthy,
        n="n",
    )
    odd = pl.col("n").is_between(healthy, healthy + 4) | (pl.col("n") < wrote_before)
    lines = pl.concat(
        [
            traces.select("trace_id", "service", template_id=pl.lit("usual")),
            traces.filter(odd).select("trace_id", "service", template_id=pl.lit("odd")),
        ]
    ).with_columns(severity=pl.lit("INFO"), pod=pl.lit("a-1"))
    none = traces.select("trace_id", "service").clear()
    visits = logs.visits_of(traces)
    found = logs.flips(visits, logs.written(lines, visits), none)
    return dict(found.select("template_id", "score").rows())


def test_an_ordinary_line_tells_when_it_is_strange_and_only_then() -> None:
    assert scored(200, 0)["odd"] > 1.0
    assert scored(200, 0)["usual"] == 0.0
    assert scored(200, 4)["odd"] == 0.0
    assert scored(60, 0)["odd"] == 0.0  # of so few nobody knows what is usual


def test_lines_without_trace_ids_are_counted_per_request() -> None:
    """`back` leaves out its everyday line; `front`, which calls it, complains and does so too."""
    calls = pl.DataFrame({"n": range(300)}).with_columns(bad=pl.col("n") >= 240)
    spans = pl.concat(
        [
            calls.select(
                "bad",
                trace_id=pl.col("n").cast(pl.String),
                service=pl.lit(service),
                caller=pl.lit(caller, pl.String),
                client=pl.lit(value=False),
                unanswered=pl.lit(value=False),
                error=pl.lit(value=False),
            )
            for service, caller in (("front", None), ("back", "front"))
        ]
    )
    usual = ~pl.col("bad") | (pl.col("n") % 2 == 0)
    told = [
        ("back", "stored <*>", "INFO", usual),
        ("front", "answered <*>", "INFO", usual),
        ("front", "nothing came of back", "ERROR", ~usual),
    ]
    lines = pl.concat(
        [
            calls.filter(which).select(
                "bad",
                service=pl.lit(service),
                template=pl.lit(text),
                template_id=pl.lit(text),
                severity=pl.lit(severity),
                trace_id=pl.lit(None, pl.String),
                pod=pl.lit(f"{service}-1"),
            )
            for service, text, severity, which in told
        ]
    )
    found = untraced.score(lines, spans)
    assert found.select("service", "subject", "fault").rows() == [
        ("back", "stored <*>", "wrong_return")
    ]
    assert found["score"][0] > 1.5
    traced = lines.with_columns(trace_id=pl.lit("1"))
    assert not untraced.score(traced, spans).height
