"""Repairs taken back and kept out, by rule or by run, until they are asked for again.

First the suppression is written, then the days are made again; a run that is killed in between is
completed by the next `repair`, because the days' stamps name what is undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import polars as pl

from lake import Lake, UsageError
from quality import moves
from quality.rules import sample_order
from quality.stages import STAGES

_ORDER = frozenset((moves.NAME, sample_order.NAME))  # how tables lie, not something to take back


def undo(
    lake: Lake,
    what: str,
    day: date | None = None,
    reason: str | None = None,
    now: datetime | None = None,
) -> pl.DataFrame:
    """Keep a rule out, or what a run changed; the rows now in `suppressions` for it.

    A rule is kept out everywhere, or on the rows received for one `day`. A run is undone by the
    audit: every rule that changed rows under its name is kept out on the days these rows were
    received for; again, what was kept out the first time, so that a run that was killed is gone on
    with. Raises UsageError for what is neither.
    """
    pairs = _of_rule(what, day) or _of_run(lake, what, day)
    schema = {"rule": pl.String, "run": pl.String, "date": pl.Date}
    fresh = pl.DataFrame(pairs, schema=schema, orient="row")
    fresh = fresh.with_columns(
        pl.lit(reason, pl.String).alias("reason"),
        pl.lit(now or datetime.now(UTC)).cast(pl.Datetime("us", "UTC")).alias("since"),
    )
    keys = ["rule", "run", "date"]

    def add(held: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([held, fresh.join(held, on=keys, how="anti", nulls_equal=True)])

    lake.update("suppressions", add)
    both = lake.read("suppressions").join(fresh, on=keys, how="semi", nulls_equal=True)
    return both.sort("rule", "date")


def redo(lake: Lake, what: str, day: date | None = None) -> pl.DataFrame:
    """Let a rule, or what a run changed, be repaired again; the rows taken from `suppressions`.

    Raises UsageError when nothing of that name (and day) is undone.
    """
    gone: list[pl.DataFrame] = []

    def remove(held: pl.DataFrame) -> pl.DataFrame:
        mine = (pl.col("rule") == what) | (pl.col("run") == what).fill_null(value=False)
        if day is not None:
            mine &= (pl.col("date") == day).fill_null(value=False)
        gone[:] = [held.filter(mine)]
        return held.filter(~mine)

    lake.update("suppressions", remove)
    if not gone[0].height:
        raise UsageError(_not_undone(lake, what, day))
    return gone[0]


def rules() -> list[str]:
    """The names of the rules that can be undone."""
    return sorted({name for stage in STAGES for name in stage.versions} - _ORDER)


def unplaced(lake: Lake, rule: str, day: date) -> int:
    """How many rows of a clean day the rule changed that were received for another raw day, so
    that undoing it on `day` leaves them as they are."""
    rows = lake.scan("repairs").filter(pl.col("date") == day).collect()
    moved = rows.filter(pl.col("rule") == moves.NAME).select("table_name", "row_key")
    mine = rows.filter(pl.col("rule") == rule)
    return mine.join(moved, on=["table_name", "row_key"], how="semi")["row_key"].n_unique()


def _of_rule(what: str, day: date | None) -> list[tuple[str, str | None, date | None]]:
    if what in _ORDER:
        raise UsageError(
            f"{what} is how rows lie in a table, not a change to take back; undo the rule that"
            " moved their time (clock_skew, time_unit, …)."
        )
    return [(what, None, day)] if what in rules() else []


def _of_run(lake: Lake, run: str, day: date | None) -> list[tuple[str, str, date]]:
    """(rule, run, raw day) of everything that the audit lists under a run."""
    rows = lake.scan("repairs").filter(pl.col("run_id") == run)
    if day is not None:
        rows = rows.filter(pl.col("date") == day)
    found = rows.select("table_name", "row_key", "rule", "date", "before").collect()
    if not found.height:
        return _held(lake, run, day)
    moved = found.filter(pl.col("rule") == moves.NAME)
    received = moved.select("table_name", "row_key", raw=pl.col("before").str.to_date())
    changes = found.filter(~pl.col("rule").is_in(list(_ORDER)))
    changes = changes.join(received, on=["table_name", "row_key"], how="left")
    days = changes.select("rule", pl.coalesce("raw", "date").alias("date")).unique()
    return [(rule, run, one) for rule, one in days.sort("rule", "date").rows()]


def _held(lake: Lake, run: str, day: date | None) -> list[tuple[str, str, date]]:
    """What is kept out under a run already."""
    rows = lake.read("suppressions").filter(pl.col("run") == run)
    if day is not None:
        rows = rows.filter(pl.col("date") == day)
    if not rows.height:
        raise UsageError(_unknown(lake, run, day))
    return rows.select("rule", "run", "date").rows()


def _unknown(lake: Lake, what: str, day: date | None) -> str:
    runs = lake.scan("repairs").select("run_id").unique().sort("run_id").collect()["run_id"]
    if what in runs:
        return f"the audit lists no change of {what} on {day}; leave --date out to undo all of it."
    last: Sequence[str] = runs.to_list()[-3:]
    known = f"; the last runs are {', '.join(last)}" if last else ""
    return (
        f"{what!r} is no rule and no run with changes; the rules are {', '.join(rules())}{known}."
    )


def _not_undone(lake: Lake, what: str, day: date | None) -> str:
    held = lake.read("suppressions")
    where = "" if day is None else f" on {day} alone"
    names = sorted({*held["rule"].drop_nulls(), *held["run"].drop_nulls()})
    return f"{what!r} is not undone{where}; undone are: {', '.join(names) or 'none'}."
