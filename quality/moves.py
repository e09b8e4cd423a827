"""Rows that belong to another day than the raw partition they arrived in: the rule `order`.

A clock that is off, a wrong unit or a late start puts a row into the wrong day. Its clean day is
computed from the raw days around it, and may be computed again beside other days. So every such
move is recorded in `repairs`; a run that would decide differently makes both days anew, and no
row is lost or doubled between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta

import polars as pl

from lake import UNPLACED, Lake

NAME = "order"
SCHEMA = pl.Schema({"row_key": pl.String, "before": pl.Date, "after": pl.Date})
Pair = tuple[date, date]


def moved(rows: pl.DataFrame) -> pl.DataFrame:
    """Of rows (row_key, before, after) those whose days differ."""
    return rows.select(SCHEMA.names()).filter(pl.col("before") != pl.col("after"))


def audit(moves: pl.DataFrame) -> pl.DataFrame:
    """Moves as rows of the audit, each under the day it moved to."""
    return moves.select(
        "row_key",
        pl.lit(NAME).alias("rule"),
        pl.lit("date").alias("column_name"),
        pl.col("before").cast(pl.String),
        pl.col("after").cast(pl.String),
        pl.lit(1, pl.Int64).alias("row_count"),
        pl.lit(1.0).alias("confidence"),
        pl.col("after").alias("date"),
    )


def recorded(lake: Lake, table: str, days: Collection[date] | None) -> pl.DataFrame:
    """The moves into some days (None: into any) that `repairs` holds."""
    rows = lake.scan("repairs").filter(pl.col("table_name") == table, pl.col("rule") == NAME)
    if days is not None:
        rows = rows.filter(pl.col("date").is_in(list(days)))
    return rows.select(
        "row_key", pl.col("before").str.to_date(), pl.col("after").str.to_date()
    ).collect()


def disputed(
    new: pl.DataFrame, old: pl.DataFrame, seen: Collection[date], made: Collection[date]
) -> set[date]:
    """Days that must be made together with the days `made`, because a row would otherwise stand
    in two of them or in none.

    `new` are the moves among the raw days `seen`, `old` those recorded. A row without a day of
    its own that is not placed now concerns nobody else.
    """
    both = new.rename({"after": "now"}).join(
        old.rename({"after": "then"}), on=["row_key", "before"], how="full", coalesce=True
    )
    own = pl.when(pl.col("before") != UNPLACED).then("before")
    here = list(made)
    both = both.filter(pl.col("before").is_in([*seen, UNPLACED])).with_columns(
        pl.coalesce("now", own).alias("now"), pl.coalesce("then", own).alias("then")
    )
    ours = (
        pl.any_horizontal(pl.col("before", "now", "then").is_in(here))
        | (pl.col("before") == UNPLACED)
    ) & pl.col("now").is_not_null()
    parted = both.filter(ours & pl.col("now").ne_missing(pl.col("then")))
    days = pl.concat([parted["now"], parted["then"]]).drop_nulls().unique()
    return set(days.to_list()) - set(made)


def pairs_of(days: Iterable[date]) -> list[Pair]:
    """The moves that concern each of some days: (before, after)."""
    near = timedelta(days=1)
    found = set[Pair]()
    for day in days:
        for other in (day - near, day + near):
            found |= {(other, day), (day, other)}
        found.add((UNPLACED, day))
    return sorted(found)


def digests(moves: pl.DataFrame, pairs: Iterable[Pair]) -> dict[Pair, int]:
    """A number for the rows that moved between two days; 0 for none."""
    groups: Mapping[tuple[object, ...], pl.DataFrame] = moves.partition_by(
        "before", "after", as_dict=True
    )
    return {pair: _digest(groups.get(pair)) for pair in pairs}


def _digest(moves: pl.DataFrame | None) -> int:
    if moves is None or not moves.height:
        return 0
    text = "\n".join(moves["row_key"].sort().to_list())
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def app(table: str, pair: Pair) -> str:
    """The app transaction of `repairs` that keeps a pair's digest."""
    return f"order/{table}/{pair[0]}/{pair[1]}"
