"""One pull of one source into the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain

from ingest.batch import Piece, Request
from ingest.land import Landed, land
from lake import Lake, UserError

SOURCES = {
    "jaeger": "traces: files of Jaeger's query API or OTLP JSON",
    "otlp": "traces: OTLP JSON of an OpenTelemetry collector's file exporter",
    "prometheus": "metrics: a server's URL, or OpenMetrics text",
    "sentry": "errors: files of Sentry's API",
    "logs": "logs: a Kubernetes pods/ tree, or JSON lines",
    "git": "changes: the commits of a clone or bundle",
    "k8s": "changes: Kubernetes objects and events as the API lists them",
    "changes": "changes: JSON lines or CSV of deploys, flags and the like",
    "edges": "the service graph of a site without traces: JSON lines or CSV",
}


def ingest(
    lake: Lake,
    source: str,
    request: Request,
    progress: Callable[[Landed, str], None] | None = None,
) -> Landed:
    """Pull what `request` asks for; what landed before is left out.

    The lake is made when the first piece of input has been read, so a wrong path leaves none.
    Raises UserError for a source there is none of and for input that cannot be read.
    """
    if source not in SOURCES:
        raise UserError(f"there is no source {source!r}; there are {', '.join(SOURCES)}.")
    found: Iterator[Piece] = import_module(f"ingest.{source}").pieces(request, lake)
    first = next(found, None)
    if first is None:
        return Landed()
    if not lake.exists():
        batch = first.read()
        lake.create()
        first = Piece(
            first.table, first.source, first.batch, first.number, lambda: batch, first.origin
        )
    else:
        lake.create()
    return land(lake, chain([first], found), progress)
