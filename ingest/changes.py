"""Deploys, flags and other changes from JSON lines or CSV of the table's columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import polars as pl

from ingest import files
from ingest.batch import Batch, Piece, content_id
from ingest.records import decode
from ingest.source import Source
from ingest.window import Window
from lake import TABLES

_REQUIRED = ("ts", "kind")


class Changes(Source):
    """One piece per file."""

    name = "changes"
    about = "changes: JSON lines or CSV of deploys, flags and the like"

    def read(self, _window: Window) -> Iterator[Piece]:
        """Every file below the target."""
        for path, content in files.contents(self.given.target, ".jsonl", ".ndjson", ".csv"):
            text = files.text(path, content)
            work = partial(decode, "changes", text, _REQUIRED, self.given.place, str(path))
            yield Piece("changes", "changes", content_id(content), 1, work, str(path))


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows of `changes` without their day; what is not given is null."""
    schema = pl.DataFrame(pl.from_arrow(TABLES["changes"].schema.empty_table())).schema
    return pl.DataFrame(rows, schema={k: v for k, v in schema.items() if k != "date"})


def batch(rows: list[dict[str, object]]) -> Batch:
    """A batch of changes."""
    return Batch(frame(rows), len(rows))
