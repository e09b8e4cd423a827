"""Ids in another notation become canonical lowercase hex; what is no id becomes null.

Notations: upper case, dashes (UUID), `0x`, base64, decimal, stripped leading zeros.
"""

from __future__ import annotations

import base64
import binascii
import re

import polars as pl

from quality import marks

NAME = "id_format"
SIZES = {"trace_id": 32, "span_id": 16, "parent_span_id": 16}


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Every id canonical or null; `repaired` where the notation was another."""
    for column, size in SIZES.items():
        spans = _column(spans, column, size)
    return spans


def _column(spans: pl.DataFrame, column: str, size: int) -> pl.DataFrame:
    good = pl.col(column).str.contains(rf"^[0-9a-f]{{{size}}}$")
    zero = pl.col(column) == "0" * size
    odd = spans.filter(~good | zero)[column].unique().drop_nulls().to_list()
    if not odd:
        return spans
    known = pl.DataFrame(
        {"odd": odd, "hex": [canonical(text, size) for text in odd]},
        schema={"odd": pl.String, "hex": pl.String},
    )
    joined = spans.join(known, left_on=column, right_on="odd", how="left", maintain_order="left")
    given = pl.col(column).is_in(odd)
    return joined.with_columns(
        pl.when(given).then("hex").otherwise(column).alias(column),
        marks.repaired(NAME, given & pl.col("hex").is_not_null()),
    ).drop("hex")


def canonical(text: str, size: int) -> str | None:
    """The id as `size` hex digits; None when it is none, or zero."""
    bare = text.strip().lower()
    bare = bare[2:] if bare.startswith("0x") else bare
    dashed = re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", bare)
    bare = bare.replace("-", "") if dashed or re.fullmatch(r"[0-9a-f-]+", bare) else bare
    found = _base64(text.strip(), size) or _decimal(bare, size) or _hex(bare, size)
    return found if found and found.strip("0") else None


def _base64(text: str, size: int) -> str | None:
    for length in {size // 2, 8}:
        if len(text) == -(-length // 3) * 4 and text.endswith("="):
            try:
                return base64.b64decode(text, validate=True).hex().zfill(size)
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
