"""turn raw rows into clean ones, with an audit of every change

Only days that new raw rows touch are computed; a second run changes nothing. --explain shows a
trace before and after. --undo takes a rule back, or what a run changed, and keeps it out until
--redo; `rootlake status` lists what is kept out. --upgrade makes days again that other versions
of the rules made.

example:
  rootlake repair
  rootlake repair --date 2025-03-11
  rootlake repair --explain 7d2f0c41e5a94b6f8a3c5e1d9b7f2a60
  rootlake repair --undo clock_skew --date 2025-03-11 --reason "NTP was right that day"
  rootlake repair --undo repair-20250312T081500.000000
  rootlake repair --redo clock_skew
  rootlake repair --upgrade"""

from __future__ import annotations

import argparse
from datetime import date
from typing import Any

from lake.errors import UsageError
from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--date", metavar="D", help="this day alone (2025-03-11)")
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--explain", metavar="TRACE", help="a trace before and after, with reasons")
    act.add_argument("--undo", metavar="RULE|RUN", help="take it back and keep it out")
    act.add_argument("--redo", metavar="RULE|RUN", help="let it be repaired again")
    act.add_argument(
        "--upgrade", action="store_true", help="also make days that older rules made again"
    )
    parser.add_argument("--reason", metavar="TEXT", help="with --undo: kept in `suppressions`")


def run(context: Context) -> int:
    from rootlake.times import moment

    given = context.arguments
    _fitting(given)
    day = moment(given.date).date() if given.date is not None else None
    if given.explain is not None:
        return _explain(context, given.explain)
    context.lake.require()
    if day:
        _warned(context, day)
    told: dict[str, Any] = {}
    if given.undo is not None:
        told = _undo(context, given.undo, day, given.reason)
    elif given.redo is not None:
        told = _redo(context, given.redo, day)
    return _repair(context, None if told else day, told)


def _fitting(given: argparse.Namespace) -> None:
    """UsageError for options that would not be heeded."""
    if given.explain == "":
        raise UsageError("--explain is empty; give a trace id.")
    if given.explain is not None and given.date is not None:
        raise UsageError("--date does not go with --explain: a trace is shown on all its days.")
    if given.reason is not None and given.undo is None:
        raise UsageError("--reason is kept with what --undo takes back; name it.")


def _warned(context: Context, day: date) -> None:
    """A word where there is no row of a day: it may be mistyped."""
    from quality.stages import STAGES

    days = {one for stage in STAGES for one in context.lake.days(stage.raw)}
    days |= {one for stage in STAGES for one in context.lake.days(stage.clean)}
    if day not in days:
        held = sorted(one for one in days if one.year > 1970)
        known = f"the days are {held[0]} … {held[-1]}" if held else "the lake is empty"
        context.err.print(f"[yellow]there are no rows of {day} yet[/yellow]; {known}.")


def _repair(context: Context, day: date | None, told: dict[str, Any]) -> int:
    from quality.run import repair
    from rca.intents import label

    with context.progress("repair") as say:
        summary = repair(
            context.lake,
            [day] if day else None,
            progress=say,
            upgrade=context.arguments.upgrade,
            expected=context.config.expected(),
        )
        label(context.lake)
    if context.json:
        context.answer({**summary.as_dict(), **told})
    else:
        from rootlake.tables import repair_summary

        repair_summary(context.out, summary.as_dict())
    if summary.refused:
        return 1
    return 3 if context.strict and summary.quarantined else 0


def _undo(context: Context, what: str, day: date | None, reason: str | None) -> dict[str, Any]:
    from quality.undo import undo, unplaced

    left = unplaced(context.lake, what, day) if day else 0
    held = undo(context.lake, what, day, reason)
    if left:
        context.err.print(
            f"[yellow]{left:,} rows that {what} changed came to {day} from another day and stay"
            " as they are;[/yellow] undo it for the day they were received for, or everywhere."
        )
    if not context.json:
        context.out.print(f"kept out: {_names(held.rows(named=True))}", markup=False)
    return {"undone": held.to_dicts()}


def _redo(context: Context, what: str, day: date | None) -> dict[str, Any]:
    from quality.undo import redo

    gone = redo(context.lake, what, day)
    if not context.json:
        context.out.print(f"repaired again: {_names(gone.rows(named=True))}", markup=False)
    return {"redone": gone.to_dicts()}


def _names(rows: list[dict[str, Any]]) -> str:
    """Rules and the days they concern."""
    days: dict[str, list[str]] = {}
    for row in rows:
        days.setdefault(row["rule"], []).append(str(row["date"] or "every day"))
    return ", ".join(f"{rule} ({', '.join(sorted(some))})" for rule, some in sorted(days.items()))


def _explain(context: Context, trace: str) -> int:
    from quality.explain import explain

    found = explain(context.lake.require(), trace)
    if context.json:
        context.answer(found)
    else:
        from rootlake.explained import explained

        explained(context.out, found)
    return 0
