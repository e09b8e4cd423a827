"""turn raw rows into clean ones, with an audit of every change

Only days that new raw rows touch are computed; a second run changes nothing.

example:
  rootlake repair
  rootlake repair --date 2025-03-11"""

from __future__ import annotations

import argparse

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--date", metavar="D", help="this day alone (2025-03-11)")


def run(context: Context) -> int:
    from quality.run import repair
    from rootlake.times import moment

    given = context.arguments.date
    days = [moment(given).date()] if given else None
    lake = context.lake.require()
    with context.progress("repair") as say:
        summary = repair(lake, days, progress=say)
    if context.json:
        context.answer(summary.as_dict())
    else:
        from rootlake.tables import repair_summary

        repair_summary(context.out, summary.as_dict())
    return 3 if context.strict and summary.quarantined else 0
