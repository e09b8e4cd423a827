"""Pieces into the lake, each exactly once, however often it is sent or interrupted.

A piece lands under an app transaction of the raw table, in the commit that carries its rows.
What goes with it (quarantine, the count of records received, series) is written first, under
the same transaction of its own table, so that a rerun after a crash completes and never doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from ingest.batch import Batch, Piece
from lake import FIRST_DAY, TABLES, UNPLACED, Lake

COMMIT_BYTES = 192 << 20  # decoded rows gathered into one commit: few files, bounded memory

Read = tuple[Piece, Batch]


@dataclass
class Landed:
    """What one pull did: `records` delivered became `rows`, `quarantined` or were `skipped`
    because their piece had landed before."""

    pieces: int = 0
    skipped: int = 0
    records: int = 0
    rows: int = 0
    quarantined: int = 0


def land(
    lake: Lake, pieces: Iterable[Piece], progress: Callable[[Landed, str], None] | None = None
) -> Landed:
    """Write every piece that has not landed yet; `progress` hears after each one."""
    landed, waiting, weight = Landed(), list[Read](), 0
    for piece in _unlanded(lake, pieces, landed):
        batch = piece.read()
        waiting.append((piece, batch))
        weight += int(batch.rows.estimated_size())
        if weight >= COMMIT_BYTES or piece.table != waiting[0][0].table:
            _commit(lake, waiting)
            waiting, weight = [], 0
        landed.pieces += 1
        landed.records += batch.records
        landed.rows += batch.rows.height
        landed.quarantined += batch.rejected.height
        if progress:
            progress(landed, piece.origin)
    _commit(lake, waiting)
    return landed


def _unlanded(lake: Lake, pieces: Iterable[Piece], landed: Landed) -> Iterator[Piece]:
    for piece in pieces:
        if lake.transactions(piece.table, [piece.app])[piece.app] >= piece.number:
            landed.skipped += 1
            continue
        yield piece


def _commit(lake: Lake, reads: Sequence[Read]) -> None:
    """Write gathered pieces, in groups that go to the same table."""
    for table in dict.fromkeys(piece.table for piece, _ in reads):
        mine = [(piece, batch) for piece, batch in reads if piece.table == table]
        now = datetime.now(UTC)
        _append(lake, "quarantine", mine, _rejected, now)
        _append(lake, "scorecard", mine, _received, now)
        _merge_series(lake, [batch.series for _, batch in mine if batch.series is not None])
        shown = [(piece, batch) for piece, batch in mine if batch.exemplars is not None]
        _append(lake, "exemplars", shown, _exemplars, now)
        _append(lake, table, mine, delivered, now)


def _append(
    lake: Lake,
    table: str,
    reads: Sequence[Read],
    rows_of: Callable[[Piece, Batch, datetime], pl.DataFrame],
    now: datetime,
) -> None:
    """Append the pieces this table has not seen, in one commit with their transactions."""
    seen = lake.transactions(table, {piece.app for piece, _ in reads})
    fresh = [(piece, batch) for piece, batch in reads if seen[piece.app] < piece.number]
    if not fresh:
        return
    rows = pl.concat([rows_of(piece, batch, now) for piece, batch in fresh])
    if table == "changes":
        rows = _unknown_changes(lake, rows)
    marks: dict[str, int] = {}
    for piece, _ in fresh:
        marks[piece.app] = max(piece.number, marks.get(piece.app, 0))
    if rows.height or table == fresh[0][0].table:
        lake.append(table, rows, marks)


def _unknown_changes(lake: Lake, rows: pl.DataFrame) -> pl.DataFrame:
    """The changes that are not in the table yet: a repository is read whole every time."""
    same = ["ts", "kind", "service", "ref"]
    known = lake.scan("changes").select(same).collect()
    fresh = rows.unique(same, keep="first", maintain_order=True)
    return fresh.join(known, on=same, how="anti", nulls_equal=True, maintain_order="left")


def delivered(piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    """The rows with their day and delivery columns, in the table's order."""
    rows = batch.rows
    if "arrival" not in rows.columns:
        rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("arrival"))
    missing = [name for name in ("cluster", "namespace", "environment") if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
    rows = rows.with_columns(
        pl.lit(piece.source).alias("source"),
        pl.lit(f"{piece.batch}.{piece.number}").alias("batch"),
        pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("ingested_at"),
        event_day(_event_time(piece.table), now).alias("date"),
    )
    return rows.select(TABLES[piece.table].schema.names)


def event_day(ts: pl.Expr, now: datetime) -> pl.Expr:
    """The UTC day of a time when it can be believed, else 1970-01-01: between 2000-01-01 and
    one day after `now`."""
    low = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC)
    high = pl.lit(now).cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)
    return pl.when(ts.is_between(pl.lit(low), high)).then(ts.dt.date()).otherwise(pl.lit(UNPLACED))


def _event_time(table: str) -> pl.Expr:
    if table == "raw_spans":
        nanos = pl.col("start_unit") == "ns"
        micros = pl.when(nanos).then(pl.col("start") // 1000).otherwise(pl.col("start"))
        return micros.cast(pl.Datetime("us", "UTC"))
    return pl.col("minute" if table == "raw_edges" else "ts")


def _rejected(piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    return batch.rejected.select(
        pl.lit(piece.table).alias("table_name"),
        "reason",
        "raw_row",
        pl.lit(piece.source).alias("source"),
        pl.lit(f"{piece.batch}.{piece.number}").alias("batch"),
        pl.lit(f"ingest/{piece.app}").alias("run_id"),
        pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("recorded_at"),
    )


def _exemplars(_piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    assert batch.exemplars is not None
    rows = batch.exemplars.with_columns(event_day(pl.col("ts"), now).alias("date"))
    return rows.select(TABLES["exemplars"].schema.names)


def _received(piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    """One scorecard row: how many records the source delivered, how many became no row."""
    rejected = batch.rejected.height
    row = {
        "run_id": f"ingest/{piece.app}",
        "table_name": piece.table,
        "date": now.date(),
        "service": piece.source,
        "check_name": "received",
        "rows": batch.records,
        "faulty": rejected,
        "repaired": 0,
        "quarantined": rejected,
        "share": rejected / batch.records if batch.records else 0.0,
        "recorded_at": now,
    }
    return pl.DataFrame([row], schema_overrides={"recorded_at": pl.Datetime("us", "UTC")})


def _merge_series(lake: Lake, frames: Sequence[pl.DataFrame]) -> None:
    """Add new series and widen the time in which known ones were seen."""
    if frames:
        lake.update("series", lambda old: merged_series([old, *frames]))


def merged_series(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per (metric, series): the newest description, first and last time seen."""
    every = pl.concat(frames, how="vertical_relaxed")
    seen = every.group_by("metric", "series", maintain_order=True).agg(
        pl.col("labels").last(),
        pl.col("type", "unit", "help").drop_nulls().last(),
        pl.col("first_seen").min(),
        pl.col("last_seen").max(),
    )
    return seen.select(TABLES["series"].schema.names)
