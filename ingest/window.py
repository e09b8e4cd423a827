"""Windows of time: where a pull begins, where it ends, and in what steps.

A live source keeps its position as an app transaction of the raw table it writes
(`SOURCE/STREAM`, in microseconds), in the commit that carries the rows. `--since` reads any
window of any age under a transaction of its own and leaves the position alone. A position that
lies in the future (the clock was ahead) stays, and what was skipped is read under another name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import NamedTuple

from ingest.batch import Batch, Piece
from lake import Lake

APART = timedelta(seconds=60)  # by how much two clocks may differ
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
        """Where the window ends: never beyond now, so that a position never is."""
        return min(self.until or self.now, self.now)

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
        clock: Callable[[], datetime | None] = lambda: None,
    ) -> Iterator[Piece]:
        """The pieces of a stream: one after the other from its cursor, beginning `overlap` before
        it for what arrived late; or of the window that was asked for. `clock` is the server's."""
        for flow in self._believed(clock).flows(stream, overlap, oldest):
            yield from self._stretches(stream, flow, read, step)

    def _believed(self, clock: Callable[[], datetime | None]) -> Window:
        """The same window, where this machine's clock is ahead of the server's by that one."""
        told = clock() if self.since is None else None
        if told is None or told + APART >= self.now:
            return self
        return replace(self, now=told + APART)

    def flows(
        self, stream: Stream, overlap: timedelta, oldest: Callable[[], datetime]
    ) -> Iterator[_Flow]:
        """What is to be read, each under a position of its own."""
        if self.since is not None:
            name, after = self._backfill(stream, self.since)
            yield _Flow(name, after, moment(after) if after >= 0 else self.since, self.high)
            return
        at = self.position(stream.table, f"{stream.source}/{stream.name}")
        if at < 0:
            yield _Flow(stream.name, at, oldest(), self.high)
            return
        back = moment(at) - overlap
        name = f"{stream.name}/before-{at}"
        done = self.position(stream.table, f"{stream.source}/{name}")
        if back > self.now or -1 < done < at:  # the clock was ahead: what lies before was skipped
            low = oldest() if done < 0 else moment(done) - overlap
            yield _Flow(name, done, low, min(self.high, moment(at)))
        yield _Flow(stream.name, at, back, self.high)

    def _backfill(self, stream: Stream, since: datetime) -> tuple[str, int]:
        """The name of a window that was asked for, and up to where it was read: -1 for a new one,
        and for one that was read to its end before."""
        first = f"{stream.name}/{micros(since)}-{micros(self.high)}"
        for turn in count():
            name = f"{first}~{turn}" if turn else first
            after = self.position(stream.table, f"{stream.source}/{name}")
            if after < micros(self.high):
                return name, after
        raise AssertionError

    def _stretches(
        self, stream: Stream, flow: _Flow, read: Callable[[Stretch], Batch], step: Step
    ) -> Iterator[Piece]:
        low, after = flow.low, flow.after
        begin = moment(after) if after >= 0 else low
        while low < flow.high:
            edge = moment(after) if after >= 0 else low
            high = min(max(edge, low) + step.size, flow.high)
            if high <= edge and after >= 0:
                return
            stretch = Stretch(low, high)
            yield Piece(
                table=stream.table,
                source=stream.source,
                batch=flow.name,
                number=micros(high),
                read=lambda stretch=stretch: read(stretch),  # type: ignore[misc]
                origin=f"{stream.origin} {stretch.low:%Y-%m-%d %H:%M:%S} … {high:%H:%M:%S}",
                after=after,
                bounds=(low, high),
                stream=stream.scope or stream.name,
                share=(high - begin) / (flow.high - begin),
            )
            low, after = high, micros(high)


class _Flow(NamedTuple):
    """A part of a pull: its name and position in µs (-1: none), from where to where it reads."""

    name: str
    after: int
    low: datetime
    high: datetime


@dataclass(frozen=True)
class Stream:
    """One ordered flow of a source into one table, with a cursor of its own.

    `scope`, where the name is longer, is the server: what it delivered is not written again,
    whichever of its streams brings it.
    """

    table: str
    source: str
    name: str
    origin: str
    scope: str = ""


def micros(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def moment(at: int) -> datetime:
    """The time so many microseconds after 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
