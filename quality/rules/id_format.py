"""Ids in another notation become canonical lowercase hex.

Notations: upper case, dashes (UUID, X-Ray), `0x`, base64, decimal, stripped leading zeros. Zero
is no id and becomes null. What no notation explains stays for `id_corrupt` to compare, and is
dropped after it.
"""

from __future__ import annotations

import base64
import binascii
import re

import polars as pl

from quality import marks

NAME = "id_format"
_URL_SAFE = str.maketrans("-_", "+/")
_X_RAY = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
SIZES = {"trace_id": 32, "span_id": 16, "parent_span_id": 16}


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Every id that can be read canonical; `repaired` where the notation was another."""
    for column in SIZES:
        spans = _column(spans, column)
    return spans


def drop_traces(spans: pl.DataFrame) -> pl.DataFrame:
    """Trace ids that are still none become null: `id_missing` sees to them."""
    return _without(spans, "trace_id")


def drop_spans(spans: pl.DataFrame) -> pl.DataFrame:
    """Span ids that are still none become null; so do links, and `faults` says so."""
    broken = ~_good("parent_span_id")
    marked = spans.with_columns(marks.fault(NAME, broken))
    return _without(_without(marked, "parent_span_id"), "span_id")


def drop(rows: pl.DataFrame) -> pl.DataFrame:
    """Ids that are none become null, and `faults` says so; for rows that only refer to spans."""
    broken = ~_good("trace_id") | ~_good("span_id")
    marked = rows.with_columns(marks.fault(NAME, broken))
    return _without(_without(marked, "trace_id"), "span_id")


def _without(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    return rows.with_columns(pl.when(_good(column)).then(column).alias(column))


def _good(column: str) -> pl.Expr:
    return pl.col(column).str.contains(rf"^[0-9a-f]{{{SIZES[column]}}}$")


def _column(spans: pl.DataFrame, column: str) -> pl.DataFrame:
    zero = pl.col(column).str.contains("^(0x)?0*$").fill_null(value=False)
    odd = spans.filter(~_good(column) | zero)[column].unique().drop_nulls().to_list()
    if not odd:
        return spans
    known = pl.DataFrame(
        {"odd": odd, "hex": [canonical(text, SIZES[column]) for text in odd]},
        schema={"odd": pl.String, "hex": pl.String},
    )
    joined = spans.join(known, left_on=column, right_on="odd", how="left", maintain_order="left")
    read = pl.col("hex").is_not_null()
    return joined.with_columns(
        pl.when(read).then("hex").when(~zero).then(column).alias(column),
        marks.repaired(NAME, read),
    ).drop("hex")


def canonical(text: str, size: int) -> str | None:
    """The id as `size` hex digits; None when it is none, or zero."""
    bare = text.strip().lower()
    bare = bare[2:] if bare.startswith("0x") else bare
    bare = bare[2:] if _X_RAY.fullmatch(bare) else bare
    bare = bare.replace("-", "") if re.fullmatch(r"[0-9a-f-]+", bare) else bare
    found = _base64(text.strip(), size) or _decimal(bare, size) or _hex(bare, size)
    return found if found and found.strip("0") else None


def _base64(text: str, size: int) -> str | None:
    for length in {size // 2, 8}:
        if len(text) == -(-length // 3) * 4 and text.endswith("="):
            plain = text.translate(_URL_SAFE)
            try:
                return base64.b64decode(plain, validate=True).hex().zfill(size)
            except binascii.Error:
                return None
    return None


def _decimal(text: str, size: int) -> str | None:
    """Digits alone, and more or other than a hex id has."""
    if not text.isdecimal() or len(text) in {16, 32} or len(text) < 17:
        return None
    value = int(text)
    return f"{value:0{size}x}" if value < 1 << 4 * size else None


def _hex(text: str, size: int) -> str | None:
    if not re.fullmatch(r"[0-9a-f]+", text) or len(text) > size:
        return None
    return text.zfill(size)
