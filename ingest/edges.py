"""The service graph of a site without traces, from JSON lines or CSV of the table's columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ingest import files
from ingest.batch import Piece, Request, content_id
from ingest.records import decode
from lake import Lake

_REQUIRED = ("minute", "caller", "callee")


def pieces(request: Request, _lake: Lake) -> Iterator[Piece]:
    """One piece per file."""
    for path, content in files.contents(request.target, ".jsonl", ".ndjson", ".csv"):
        work = partial(
            decode, "raw_edges", files.text(path, content), _REQUIRED, request.place, str(path)
        )
        yield Piece("raw_edges", "edges", content_id(content), 1, work, str(path))
