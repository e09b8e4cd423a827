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
    from rootlake import judged
    from rootlake.times import moment

    given = context.arguments
    if given.weeks is not None and given.weeks < 0:
        raise UsageError(f"--weeks {given.weeks}: a number of weeks, 0 or more.")
    day = None if given.date is None else moment(given.date).date()
    lake, now = context.lake.require(), datetime.now(UTC)
    with context.progress("quality") as say:
        return judged.judged(lake, context.config, now, day=day, weeks=given.weeks, say=say)
