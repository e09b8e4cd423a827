"""Logs of a Loki server, through its query_range API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import polars as pl
from pydantic import Field

from ingest.batch import Batch, Piece, Place
from ingest.log_lines import decode_lines, service_of
from ingest.source import Source
from ingest.web import Damaged, Overloaded, Web, WebOptions, server_of
from ingest.window import Step, Stream, Stretch, Window, micros
from lake import UserError

_TICK = timedelta(microseconds=1)


class LokiOptions(WebOptions):
    """Options of `loki`."""

    query: str = Field('{job=~".+"}', description="LogQL selector of the streams to pull")
    limit: int = Field(5000, ge=1, description="lines of one reply, at most")
    window: float = Field(900.0, gt=0, description="seconds of one question, to begin with")
    overlap: float = Field(300.0, ge=0, description="seconds read again for late lines")
    reach: float = Field(1.0, gt=0, description="days the first pull goes back")


class Loki(Source):
    """A server, window by window; a window whose reply is full is halved."""

    name = "loki"
    about = "logs: a Loki server"
    options = LokiOptions
    selects = ("query",)

    @property
    def server(self) -> str | None:
        """The server asked."""
        return server_of(self.given)

    def read(self, window: Window) -> Iterator[Piece]:
        """Pieces of `raw_logs`."""
        web, step = Web(self.given), Step(timedelta(seconds=self.given.window))
        yield from window.pieces(
            Stream("raw_logs", "loki", f"{web.host}/{self.given.query}", web.url, web.host),
            lambda stretch: self._lines(web, step, stretch),
            step=step,
            overlap=timedelta(seconds=self.given.overlap),
            clock=web.clock,
            oldest=lambda: window.high - timedelta(days=self.given.reach),
        )

    def check(self) -> str:
        """The labels a server knows."""
        found = Web(self.given).json("/loki/api/v1/labels")
        return f"{len(found.get('data') or [])} labels"

    def _lines(self, web: Web, step: Step, stretch: Stretch) -> Batch:
        parts = list(self._complete(web, step, stretch))
        step.settle(sum(part.records for part in parts))
        rows = pl.concat([part.rows for part in parts])
        rejected = pl.concat([part.rejected for part in parts])
        return Batch(rows.drop("arrival"), rows.height + rejected.height, rejected)

    def _complete(self, web: Web, step: Step, stretch: Stretch) -> Iterator[Batch]:
        """The replies that together hold all lines of a stretch, in time order."""
        asked = {
            "query": self.given.query,
            "start": micros(stretch.low) * 1000,
            "end": micros(stretch.high) * 1000,
            "limit": self.given.limit,
            "direction": "forward",
        }
        try:
            batch, lines = web.ask(
                "GET",
                "/loki/api/v1/query_range",
                lambda reply: decode(reply.content, self.given.place, web.url),
                params=asked,
            )
        except Overloaded:
            if stretch.length <= timedelta(seconds=1):
                raise
            step.trouble = True
            lines = self.given.limit
        if lines < self.given.limit:
            yield batch
            return
        if stretch.length <= _TICK:
            raise UserError(
                f"{web.url}: {lines} lines within a microsecond, as many as a reply may hold;"
                f" raise `limit` above {self.given.limit}. Nothing of this window was written."
            )
        for half in stretch.halves():
            yield from self._complete(web, step, half)


class _Stream(msgspec.Struct):
    stream: dict[str, str]
    values: list[list[Any]]


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: list[msgspec.Raw]


class _Reply(msgspec.Struct):
    data: _Data


def decode(content: bytes, place: Place, origin: str) -> tuple[Batch, int]:
    """The lines of a reply in time order, and how many it held, sound or not.

    Raises Damaged for what is cut or none, UserError for a query that gives no lines.
    """
    try:
        data = msgspec.json.decode(content, type=_Reply).data
        streams = [msgspec.json.decode(one, type=_Stream) for one in data.result]
        if data.result_type == "streams":
            rows = [_row(one.stream, *_pair(pair)) for one in streams for pair in one.values]
            rows.sort(key=lambda row: int(row["ts"]))
    except (ValueError, RecursionError) as error:
        if b'"resultType"' in content and b'"streams"' not in content:
            raise UserError(f"{origin}: `query` gives no log lines.") from error
        raise Damaged(f"not a reply of Loki: {error}") from error
    if data.result_type != "streams":
        raise UserError(f"{origin}: `query` gives {data.result_type}, not log lines.")
    text = b"\n".join(msgspec.json.encode(row) for row in rows).decode()
    return decode_lines(text, {}, place, None), len(rows)


def _pair(value: list[Any]) -> tuple[str, str]:
    if len(value) < 2 or not isinstance(value[0], str) or not isinstance(value[1], str):
        raise ValueError("a value that is no pair of time and line")
    return value[0], value[1]


def _row(labels: dict[str, str], at: str, line: str) -> dict[str, Any]:
    """A line with what its stream's labels say of where it was written."""

    def first(*names: str) -> str | None:
        return next((labels[name] for name in names if labels.get(name)), None)

    pod = first("pod", "k8s_pod_name")
    return {
        "ts": at,
        "body": line,
        "service": first("service_name", "app", "service") or (service_of(pod) if pod else None),
        "pod": pod,
        "node": first("node_name", "node", "k8s_node_name"),
        "cluster": first("cluster", "k8s_cluster_name"),
        "namespace": first("namespace", "k8s_namespace_name"),
        "environment": first("environment", "env", "deployment_environment"),
        "severity": first("level", "detected_level", "severity"),
        "attributes": labels,
    }
