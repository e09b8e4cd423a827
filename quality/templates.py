"""Log templates, in columns: what varies is masked, what is left names the template.

A template's id is a hash of its masked text, so it is the same in every run. Only distinct
bodies are masked.
"""

from __future__ import annotations

import hashlib

import polars as pl

from lake import TABLES

LONGEST = 2_000  # characters of a line that are looked at
_MASKS = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?", "<time>"),
    (r"\b\d{2}:\d{2}:\d{2}(?:[.,]\d+)?\b", "<time>"),
    (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<id>"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "<ip>"),
    (r"\b0x[0-9a-fA-F]+\b", "<id>"),
    (
        r"\b(?:[0-9a-f]*[0-9][0-9a-f]*[a-f][0-9a-f]*|[0-9a-f]*[a-f][0-9a-f]*[0-9][0-9a-f]*)\b",
        "<id>",
    ),
    (r"\b[\w.+-]+@[\w-]+\.[\w.]+\b", "<mail>"),
    (r"\b[A-Za-z]+(?:[-_][A-Za-z]+)*[-_]?\d[\w-]*\b", "<word>"),
    (r"-?\b\d+(?:[.,]\d+)*", "<n>"),
    (r"\([^()]*=[^()]*\)", "<value>"),  # printed objects: their fields, then lists of them
    (r"\([^()]*=[^()]*\)", "<value>"),
    (r"\{[^{}]*\}", "<value>"),
    (r"\{[^{}]*\}", "<value>"),
    (r"\[[^\[\]]*<value>[^\[\]]*\]", "<value>"),
)
_PARAMETER = (
    r"\d{4}-\d{2}-\d{2}[T ][\d:.,]+Z?|\b\d{2}:\d{2}:\d{2}(?:[.,]\d+)?"
    r"|\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b|\b[\w-]*\d[\w.:-]*\b"
)


def mask(body: pl.Expr) -> pl.Expr:
    """The template of a line: everything that looks like a value replaced by its kind."""
    text = _said(body.str.slice(0, LONGEST))
    for pattern, name in _MASKS:
        text = text.str.replace_all(pattern, name)
    return text.str.replace_all(r"(<[a-z]+>)(?:[,;/ ]*<[a-z]+>)+", "$1").str.strip_chars()


def _said(body: pl.Expr) -> pl.Expr:
    """What a line says: of a JSON object its message, with its level, else the line itself."""
    message = body.str.extract(r'"(?:message|msg|event)":\s*"((?:[^"\\]|\\.)*)"')
    level = body.str.extract(r'"(?:level|severity)":\s*"(\w+)"').fill_null("")
    structured = body.str.starts_with("{") & message.is_not_null()
    return pl.when(structured).then(pl.format("{} {}", level, message)).otherwise(body)


def assign(lines: pl.DataFrame) -> pl.DataFrame:
    """`lines` with template_id, parameters, and the template's text in `template`."""
    bodies = lines.select("body").unique().with_columns(mask(pl.col("body")).alias("template"))
    texts = bodies["template"].unique().drop_nulls()
    names = pl.DataFrame(
        {"template": texts, "template_id": [template_id(text) for text in texts.to_list()]},
        schema={"template": pl.String, "template_id": pl.String},
    )
    known = bodies.join(names, on="template", how="left")
    head = pl.col("body").str.slice(0, LONGEST)
    return lines.join(known, on="body", how="left", maintain_order="left").with_columns(
        head.str.extract_all(_PARAMETER).alias("parameters")
    )


def template_id(text: str) -> str:
    """The template's name: the same for the same masked text, in every run."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def gathered(known: pl.DataFrame, texts: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """The `templates` table: new `texts` (template_id, template) beside the known ones, counted
    by `seen` (template_id, first_seen, last_seen, count); what rca wrote about known ones stays."""
    fresh = texts.unique("template_id", keep="any").join(known, on="template_id", how="anti")
    every = pl.concat([known.select(*_KEPT), fresh], how="diagonal_relaxed")
    return every.join(seen, on="template_id").select(TABLES["templates"].schema.names)


_KEPT = ("template_id", "template", "intent", "intent_confidence", "labelled_by")
