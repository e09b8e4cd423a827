"""What `repair --undo` keeps out: rules, on every day or on the rows received for one day.

A suppression holds for raw rows by the day of their raw partition, so every row is treated the
same in whatever company it is computed, and no row is lost or doubled between two days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import polars as pl

from lake import Lake

Rule = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Suppressed:
    """Rules kept out `everywhere`, and on single `days` besides."""

    everywhere: frozenset[str] = frozenset()
    days: Mapping[date, frozenset[str]] = field(default_factory=dict)

    def on(self, day: date) -> frozenset[str]:
        """The rules that leave the rows received for a day alone."""
        return self.everywhere | self.days.get(day, frozenset())

    def exempt(self, dates: pl.Series, rows: pl.Series | None = None) -> Exempt:
        """For raw rows, by the `date` of each: which of them a rule leaves alone. `rows` are their
        numbers, if not their places."""
        places = pl.int_range(dates.len(), dtype=pl.Int64, eager=True)
        every = places if rows is None else rows
        named = self.everywhere.union(*self.days.values())
        off = {
            name: every
            if name in self.everywhere
            else every.filter(dates.is_in([day for day, off in self.days.items() if name in off]))
            for name in sorted(named)
        }
        return Exempt({name: some for name, some in off.items() if some.len()}, dates.len(), self)


@dataclass(frozen=True)
class Exempt:
    """Per rule the positions (`row`) of the raw rows it leaves alone, of `size` in all; `by`: what
    it was made from."""

    rows: Mapping[str, pl.Series] = field(default_factory=dict)
    size: int = 0
    by: Suppressed = Suppressed()

    def on(self, nanos: int) -> frozenset[str]:
        """The rules undone on the day of a time in ns."""
        return self.by.on(datetime.fromtimestamp(nanos / 1e9, UTC).date())

    def apply(self, name: str, rule: Rule, before: pl.DataFrame) -> pl.DataFrame:
        """What a rule makes of a frame with a column `row`, exempt rows as they were before."""
        alone = self.rows.get(name)
        if alone is None:
            return rule(before)
        if alone.len() >= self.size:
            return before
        after = rule(before)
        mine = pl.col("row").is_in(alone.implode())
        both = pl.concat([after.filter(~mine), before.select(after.columns).filter(mine)])
        return before.select("row").join(both, on="row", maintain_order="left")


NOTHING = Exempt()


def of(lake: Lake) -> Suppressed:
    """What the table `suppressions` keeps out now."""
    rows = lake.read("suppressions").drop_nulls("rule")
    days: dict[date, frozenset[str]] = {}
    for rule, day in rows.filter(pl.col("date").is_not_null()).select("rule", "date").rows():
        days[day] = days.get(day, frozenset()) | {rule}
    return Suppressed(frozenset(rows.filter(pl.col("date").is_null())["rule"]), days)


def suppressed(lake: Lake, day: date) -> frozenset[str]:
    """The rules that leave the rows received for a day alone."""
    return of(lake).on(day)
