"""Pieces into the lake, each exactly once, however often it is sent or interrupted.

A piece lands under an app transaction of the raw table, in the commit that carries its rows.
What goes with it (quarantine, the count of records received, series) is written first, so that a
rerun after a crash completes and never doubles: files under the same transaction of those tables,
live sources under the name of the attempt (`Piece.attempt`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Self

import polars as pl

from ingest.batch import Batch, Piece
from ingest.known import fresh, unknown
from ingest.later import Later
from ingest.mask import mask
from lake import FIRST_DAY, TABLES, UNPLACED, Lake, UserError, empty, fit
from lake.stage import Staged, stage
from lake.workers import Workers

COMMIT_BYTES = 192 << 20  # decoded rows gathered into one commit: few files, bounded memory

Read = tuple[Piece, Batch]


@dataclass
class Landed:
    """What one pull did: `records` delivered became `rows`, `quarantined` or were `skipped`
    because their piece had landed before. `bytes` in memory; `left_out` by a cap, by what; `share`
    of the pull that is done, where it is known."""

    pieces: int = 0
    skipped: int = 0
    records: int = 0
    rows: int = 0
    quarantined: int = 0
    bytes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    share: float | None = None

    def add(self, batch: Batch) -> None:
        """Count what came of some more records."""
        self.records += batch.records
        self.rows += batch.rows.height
        self.quarantined += batch.rejected.height
        self.bytes += int(batch.rows.estimated_size())
        for name, count in batch.left_out.items():
            self.left_out[name] = self.left_out.get(name, 0) + count


def land(
    lake: Lake,
    pieces: Iterable[Piece],
    progress: Callable[[Landed, str], None] | None = None,
    masked: Sequence[str] = (),
) -> Landed:
    """Write every piece that has not landed yet; `progress` hears after each one.

    A piece of a live source that may hold what came before lands by itself, before the next is
    read: what the lake holds is what the next one is compared with. Others land together, until
    they weigh enough or go on from one another; where one cannot be read, those before it land.
    """
    landed, idle = Landed(), list[Piece]()
    with _Waiting(lake) as waiting:
        for piece, read in _ahead(_unlanded(lake, pieces, landed)):
            if piece.parts:
                _land_parts(lake, piece, landed, progress, masked)
                continue
            waiting.before(piece)
            batch = _fresh(lake, piece, mask(piece.table, read(), masked))
            if idle and idle[0].app == piece.app:
                piece = dataclasses.replace(piece, after=idle[0].after)  # noqa: PLW2901
            else:
                _commit(lake, [(one, nothing(one)) for one in idle])
            idle = []
            if piece.stream and batch.nothing:
                # a position alone is written with what follows, or at the end
                idle = [piece] if piece.bounds[0] < piece.bounds[1] or not piece.again else []
                continue
            waiting.add(piece, batch)
            landed.pieces += 1
            landed.add(batch)
            landed.share = piece.share
            if progress:
                progress(landed, piece.origin)
    _commit(lake, [(one, nothing(one)) for one in idle])
    return landed


class _Waiting:
    """Pieces that are read, and will land in one commit; at the latest at the end of the context,
    also when a later one cannot be read."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._reads: list[Read] = []
        self._weight = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, UserError):
            self.commit()

    def before(self, piece: Piece) -> None:
        """What waits lands now if a piece goes on from it."""
        if any(piece.app == one.app for one, _ in self._reads):
            self.commit()

    def add(self, piece: Piece, batch: Batch) -> None:
        """One more, and all of them landed if that is enough."""
        self._reads.append((piece, batch))
        self._weight += int(batch.rows.estimated_size())
        alone = piece.stream and piece.again
        if self._weight >= COMMIT_BYTES or alone or piece.table != self._reads[0][0].table:
            self.commit()

    def commit(self) -> None:
        """Land them."""
        _commit(self.lake, self._reads)
        self._reads, self._weight = [], 0


def _fresh(lake: Lake, piece: Piece, batch: Batch) -> Batch:
    return fresh(lake, piece, batch) if piece.stream is not None and piece.again else batch


def nothing(piece: Piece) -> Batch:
    """A batch without rows."""
    return Batch(empty(TABLES[piece.table]).drop("date"), 0)


def _ahead(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Callable[[], Batch]]]:
    """The pieces with what reads them: the next one is being read while one is written.

    A source is asked for its next piece when the last one has been read: until then it keeps what
    that one is read from (an unzipped file, a clone).
    """
    waiting: tuple[Piece, Callable[[], Batch]] | None = None
    error = list[UserError]()
    for piece in _until(pieces, error):
        reading = None if piece.parts else Later(piece.read)
        if waiting is not None:
            yield waiting
        if reading is None:
            yield piece, piece.read
            waiting = None
            continue
        reading.wait()
        waiting = piece, reading.result
    if waiting is not None:
        yield waiting
    if error:
        raise error[0]


def _until(pieces: Iterable[Piece], error: list[UserError]) -> Iterator[Piece]:
    """The pieces until the source fails: those before are landed first."""
    try:
        yield from pieces
    except UserError as found:
        error.append(found)


