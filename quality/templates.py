"""Log templates, mined in columns: values are masked, shapes that differ in one word are merged.

A line's *shape* is its text with every value replaced by `<*>`; it depends on the line alone, so
the same line has the same shape in every run. Shapes that are equal but for one word, with at
least `LEAST` different words there, become one template with `<word>` in that place
(`quality.shapes`); what an earlier run merged stays merged. A template's id is a hash of its
text. `filled(template, parameters)` gives back what the line said.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType

import numpy as np
import polars as pl

from lake import TABLES, workers
from quality import masks, shapes, stacks, values

FIELDS = ("level", "severity"), ("message", "msg", "event"), ("error", "err", "exception")
ENOUGH = 5_000  # lines for which it pays to load the compiled loops


def shape(bodies: pl.Series) -> pl.Series:
    """The shape of each line, by itself."""
    texts = pl.LazyFrame({"said": bodies}).with_columns(said(pl.col("said")))
    return masks.read(texts, "said").collect()["shape"]


def said(body: pl.Expr) -> pl.Expr:
    """What a line says: of a JSON object its level, message and error, else the line itself,
    without a trace's frames and colours, and beyond `masks.LONGEST` characters cut off."""
    body = stacks.without_frames(body.str.strip_chars()).str.slice(0, masks.LONGEST)
    json = pl.when(body.str.starts_with("{")).then(body)
    parts = [_json(json, "|".join(keys)) for keys in FIELDS]
    message = parts[1]
    text = pl.concat_str(parts, separator=" ", ignore_nulls=True)
    text = pl.when(message.is_not_null()).then(text).otherwise(body)
    return text.str.replace_all(rf"\x1b\[[0-9;]*m|{masks.SIGNS}", "")


def _json(body: pl.Expr, keys: str) -> pl.Expr:
    return body.str.extract(rf'"(?:{keys})":\s*"((?:[^"\\]|\\.)*)"')


def assign(lines: pl.DataFrame, known: pl.Series | None = None) -> pl.DataFrame:
    """`lines` with template_id, parameters, and the template's text in `template`.

    `known` are the texts of templates that earlier runs found.
    """
    kernel = values.compiled() if lines.height >= ENOUGH else None
    if kernel is not None:
        return _assigned(lines, known, kernel)
    texts = lines.select("body").unique().lazy().with_columns(said=said(pl.col("body")))
    bodies = masks.read(texts, "said").drop("said").collect(engine="streaming")
    found = _merged(bodies["shape"].drop_nulls().unique(), known)
    whole = shapes.parameters(bodies.join(found, on="shape", how="left"))
    return lines.join(whole, on="body", how="left", maintain_order="left")


def _assigned(lines: pl.DataFrame, known: pl.Series | None, kernel: ModuleType) -> pl.DataFrame:
    """The same, by compiled loops, on all cores."""
    body = lines["body"].fill_null("")
    odd = values.odd(body)
    if len(odd):
        plain, texts = values.spoken(body, odd, FIELDS, kernel)
        body = body.clone().scatter(plain, texts)
        rest = np.setdiff1d(odd, plain, assume_unique=True)
        if len(rest):
            some = body.gather(rest).to_frame().select(said(pl.col("body")))
            body = body.scatter(rest, some["body"])
    most = max(-(-lines.height // workers.cores()), ENOUGH, 1)
    found = values.read(body, kernel, most)
    shaped = _merged(pl.concat([one.shapes for one in found]).unique(), known)
    with ThreadPoolExecutor(workers.cores()) as threads:
        made = pl.concat(threads.map(partial(_filled, shaped=shaped, kernel=kernel), found))
    if lines["body"].null_count():
        made = made.select(pl.when(lines["body"].is_not_null()).then(pl.all()))
    return lines.hstack(made)


def _filled(found: values.Read, shaped: pl.DataFrame, kernel: ModuleType) -> pl.DataFrame:
    """template, template_id and parameters of each line."""
    every = found.shapes.to_frame().join(shaped, on="shape", how="left", maintain_order="left")
    parameters = values.filled(found, shapes.recipes(every), kernel)
    texts: pl.DataFrame = every["template", "template_id"][found.codes]
    return texts.with_columns(parameters=parameters)


def _merged(found: pl.Series, known: pl.Series | None) -> pl.DataFrame:
    """shape, template, template_id."""
    pairs = shapes.merge(found, known)
    return pairs.join(_named(pairs["template"].unique()), on="template")


def _named(texts: pl.Series) -> pl.DataFrame:
    ids = pl.Series("template_id", [template_id(text) for text in texts.to_list()], pl.String)
    return pl.DataFrame([texts, ids])


def template_id(text: str) -> str:
    """The template's name: the same for the same text, in every run."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def filled(template: str, parameters: list[str]) -> str:
    """The text that was said: a template with its values put back, in order."""
    parts = masks.HOLE.split(template)
    holes = [*parameters, *[""] * (len(parts) - len(parameters))]
    return "".join(part + value for part, value in zip(parts, holes, strict=False))


def gathered(known: pl.DataFrame, texts: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """The `templates` table: new `texts` (template_id, template) beside the known ones, counted
    by `seen` (template_id, first_seen, last_seen, count); what rca wrote about known ones stays."""
    fresh = texts.unique("template_id", keep="any").join(known, on="template_id", how="anti")
    every = pl.concat([known.select(*_KEPT), fresh], how="diagonal_relaxed")
    return every.join(seen, on="template_id").select(TABLES["templates"].schema.names)


_KEPT = ("template_id", "template", "intent", "intent_confidence", "labelled_by")
