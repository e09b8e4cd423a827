"""Traces of Jaeger: files of its query API's JSON (or OTLP JSON), or a live server.

A server is asked service by service and window by window. Where a reply reaches the limit the
window is halved, so that nothing is lost; a trace seen through several services is taken once;
traces that were still growing are read again in the next pull's overlap. API v1 is tried first,
then v3 (OTLP JSON).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
import requests
from pydantic import Field

from ingest import chunks, files, jaeger_json, otlp
from ingest.batch import Batch, Piece, Place, content_id
from ingest.later import Later
from ingest.source import Source
from ingest.web import Damaged, Overloaded, Refused, Web, WebOptions, as_json, is_url, server_of
from ingest.window import Step, Stream, Stretch, Window, micros
from lake import UserError, workers

_LIMITS = {10, 20, 25, 50, 100, 200, 250, 500, 1000, 1500, 2000, 5000, 10_000}  # as servers have
TICK = timedelta(microseconds=1)


class JaegerOptions(WebOptions):
    """Options of `jaeger`; all but the first group concern a server."""

    services: tuple[str, ...] = Field(
        (), description="services to pull (default: all)", examples=[["cart"]]
    )
    limit: int = Field(1500, ge=1, description="traces of one reply, at most")
    window: float = Field(900.0, gt=0, description="seconds of one question, to begin with")
    overlap: float = Field(300.0, ge=0, description="seconds read again for late spans")
    reach: float = Field(2.0, gt=0, description="days the first pull goes back")
    api: Literal["auto", "v1", "v3"] = Field("auto", description="which query API")


class Jaeger(Source):
    """Files, one piece each; or a server, window by window."""

    name = "jaeger"
    about = "traces: Jaeger's query API, files of its JSON, or OTLP JSON"
    options = JaegerOptions
    selects = ("services",)

    @property
    def server(self) -> str | None:
        """The server asked."""
        return server_of(self.given)

    def read(self, window: Window) -> Iterator[Piece]:
        """Pieces of `raw_spans`."""
        if is_url(self.given.target):
            yield from Server(self.given).pieces(window, self.selection)
            return
        found = files.files(self.given.target, ".json", ".jsonl")
        for path, share in files.shares(found):
            if chunks.is_big(path):
                yield from self._big(path)
                continue
            content = files.content(path)
            read = otlp.decode if b'"resourceSpans"' in content[:4096] else jaeger_json.decode
            work = partial(read, content, self.given.place, str(path))
            name = content_id(content)
            yield Piece("raw_spans", "jaeger", name, 1, work, str(path), share=share)

    def check(self) -> str:
        """The services a server knows, or the first file."""
        if is_url(self.given.target):
            return Server(self.given).check()
        return super().check()

    def _big(self, path: Path) -> Iterator[Piece]:
        with chunks.plain(path) as file:
            head = chunks.Part(str(file), 0, 4096).content()
            if b'"resourceSpans"' in head:
                yield from otlp.big(file, self.given.place, "jaeger", str(path))
                return
            parts = chunks.cut(file, jaeger_json.TRACE)
            last = len(parts) - 1
            work = [
                partial(
                    jaeger_json.decode_part,
                    part,
                    first=place == 0,
                    last=place == last,
                    place=self.given.place,
                    origin=str(path),
                )
                for place, part in enumerate(parts)
            ]
            workers.ready("ingest.land", "ingest.jaeger_json", "ingest.jaeger_compiled")
            # a cut file is found out before any of it is written
            whole = Later(partial(jaeger_json.whole, parts[-1], first=last == 0, origin=str(path)))
            name = chunks.file_id(file)
            whole.result()
            yield Piece("raw_spans", "jaeger", name, 1, work[0], str(path), parts=work)


class Server:
    """A query service."""

    def __init__(self, given: JaegerOptions) -> None:
        self.given = given
        self.web = Web(given)
        self.step = Step(timedelta(seconds=given.window))
        self._version: str | None = None if given.api == "auto" else given.api
        self.most = given.limit  # traces of one reply: less where the server turns out to cap it
        self._honest = set[int]()

    def pieces(self, window: Window, selection: str) -> Iterator[Piece]:
        """One piece per stretch of time, all services in it."""
        services = self.services()
        host = self.web.host
        name = f"{host}/{selection}" if selection else host
        stream = Stream("raw_spans", "jaeger", name, self.web.url, host)
        yield from window.pieces(
            stream,
            lambda stretch: self._pulled(stretch, services),
            step=self.step,
            overlap=timedelta(seconds=self.given.overlap),
            clock=self.web.clock,
            oldest=lambda: window.high - timedelta(days=self.given.reach),
        )

    def check(self) -> str:
        """What the server knows; UserError where it does not answer as Jaeger does."""
        return f"{len(self.services())} services"

    def services(self) -> Sequence[str]:
        """The services asked for, or all the server knows."""
        if self.given.services:
            return self.given.services
        found = self._services("/api/services", "data", "v1")
        if found is None:
            found = self._services("/api/v3/services", "services", "v3")
        if found is None:
            raise UserError(f"{self.web.url} answers, but not as Jaeger's query service does.")
        return sorted(found)

    def _services(self, path: str, key: str, version: str) -> list[str] | None:
        if self._version not in (None, version):
            return None
        try:
            reply = self.web.json(path)
        except Refused as error:
            if error.status in (404, 405, 501):
                return None
            raise
        if not isinstance(reply, dict) or not isinstance(reply.get(key) or [], list):
            return None
        self._version = version
        return [str(one) for one in reply.get(key) or []]

    def _pulled(self, stretch: Stretch, services: Sequence[str]) -> Batch:
        """Every trace with a span in the stretch, each once."""
        parts, seen = list[Batch](), set[str]()
        for service in services:
            for batch in self._complete(stretch, service):
                traces = set(batch.rows["trace_id"].unique().drop_nulls().to_list())
                new = traces - seen
                seen |= traces
                rows = batch.rows
                if len(new) < len(traces):
                    nameless = pl.col("trace_id").fill_null("") == ""
                    mine = pl.col("trace_id").is_in(list(new)) | nameless
                    rows = rows.filter(mine)
                records = rows.height + batch.rejected.height
                parts.append(Batch(rows, records, batch.rejected))
        self.step.settle(sum(part.records for part in parts) * 4)
        return joined(parts)

    def _complete(self, stretch: Stretch, service: str) -> Iterator[Batch]:
        """The replies that together hold all traces of a service: halves where one was full."""
        try:
            batch, traces = self._asked(stretch, service)
        except Overloaded:
            if stretch.length <= timedelta(seconds=1):
                raise
            self.step.trouble = True
            for half in stretch.halves():
                yield from self._complete(half, service)
            return
        if traces < self.most and not self._looks_capped(stretch, service, traces):
            yield batch
            return
        if stretch.length <= TICK:
            raise UserError(
                f"{self.web.url}: {traces} traces of {service} began within a microsecond, as many"
                f" as a reply may hold; raise `limit` above {self.most}. Nothing of this"
                " window was written."
            )
        for half in stretch.halves():
            yield from self._complete(half, service)

    def _looks_capped(self, stretch: Stretch, service: str, traces: int) -> bool:
        """Whether the server gives fewer traces than asked for (Tempo: 20; a limit of its own).

        A reply of just as many as a usual limit is held against its halves, once for each number.
        """
        if traces not in _LIMITS or traces in self._honest or stretch.length <= TICK * 2:
            return False
        halves = [(half, *self._asked(half, service)) for half in stretch.halves()]
        found = pl.concat([batch.rows["trace_id"] for _, batch, _ in halves]).n_unique()
        full = [half for half, _, count in halves if count == traces]  # it may be cut as well
        if found > traces or any(self._looks_capped(half, service, traces) for half in full):
            self.most = min(self.most, traces)
            return True
        self._honest.add(traces)
        return False

    def _asked(self, stretch: Stretch, service: str) -> tuple[Batch, int]:
        """One reply and how many traces it holds; microseconds on both ends are included."""
        last = stretch.high - TICK
        if self._version == "v3":
            wanted = {
                "query.service_name": service,
                "query.start_time_min": _stamp(stretch.low),
                "query.start_time_max": _stamp(last),
                "query.num_traces": self.most,
                "query.search_depth": self.most,
                "query.raw_traces": "true",
            }
            decode = self._otlp
            try:
                return self.web.ask("GET", "/api/v3/traces", decode, params=wanted)
            except Refused as error:
                if error.status == 404:  # how Jaeger says that there are none
                    return joined([]), 0
                raise
        asked: dict[str, Any] = {
            "service": service,
            "start": micros(stretch.low),
            "end": micros(last),
            "limit": self.most,
            "raw": "true",  # as stored: the server's own adjustments of clocks left out
        }
        return self.web.ask("GET", "/api/traces", self._jaeger, params=asked)

    def _jaeger(self, reply: requests.Response) -> tuple[Batch, int]:
        return decoded(jaeger_json.decode_counted, reply, self.given, self.web.url)

    def _otlp(self, reply: requests.Response) -> tuple[Batch, int]:
        if b'"spans"' not in reply.content and b'"error"' not in reply.content:
            as_json(reply)
            return joined([]), 0
        return decoded(_otlp_counted, reply, self.given, self.web.url)


def decoded(
    decode: Any, reply: requests.Response, given: JaegerOptions, origin: str
) -> tuple[Batch, int]:
    """A reply's spans and how many traces they are of; Damaged, to be asked again, if cut."""
    try:
        found: tuple[Batch, int] = decode(reply.content, given.place, origin)
    except UserError as error:
        raise Damaged(str(error)) from error
    return found


def _otlp_counted(content: bytes, place: Place, origin: str) -> tuple[Batch, int]:
    """The spans of a reply, and how many traces they are of; one for each that was refused."""
    batch = otlp.decode(content, place, origin)
    return batch, batch.rows["trace_id"].n_unique() + batch.rejected.height


def joined(parts: Sequence[Batch]) -> Batch:
    """Several replies as one batch."""
    if not parts:
        return jaeger_json.decode(b'{"data":[]}', Place(), "")
    return Batch(
        pl.concat([part.rows for part in parts]),
        sum(part.records for part in parts),
        pl.concat([part.rejected for part in parts]),
    )


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
