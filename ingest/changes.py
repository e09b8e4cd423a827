"""Deploys, flags and other changes from JSON lines or CSV of the table's columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import polars as pl

from ingest import files
from ingest.batch import Batch, Piece, Request, content_id
from ingest.records import decode
from lake import TABLES, Lake

_REQUIRED = ("ts", "kind")


def pieces(request: Request, _lake: Lake) -> Iterator[Piece]:
    """One piece per file."""
    for path, content in files.contents(request.target, ".jsonl", ".ndjson", ".csv"):
        work = partial(
            decode, "changes", files.text(path, content), _REQUIRED, request.place, str(path)
        )
        yield Piece("changes", "changes", content_id(content), 1, work, str(path))


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows of `changes` without their day; what is not given is null."""
    schema = pl.DataFrame(pl.from_arrow(TABLES["changes"].schema.empty_table())).schema
    return pl.DataFrame(rows, schema={k: v for k, v in schema.items() if k != "date"})


def batch(rows: list[dict[str, object]]) -> Batch:
    """A batch of changes."""
    return Batch(frame(rows), len(rows))
