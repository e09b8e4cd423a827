"""Logs of a Loki server, through its query_range API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
from pydantic import Field

from ingest.batch import Batch, Piece
from ingest.log_lines import decode_lines, service_of
from ingest.source import Source
from ingest.web import Overloaded, Web, WebOptions, server_of
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
            oldest=lambda: window.high - timedelta(days=self.given.reach),
        )

    def check(self) -> str:
        """The labels a server knows."""
        found = Web(self.given).json("/loki/api/v1/labels")
        return f"{len(found.get('data') or [])} labels"

    def _lines(self, web: Web, step: Step, stretch: Stretch) -> Batch:
        rows = list(self._complete(web, step, stretch))
        step.settle(len(rows))
        if not rows:
            return decode_lines("", {}, self.given.place, web.url)
        text = b"\n".join(msgspec.json.encode(row) for row in rows).decode()
        return decode_lines(text, {}, self.given.place, web.url)

    def _complete(self, web: Web, step: Step, stretch: Stretch) -> Iterator[dict[str, Any]]:
        """The lines of a stretch, in time order."""
        asked = {
            "query": self.given.query,
            "start": micros(stretch.low) * 1000,
            "end": micros(stretch.high) * 1000,
            "limit": self.given.limit,
            "direction": "forward",
        }
        try:
            reply = web.json("/loki/api/v1/query_range", asked)
            streams = reply["data"]["result"] if reply["data"]["resultType"] == "streams" else None
        except Overloaded:
            streams, step.trouble = None, True
            if stretch.length <= timedelta(seconds=1):
                raise
        except (KeyError, TypeError):
            raise UserError(f"{web.url} answers, but not as Loki does.") from None
        lines = 0 if streams is None else sum(len(one["values"]) for one in streams)
        if streams is not None and lines < self.given.limit:
            yield from sorted(
                (_row(one["stream"], *value[:2]) for one in streams for value in one["values"]),
                key=lambda row: int(row["ts"]),
            )
            return
        if stretch.length <= _TICK:
            raise UserError(
                f"{web.url}: {lines} lines within a microsecond, as many as a reply may hold;"
                f" raise `limit` above {self.given.limit}. Nothing of this window was written."
            )
        for half in stretch.halves():
            yield from self._complete(web, step, half)


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
