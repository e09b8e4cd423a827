"""checks of the data, today against the last weeks

Built-in checks and the expectations of rootlake.toml, counted per service into `scorecard`. A
source that began to send worse rows is named, with its release and since when. Exit code 3 when a
check fails.

example:
  rootlake quality
  rootlake quality --date 2025-03-11 --weeks 2
  rootlake quality --json"""

from __future__ import annotations

import argparse
from typing import Any

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--date", metavar="D", help="the day to judge (default: the newest)")
    parser.add_argument(
        "--weeks", type=int, metavar="N", help="how far back to compare (default: the settings', 4)"
    )


def run(context: Context) -> int:
    found = judged(context)
    if context.json:
        context.answer(found)
    else:
        from rootlake.checked import checked

        checked(context.out, found)
    return 3 if found["failed"] else 0


def judged(context: Context) -> dict[str, Any]:
    """Everything the command tells, ready for JSON."""
    from datetime import UTC, datetime

    from lake.errors import UsageError
    from quality import checks, trend
    from quality.measure import measure
    from rootlake.times import moment

    given, settings = context.arguments, context.config.quality
    weeks = settings.weeks if given.weeks is None else given.weeks
    if weeks < 0:
        raise UsageError(f"--weeks {weeks}: a number of weeks, 0 or more.")
    lake, now = context.lake.require(), datetime.now(UTC)
    every = context.config.checks()
    days = checks.window(lake, moment(given.date).date() if given.date else None, weeks)
    with context.progress("quality") as say:
        measure(lake, every, days, now, say)
    judgements = trend.judge(lake, every, days)
    worse = trend.regressions(lake, every, days)
    fresh = trend.freshness(lake, now)
    for one in fresh:
        one["failed"] = settings.fresh is not None and one["age"] > settings.fresh * 3600
    failed = [f"{one['table']}.{one['check']}" for one in judgements if one["failed"]]
    failed += [f"{one['table']}.{one['check']} of {one['service']}" for one in worse]
    failed += [f"{one['table']} is stale" for one in fresh if one["failed"]]
    return {
        "date": days[-1],
        "since": days[0],
        "days": days,
        "checks": judgements,
        "regressions": worse,
        "freshness": fresh,
        "failed": failed,
    }
