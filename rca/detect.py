"""`detect`: incidents found in what the lake holds, opened, grouped and closed.

What is watched, minute by minute (rca/watch.py): how requests fare at the services where they
enter, what the error tracker counts, WARN and ERROR templates, memory, disks, pools and restarts.
A minute is bad when it is far beyond what is usual for its series and, where other days are
recorded, for that time of the day. Three bad minutes of four open an incident, ten good ones
close it. What is bad at the same time in services that call each other is one incident.

Only days that changed since the last run are looked at: the versions of the tables that were seen
are kept as app transactions of `incidents`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from lake import TABLES, Lake, empty
from rca import keep, watch

MINUTE = timedelta(minutes=1)
QUIET = timedelta(minutes=10)
HISTORY = (1, 2, 7, 14)  # days before a day that it is compared with
WATCHED = ("red", "errors", "logs", "samples")


def detect(lake: Lake, since: datetime | None = None) -> pl.DataFrame:
    """The incidents of the time since then, the oldest first; new ones are added to `incidents`,
    those that are over are closed. Without a time, all incidents there are after what is new was
    looked at."""
    versions = lake.versions(*WATCHED)
    days = _days(lake, versions) if since is None else _since(lake, since.date())
    if days:
        near = neighbours(lake)
        minutes = watch.bad(lake, sorted(days), _history(lake, days))
        if since:
            minutes = minutes.filter(pl.col("minute") >= since)
        found = [_incident(group) for group in _groups(minutes, near)]
        newest = watch.newest(lake, max(days))
        rows = _named([_row(one, newest) for one in found])
        keep.add_incidents(lake, keep.known_as(lake, rows, near))
    if since is None:
        marks = {f"detect/{name}": version for name, version in versions.items()}
        lake.append("incidents", empty(TABLES["incidents"]), marks)
    known = lake.scan("incidents").sort("opened_at", "incident_id")
    return (known.filter(pl.col("onset") >= since) if since else known).collect()


def _days(lake: Lake, versions: dict[str, int]) -> set[date]:
    """Days that changed in a watched table since the version that was seen last."""
    held = lake.transactions("incidents", [f"detect/{name}" for name in WATCHED])
    out: set[date] = set()
    for name in WATCHED:
        seen = held[f"detect/{name}"]
        if seen == versions[name]:
            continue
        before = _files(lake, name, seen) if seen >= 0 else set()
        out |= {_day(file) for file in _files(lake, name, versions[name]) ^ before}
    return out


def _files(lake: Lake, name: str, version: int) -> set[str]:
    return set(lake.open(name, version).file_uris())


def _day(file: str) -> date:
    return date.fromisoformat(file.split("date=")[1].split("/")[0])


def _since(lake: Lake, first: date) -> set[date]:
    return {day for name in WATCHED for day in lake.days(name) if day >= first}


def _history(lake: Lake, days: set[date]) -> list[date]:
    """Days before those, as far as they are recorded, to compare with."""
    have = {day for name in WATCHED for day in lake.days(name)}
    wanted = {day - timedelta(days=back) for day in days for back in HISTORY}
    return sorted((wanted & have) - days)


def neighbours(lake: Lake) -> dict[str, set[str]]:
    """Services that call each other, both ways."""
    out: dict[str, set[str]] = {}
    for one, other in lake.scan("edges").select("caller", "callee").unique().collect().rows():
        out.setdefault(one, set()).add(other)
        out.setdefault(other, set()).add(one)
    return out


def _groups(bad: pl.DataFrame, near: dict[str, set[str]]) -> Iterator[pl.DataFrame]:
    """Bad minutes cut where ten were good, then by what hangs together in the graph."""
    if not bad.height:
        return
    gap = (pl.col("minute") - pl.col("minute").shift(1)) > QUIET
    keyed = bad.sort("minute", "service").with_columns(group=gap.fill_null(value=False).cum_sum())
    for stretch in keyed.partition_by("group", maintain_order=True):
        for services in _together(stretch["service"].unique().sort().to_list(), near):
            yield stretch.filter(pl.col("service").is_in(services))


def _together(services: Sequence[str], near: dict[str, set[str]]) -> list[set[str]]:
    """The services in sets that are linked by calls, directly or over one service between."""
    left, out = set(services), []
    while left:
        found = {left.pop()}
        front = set(found)
        while front:
            reached = {b for a in front for b in near.get(a, ())}
            reached |= {b for a in reached for b in near.get(a, ())}
            front = reached & left
            left -= front
            found |= front
        out.append(found)
    return sorted(out, key=min)


def _incident(group: pl.DataFrame) -> dict[str, Any]:
    """One incident: the service that suffers most speaks for it."""
    felt = group.group_by("service").agg(pl.col("size").sum(), pl.col("why").mode().sort().first())
    worst = felt.sort("size", "service", descending=[True, False]).row(0, named=True)
    return {
        "onset": group["minute"].min(),
        "last": group["minute"].max(),
        "service": worst["service"],
        "why": worst["why"],
        "services": sorted(group["service"].unique()),
    }


def _row(found: dict[str, Any], newest: Any) -> dict[str, Any]:
    opened = found["onset"] + 2 * MINUTE
    over = newest is not None and newest - found["last"] > QUIET
    return {
        "incident_id": keep.name_of(found["onset"]),
        "opened_at": opened,
        "closed_at": found["last"] + MINUTE if over else None,
        "onset": found["onset"],
        "trigger": f"{found['why']} of {found['service']}",
        "service": found["service"],
        "severity": "critical" if found["why"] == "errors" else "warning",
        "status": "closed" if over else "open",
        "labels": [{"key": "services", "value": ", ".join(found["services"])}],
    }


def _named(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Incidents of the same minute told apart by a letter."""
    seen: dict[str, int] = {}
    out = []
    for row in rows:
        place = seen.get(row["incident_id"], 0)
        seen[row["incident_id"]] = place + 1
        letter = chr(ord("a") + place) if place < 26 else str(place + 1)
        name = row["incident_id"] + (f"-{letter}" if place else "")
        out.append({**row, "incident_id": name})
    return out
