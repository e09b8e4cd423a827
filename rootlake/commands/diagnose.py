"""name the root cause of an incident, with evidence

INCIDENT is an id that `rootlake detect` printed; --at a time at which something was wrong.
--baseline is a stretch of healthy time (found from the data where none is given).

example:
  rootlake diagnose --at 2025-03-11T14:07Z
  rootlake diagnose --at 2025-03-11T14:07Z --service checkout --json
  rootlake diagnose --at 2023-01-29T08:45Z --baseline 2023-01-29T08:49:00Z/2023-01-29T08:50:10Z"""

from __future__ import annotations

import argparse
from typing import Any

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("incident", nargs="?", metavar="INCIDENT", help="an incident's id")
    parser.add_argument("--at", metavar="T", help="when it was noticed")
    parser.add_argument("--service", metavar="S", help="the service that was seen to fail")
    parser.add_argument("--alert", metavar="FILE", help="an alert's JSON: time and service")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="FROM/TO",
        help="healthy time; may be repeated and may lie after --at",
    )


def run(context: Context) -> int:
    from rca.diagnose import diagnose

    lake = context.lake.require()
    question = asked(context)
    with context.progress("diagnose"):
        answer = diagnose(lake, question)
    if context.json:
        context.answer(answer)
    else:
        from rca.report.terminal import render

        render(answer, context.out, context.called)
    return 3 if context.strict and answer["verdict"] == "inconclusive" else 0


def asked(context: Context) -> Any:
    """The question the options make, or UsageError."""
    from lake.errors import UsageError
    from rca.question import Question, of_alert, of_incident
    from rootlake.times import moment, span

    given = context.arguments
    ways = [name for name in ("incident", "at", "alert") if getattr(given, name)]
    if len(ways) != 1:
        raise UsageError("say what to diagnose, once: an INCIDENT id, --at TIME, or --alert FILE.")
    baselines = tuple(span(text) for text in given.baseline)
    if given.incident:
        return of_incident(context.lake, given.incident, baselines)
    if given.alert:
        return of_alert(given.alert, baselines)
    return Question(at=moment(given.at), service=given.service, baselines=baselines)
