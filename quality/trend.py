"""Today's checks against the last weeks: what fails, and which source began to send worse rows,
with the release it came with and the first time it was seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from lake import TABLES, Lake, sql
from quality.checks import Check
from quality.measure import PREFIX

Row = dict[str, Any]
LEAST = 20  # faulty rows of a service that are worth a word
RISE = 0.01  # of its rows, by which a service must have become worse
TIMES = 3.0  # and how many times worse
_RELEASE = {
    "spans": "coalesce(resource['service.version'], attributes['service.version'],"
    " resource['app.version'], attributes['version'])",
    "errors": "release",
}
_TIME = {"spans": "start", "errors": "ts", "logs": "ts", "samples": "ts"}


def judge(lake: Lake, checks: Sequence[Check], days: Sequence[date]) -> list[Row]:
    """Per check: name, table, own, action, rows, faulty, share and `usual` (the median of the days
    before) of the last of the days, `shares` per day (null: no rows), `limit`, `failed`, `worst`
    service. A check without rows on the last day is left out.

    The user's fail above what they tolerate. Built-in ones fail above what is tolerated if that is
    also above what the last weeks let expect: median + 5 · 1.4826 · median deviation + ½ %.
    """
    counted = _counted(lake, days)
    return [row for one in checks if (row := _judged(one, counted, days))]


def _counted(lake: Lake, days: Sequence[date]) -> pl.DataFrame:
    rows = lake.scan("scorecard").filter(
        pl.col("date").is_in(days), pl.col("check_name").str.starts_with(PREFIX)
    )
    name = pl.col("check_name").str.strip_prefix(PREFIX).alias("name")
    return rows.select("table_name", "date", "service", name, "rows", "faulty").collect()


def _judged(check: Check, counted: pl.DataFrame, days: Sequence[date]) -> Row | None:
    mine = counted.filter(pl.col("table_name") == check.table, pl.col("name") == check.name)
    daily = mine.group_by("date").agg(pl.col("rows", "faulty").sum())
    held = {day: (rows, faulty) for day, rows, faulty in daily.rows()}
    if days[-1] not in held:
        return None
    shares = [_share(held.get(day)) for day in days]
    before = [share for share in shares[:-1] if share is not None]
    rows, faulty = held[days[-1]]
    share = shares[-1] or 0.0
    limit = check.tolerate
    if not check.own and len(before) >= 3:
        limit = max(limit, expected(before)) if limit < 1 else expected(before)
    last = mine.filter(pl.col("date") == days[-1]).sort(
        "faulty", "service", descending=[True, False]
    )
    return {
        "check": check.name,
        "table": check.table,
        "about": check.about,
        "own": check.own,
        "action": check.action,
        "rows": rows,
        "faulty": faulty,
        "share": share,
        "usual": pl.Series(before, dtype=pl.Float64).median(),
        "shares": shares,
        "limit": limit,
        "failed": faulty > 0 and share > limit,
        "worst": last["service"][0] if faulty else None,
    }


def _share(held: tuple[int, int] | None) -> float | None:
    return None if held is None or not held[0] else held[1] / held[0]


def expected(before: Sequence[float]) -> float:
    """The share up to which a day is as the ones before were."""
    shares = pl.Series(before, dtype=pl.Float64)
    middle = float(shares.median() or 0.0)  # type: ignore[arg-type]
    spread = float((shares - middle).abs().median() or 0.0)  # type: ignore[arg-type]
    return middle + 5 * 1.4826 * spread + 0.005


def regressions(lake: Lake, checks: Sequence[Check], days: Sequence[date]) -> list[Row]:
    """Services that send worse rows on the last day than in the weeks before: check, table,
    service, share, usual, faulty, rows, release (null where the rows name none, or all alike),
    `since` (when it was first seen), and `deploy`, the change just before it."""
    if len(days) < 2:
        return []
    counted = _counted(lake, days).filter(pl.col("service").is_not_null())
    now = pl.col("date") == days[-1]
    keys = ["table_name", "name", "service"]
    was = counted.filter(~now).with_columns(share=pl.col("faulty") / pl.col("rows"))
    usual = was.group_by(keys).agg(pl.col("share").median().alias("usual"))
    both = counted.filter(now).join(usual, on=keys)
    both = both.with_columns(share=pl.col("faulty") / pl.col("rows")).filter(
        pl.col("faulty") >= LEAST,
        pl.col("share") - pl.col("usual") >= RISE,
        pl.col("share") >= pl.col("usual") * TIMES,
    )
    known = {(one.table, one.name): one for one in checks}
    found = []
    for row in both.sort("share", "service", descending=[True, False]).to_dicts():
        check = known.get((row["table_name"], row["name"]))
        if check is not None and check.table in _TIME:
            found.append(_named(lake, check, row, days))
    return found


def _named(lake: Lake, check: Check, row: Row, days: Sequence[date]) -> Row:
    release, since = _source(lake, check, row["service"], days, row["usual"])
    return {
        "check": check.name,
        "table": check.table,
        "about": check.about,
        "service": row["service"],
        "rows": row["rows"],
        "faulty": row["faulty"],
        "share": row["share"],
        "usual": row["usual"],
        "release": release,
        "since": since,
        "deploy": None if since is None else _deploy(lake, row["service"], since),
    }


def _source(
    lake: Lake, check: Check, service: str, days: Sequence[date], usual: float
) -> tuple[str | None, datetime | None]:
    """The release whose rows are worse than the others', and when its first bad minute began."""
    time, release = _TIME[check.table], _RELEASE.get(check.table, "NULL")
    quoted = service.replace("'", "''")
    found = sql(
        lake,
        f"SELECT {release} AS release, date_trunc('minute', {time}) AS minute, count(*) AS rows,"
        f" count(*) FILTER (WHERE NOT coalesce(({check.predicate})::BOOLEAN, true)) AS faulty,"
        f" min({time}) FILTER (WHERE NOT coalesce(({check.predicate})::BOOLEAN, true)) AS first"
        f" FROM {check.table} WHERE date BETWEEN DATE '{days[0]}' AND DATE '{days[-1]}'"
        f" AND service = '{quoted}' GROUP BY 1, 2 ORDER BY 2, 1",
    )
    minutes = pl.DataFrame(pl.from_arrow(found)).cast({"release": pl.String})
    kinds = minutes.group_by("release").agg(pl.col("rows", "faulty").sum())
    kinds = kinds.with_columns(share=pl.col("faulty") / pl.col("rows")).sort(
        "share", "release", descending=[True, False]
    )
    worst = kinds["release"][0]
    mine = minutes.filter(pl.col("release").eq_missing(pl.lit(worst, pl.String)))
    half = (usual + kinds["share"][0]) / 2
    bad = mine.filter(pl.col("faulty") > 0, pl.col("faulty") > half * pl.col("rows"))
    return worst, (bad if bad.height else mine.filter(pl.col("faulty") > 0))["first"].min()  # type: ignore[return-value]


def _deploy(lake: Lake, service: str, since: datetime) -> Row | None:
    """The newest deploy, flag or configuration of the service in the day before a time."""
    rows = lake.scan("changes").filter(
        pl.col("kind").is_in(["deploy", "flag", "config"]),
        pl.col("service") == service,
        pl.col("ts") <= since + timedelta(minutes=1),
        pl.col("ts") >= since - timedelta(days=1),
    )
    found = rows.select("ts", "kind", "ref", "author", "message").sort("ts").collect()
    return found.row(-1, named=True) if found.height else None


def freshness(lake: Lake, now: datetime) -> list[Row]:
    """Per clean table with rows: table, newest event, its age in seconds."""
    found = []
    for table, time in _TIME.items():
        assert time in TABLES[table].schema.names
        days = lake.days(table)
        if days:
            newest = lake.scan(table).filter(pl.col("date") == days[-1]).select(pl.col(time).max())
            value = newest.collect().item()
            found.append({"table": table, "newest": value, "age": (now - value).total_seconds()})
    return found
