"""What a source hands over: pieces that land whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

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
    """

    rows: pl.DataFrame
    records: int
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED))
    series: pl.DataFrame | None = None
    exemplars: pl.DataFrame | None = None


@dataclass(frozen=True)
class Piece:
    """A part of a source: a file, a chunk of a file, or a window of time.

    table    the raw table its rows go to
    source   'jaeger', 'prometheus', …
    batch    names the content, the same for the same content (see `content_id`)
    number   position of the piece within the batch, from 1
    read     decodes it; called once, when its turn comes
    origin   where it came from, for messages
    """

    table: str
    source: str
    batch: str
    number: int
    read: Callable[[], Batch]
    origin: str

    @property
    def app(self) -> str:
        """The app transaction under which the piece lands."""
        return f"{self.source}/{self.batch}"


@dataclass(frozen=True)
class Place:
    """Where telemetry was made, for sources that do not say it themselves."""

    cluster: str | None = None
    namespace: str | None = None
    environment: str | None = None


@dataclass(frozen=True)
class Request:
    """What one `rootlake ingest SOURCE PLACE` asks for.

    since/until bound event time where the source can be asked for a window (None: all, or
    where the last pull stopped). `mapping` renames a JSON-lines file's fields to columns.
    """

    target: str
    since: datetime | None = None
    until: datetime | None = None
    place: Place = field(default_factory=Place)
    mapping: Mapping[str, str] = field(default_factory=dict)


def content_id(content: bytes, *identity: str) -> str:
    """A short name for bytes and for what they belong to: equal content, equal name."""
    digest = hashlib.blake2b(content, digest_size=10)
    for text in identity:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()
