"""What a source hands over: pieces that land whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REJECTED = pl.Schema({"reason": pl.String, "raw_row": pl.String})


@dataclass(frozen=True)
class Batch:
    """The decoded rows of one piece.

    rows      columns of `table` without date, source, batch, arrival and ingested_at, in the
              order the source delivered them (`arrival` is the position; a frame that left rows
              out brings its own `arrival`)
    records   what the source delivered, counted in its own unit (spans, samples, lines)
    rejected  records that could not become rows, whole: (reason, raw_row)
    series    the `series` rows that samples refer to, if any
    exemplars rows of `exemplars` without date, if any
    histograms rows of `raw_histograms` without their delivery, if any
    ordered   whether the rows are in the table's order already
    left_out  records that a cap of the configuration kept out, by what they belong to
    """

    rows: pl.DataFrame
    records: int
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED))
    series: pl.DataFrame | None = None
    exemplars: pl.DataFrame | None = None
    histograms: pl.DataFrame | None = None
    ordered: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Whether there is nothing in it to write."""
        parts = (self.rows, self.rejected, self.exemplars, self.histograms)
        return not self.left_out and not any(one is not None and one.height for one in parts)


@dataclass(frozen=True)
class Piece:
    """A part of a source: a file, a chunk of a file, or a window of time.

    table    the raw table its rows go to
    source   'jaeger', 'prometheus', …
    batch    names the content, the same for the same content (see `content_id`)
    number   position of the piece within the batch, from 1
    read     decodes it; called once, when its turn comes
    origin   where it came from, for messages
    parts    of a big piece, instead of `read`: functions that can be sent to another process, each
             decoding a part of it; they land together
    stream   of a live source: the server (or flow) whose earlier rows are not written again;
             `number` is then the cursor it leads to
    after    the cursor it goes on from (-1: none yet); it lands only if that still holds
    again    whether it may hold what the stream delivered before (`ingest.known`)
    bounds   of a live source: low ≤ event time < high
    marks    further app transactions of the same commit
    share    how much of the whole pull is done once it has landed, 0 to 1 (None: not known)
    """

    table: str
    source: str
    batch: str
    number: int
    read: Callable[[], Batch]
    origin: str
    parts: Sequence[Callable[[], Batch]] = ()
    stream: str | None = None
    after: int = -1
    again: bool = True
    bounds: tuple[datetime, datetime] = (_EPOCH, _EPOCH)
    marks: Mapping[str, int] = field(default_factory=dict)
    share: float | None = None

    @property
    def app(self) -> str:
        """The app transaction under which the piece lands."""
        return f"{self.source}/{self.batch}"

    @property
    def attempt(self) -> str:
        """Names the pull in quarantine and scorecard. Attempts of a live source that go on from
        the same cursor have one name, and only the last counts: the others landed no row."""
        return f"ingest/{self.app}" + (f"@{self.after}" if self.stream else "")


@dataclass(frozen=True)
class Place:
    """Where telemetry was made, for sources that do not say it themselves."""

    cluster: str | None = None
    namespace: str | None = None
    environment: str | None = None


def content_id(content: bytes, *identity: str) -> str:
    """A short name for bytes and for what they belong to: equal content, equal name."""
    return named(hashlib.sha256(content), *identity)


def named(digest: Any, *identity: str) -> str:
    """The name from a digest of the content."""
    for text in identity:
        digest.update(b"\0" + text.encode())
    return str(digest.hexdigest()[:20])
