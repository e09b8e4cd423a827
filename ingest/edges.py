"""The service graph of a site without traces, from JSON lines or CSV of the table's columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ingest import files
from ingest.batch import Piece, content_id
from ingest.records import decode
from ingest.source import Source
from ingest.window import Window

_REQUIRED = ("minute", "caller", "callee")


class Edges(Source):
    """One piece per file."""

    name = "edges"
    about = "the service graph of a site without traces: JSON lines or CSV"

    def read(self, _window: Window) -> Iterator[Piece]:
        """Every file below the target."""
        for path, content in files.contents(self.given.target, ".jsonl", ".ndjson", ".csv"):
            text = files.text(path, content)
            work = partial(decode, "raw_edges", text, _REQUIRED, self.given.place, str(path))
            yield Piece("raw_edges", "edges", content_id(content), 1, work, str(path))
