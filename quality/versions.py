"""Which versions of the rules made a day: as a number in the commit that made it, and readable in
`scorecard`, one row `version of RULE` each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date
from itertools import groupby
from typing import Any

import polars as pl

from lake import Lake
from quality import exemplars
from quality.stages import STAGES, Stage

_CHECK = "version of "


def number(versions: Mapping[str, int]) -> int:
    """The versions of all rules of a stage as one number."""
    digest = hashlib.blake2b(repr(sorted(versions.items())).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def app(day: date) -> str:
    """The app transaction of a clean table that keeps a day's number."""
    return f"rules/{day}"


def check(rule: str) -> str:
    """The `check_name` under which a rule's version stands in `scorecard`."""
    return f"{_CHECK}{rule}"


def behind(
    lake: Lake, stage: Stage, days: Iterable[date], versions: Mapping[str, int]
) -> list[date]:
    """The days any of whose tables was made by other versions than these."""
    apps = {day: app(day) for day in days}
    now, found = number(versions), set[date]()
    for table in (stage.clean, *stage.derived):
        held = lake.transactions(table, apps.values())
        found |= {day for day, name in apps.items() if held[name] not in {now, -1}}
    return sorted(found)


def history(lake: Lake) -> list[dict[str, Any]]:
    """Stretches of days made by the same versions: table, first, last, days, versions, and
    `behind`, the rules that have another version today with that version."""
    rows = lake.scan("scorecard").filter(pl.col("check_name").str.starts_with(_CHECK))
    rule = pl.col("check_name").str.strip_prefix(_CHECK)
    found = rows.select("table_name", "date", rule, "rows").sort("date", "check_name").collect()
    days = found.group_by("table_name", "date", maintain_order=True).agg("check_name", "rows")
    made = [
        (table, day, dict(zip(rules, numbers, strict=True)))
        for table, day, rules, numbers in days.sort("table_name", "date").rows()
    ]
    stretches = []
    for (table, versions), group in groupby(made, key=lambda one: (one[0], one[2])):
        held = [day for _, day, _ in group]
        stretches.append(
            {
                "table": table,
                "first": held[0],
                "last": held[-1],
                "days": len(held),
                "versions": versions,
                "behind": _newer(table, versions),
            }
        )
    return stretches


def _newer(table: str, versions: Mapping[str, int]) -> dict[str, int]:
    today = {"exemplars": exemplars.VERSIONS, **{one.clean: one.versions for one in STAGES}}
    return {rule: new for rule, new in today.get(table, {}).items() if versions.get(rule) != new}
