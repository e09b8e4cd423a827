"""Windows of time: where a pull begins, where it ends, and in what steps.

A live source keeps its position as an app transaction of the raw table it writes
(`SOURCE/STREAM`, in microseconds), in the commit that carries the rows. `--since` reads any
window of any age under a transaction of its own and leaves the position alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ingest.batch import Batch, Piece
from lake import Lake

MUCH = 2_000_000  # records of one stretch: more are asked for in smaller parts


@dataclass
class Stretch:
    """A part of a window: low ≤ event time < high."""

    low: datetime
    high: datetime

    def halves(self) -> tuple[Stretch, Stretch]:
        """The two halves, cut at a whole microsecond."""
        middle = self.low + (self.high - self.low) // 2
        return Stretch(self.low, middle), Stretch(middle, self.high)

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.high - self.low


@dataclass
class Step:
    """How long the next stretch shall be: shorter where the server was in trouble, or a stretch
    held much; longer again where neither was so."""

    size: timedelta
    least: timedelta = timedelta(seconds=10)
    most: timedelta = timedelta(days=1)
    trouble: bool = False

    def settle(self, records: int) -> None:
        """Judge by the stretch just read."""
        if self.trouble or records > MUCH:
            self.size = max(self.size / 2, self.least)
        elif records < MUCH / 4:
            self.size = min(self.size * 2, self.most)
        self.trouble = False


@dataclass(frozen=True)
class Window:
    """What one pull asks for: since/until bound event time (None: from where the last pull
    stopped, until now)."""

    lake: Lake
    since: datetime | None = None
    until: datetime | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def trial(cls) -> Window:
        """The last minute, of a lake that is never made."""
        moment = datetime.now(UTC)
        nowhere = Lake(tempfile.gettempdir() + "/rootlake-no-lake-here")
        return cls(nowhere, since=moment - timedelta(minutes=1), until=moment, now=moment)

    @property
    def high(self) -> datetime:
        """Where the window ends."""
        return self.until or self.now

    def position(self, table: str, app: str) -> int:
        """A stream's cursor in µs; -1 where it has none."""
        if not self.lake.exists():
            return -1
        return self.lake.transactions(table, [app])[app]

    def pieces(
        self,
        stream: Stream,
        read: Callable[[Stretch], Batch],
        *,
        step: Step,
        overlap: timedelta,
        oldest: Callable[[], datetime],
    ) -> Iterator[Piece]:
        """The pieces of a stream: one after the other from its cursor, beginning `overlap` before
        it for what arrived late; or of the window that was asked for."""
        at = self.position(stream.table, f"{stream.source}/{stream.name}")
        if self.since is not None:
            batch = f"{stream.name}/{micros(self.since)}-{micros(self.high)}"
            low, after = self.since, self.position(stream.table, f"{stream.source}/{batch}")
            if after >= 0:
                low = moment(after)
        else:
            batch, after = stream.name, at
            low = oldest() if at < 0 else moment(at) - overlap
        begin = moment(after) if after >= 0 else low
        while low < self.high:
            edge = moment(after) if after >= 0 else low
            high = min(max(edge, low) + step.size, self.high)
            if high <= edge and after >= 0:
                return
            stretch = Stretch(low, high)
            yield Piece(
                table=stream.table,
                source=stream.source,
                batch=batch,
                number=micros(high),
                read=lambda stretch=stretch: read(stretch),  # type: ignore[misc]
                origin=f"{stream.origin} {stretch.low:%Y-%m-%d %H:%M:%S} … {high:%H:%M:%S}",
                after=after,
                bounds=(low, high),
                stream=stream.name,
                share=(high - begin) / (self.high - begin),
            )
            low, after = high, micros(high)


@dataclass(frozen=True)
class Stream:
    """One ordered flow of a source into one table, with a cursor of its own."""

    table: str
    source: str
    name: str
    origin: str


def micros(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def moment(at: int) -> datetime:
    """The time so many microseconds after 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