def _land_parts(
    lake: Lake,
    piece: Piece,
    landed: Landed,
    progress: Callable[[Landed, str], None] | None,
    masked: Sequence[str],
) -> None:
    """A big piece: its parts decoded and written by one process per core, then one commit."""
    now = datetime.now(UTC)
    staged, records, refused = list[Staged](), 0, [Batch(pl.DataFrame(), 0).rejected]
    jobs = [
        partial(_staged, lake, dataclasses.replace(piece, read=r, parts=(), number=n), masked, now)
        for n, r in enumerate(piece.parts, 1)
    ]
    with Workers() as workers:
        for place, (files, count, rejected) in enumerate(workers.map(jobs), 1):
            staged += files
            records += count
            refused.append(rejected)
            landed.records += count
            landed.quarantined += rejected.height
            landed.rows += sum(one.rows for one in files)
            landed.bytes += sum(one.size for one in files)
            if progress:
                landed.share = place / len(jobs)
                progress(landed, f"{piece.origin} part {place} of {len(jobs)}")
    whole = Batch(pl.DataFrame(), records, pl.concat(refused))
    _append(lake, "quarantine", [(piece, whole)], _rejected, now)
    _append(lake, "scorecard", [(piece, whole)], _received, now)
    lake.commit(piece.table, staged, {piece.app: piece.number})
    landed.pieces += 1


def _staged(
    lake: Lake, piece: Piece, masked: Sequence[str], now: datetime
) -> tuple[list[Staged], int, pl.DataFrame]:
    """A part's rows in files that wait for their commit, its records, and what was refused."""
    batch = mask(piece.table, piece.read(), masked)
    table = TABLES[piece.table]
    rows = fit(table, delivered(piece, batch, now))
    assert lake.folder
    return stage(lake.folder / piece.table, table, rows), batch.records, batch.rejected


def _unlanded(lake: Lake, pieces: Iterable[Piece], landed: Landed) -> Iterator[Piece]:
    for piece in pieces:
        if piece.parts and lake.folder is None:
            numbered = enumerate(piece.parts, piece.number)
            parts = (dataclasses.replace(piece, number=n, read=r, parts=()) for n, r in numbered)
            yield from _unlanded(lake, parts, landed)
            continue
        if lake.transactions(piece.table, [piece.app])[piece.app] >= piece.number:
            landed.skipped += 1
            continue
        yield piece


def _commit(lake: Lake, reads: Sequence[Read]) -> None:
    """Write gathered pieces, in groups that go to the same table."""
    for table in dict.fromkeys(piece.table for piece, _ in reads):
        mine = [(piece, batch) for piece, batch in reads if piece.table == table]
        now = datetime.now(UTC)
        lake.unmoved(table, {piece.app: piece.after for piece, _ in mine if piece.stream})
        _append(lake, "quarantine", mine, _rejected, now)
        _append(lake, "scorecard", mine, _received, now)
        capped = [(piece, batch) for piece, batch in mine if batch.left_out]
        if capped:
            lake.append("scorecard", pl.concat([_capped(*one, now) for one in capped]))
        _merge_series(lake, [batch.series for _, batch in mine if batch.series is not None])
        shown = [(piece, batch) for piece, batch in mine if batch.exemplars is not None]
        _append(lake, "exemplars", shown, _exemplars, now)
        native = [(piece, batch) for piece, batch in mine if batch.histograms is not None]
        _append(lake, "raw_histograms", native, _histograms, now)
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
    new = [
        (piece, batch)
        for piece, batch in reads
        if seen[piece.app] < piece.number or (piece.stream and table != piece.table)
    ]
    if not new:
        return
    rows = pl.concat([rows_of(piece, batch, now) for piece, batch in new])
    rows = unknown(lake, table, rows)
    marks: dict[str, int] = {}
    for piece, _ in new:
        marks |= piece.marks if table == piece.table else {}
        marks[piece.app] = max(piece.number, marks.get(piece.app, 0))
    if table == new[0][0].table:
        after = {piece.app: piece.after for piece, _ in new if piece.stream}
        ordered = len(new) == 1 and new[0][1].ordered
        lake.append(table, rows, marks, after, ordered=ordered)
    elif rows.height:
        lake.append(table, rows, None if new[0][0].stream else marks)


def delivered(piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    """The rows with their day and delivery columns, in the table's order."""
    rows = batch.rows
    if "arrival" not in rows.columns:
        rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("arrival"))
    missing = [name for name in ("cluster", "namespace", "environment") if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
    rows = rows.with_columns(
        pl.lit(piece.source, pl.Categorical).alias("source"),
        pl.lit(f"{piece.batch}.{piece.number}", pl.Categorical).alias("batch"),
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
        pl.lit(piece.attempt).alias("run_id"),
        pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("recorded_at"),
    )


def _exemplars(_piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    assert batch.exemplars is not None
    rows = batch.exemplars.with_columns(event_day(pl.col("ts"), now).alias("date"))
    return rows.select(TABLES["exemplars"].schema.names)


def _capped(piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    """A scorecard row for each metric of which a cap kept records out."""
    whole = _received(piece, batch, now).with_columns(check_name=pl.lit("left_out"))
    left = [
        whole.with_columns(service=pl.lit(name), rows=pl.lit(count), faulty=pl.lit(count))
        for name, count in batch.left_out.items()
    ]
    return pl.concat(left, how="vertical_relaxed").cast(whole.schema)


def _histograms(piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    assert batch.histograms is not None
    own = dataclasses.replace(piece, table="raw_histograms")
    return delivered(own, dataclasses.replace(batch, rows=batch.histograms), now)


def _received(piece: Piece, batch: Batch, now: datetime) -> pl.DataFrame:
    """One scorecard row: how many records the source delivered, how many became no row."""
    rejected = batch.rejected.height
    row = {
        "run_id": piece.attempt,
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
