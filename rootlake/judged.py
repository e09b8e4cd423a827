"""Checks of a day against the last weeks, as `rootlake quality` and `rootlake run` tell them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from lake import Lake
from quality import checks, trend
from quality.measure import measure
from rootlake.config import Config


def judged(
    lake: Lake,
    config: Config,
    now: datetime,
    *,
    day: date | None = None,
    weeks: int | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Every check of a day (none: the newest that is repaired), counted into `scorecard`, ready for
    JSON; `failed` names those that do not hold.

    `weeks` of history are compared with (none: the settings'). Raises UserError where nothing is
    repaired, and for a predicate that cannot be.
    """
    settings, every = config.quality, config.checks()
    days = checks.window(lake, day, settings.weeks if weeks is None else weeks)
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
