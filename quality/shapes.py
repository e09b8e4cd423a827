"""Shapes that differ in one word become one template, in columns.

A shape's words are hashed with their position and summed; less one word's own hash, the sum
names "this shape but for that word" (as Rabin–Karp does for substrings). Shapes that share such a
name with at least `LEAST` different words there are one template; where several places qualify,
the one with the most words. Repeated, so that several words of a shape can vary.
"""

from __future__ import annotations

import polars as pl

LEAST = 4  # different words in one place make it a value
FIXED = 7  # what a template keeps at least: words count 1 + _WEIGHT, other signs 1
_WEIGHT = 2
ROUNDS = 4
HOLES = ("<*>", "<word>")
LITERALS = ("null", "None", "none", "nil", "NULL", "true", "false", "True", "False", "NaN")
_WORD = r"\p{L}[\p{L}\p{N}_]*(?:[-.][\p{L}\p{N}_]+)*"
_TOKENS = rf"<\*>|<word>|{_WORD}|[\p{{N}}_]+|[^\p{{L}}\p{{N}}_]"


def merge(found: pl.Series, known: pl.Series | None = None) -> pl.DataFrame:
    """shape, and the template it belongs to: a known one that fits it, else what the shapes
    found now and the known templates make of it."""
    earlier = pl.Series([], dtype=pl.String) if known is None else known.drop_nulls().unique()
    texts = pl.DataFrame({"shape": found}, schema={"shape": pl.String})
    same = texts.filter(pl.col("shape").is_in(earlier.implode()))
    same = same.with_columns(template=pl.col("shape"))
    rest = texts.join(same, on="shape", how="anti")
    fits = _known(_tokens(rest["shape"]), _learnt(earlier))
    rest = rest.join(fits, on="shape", how="anti")
    grown = _grown(pl.concat([rest["shape"], earlier]).unique()) if rest.height else fits
    return pl.concat([same, fits, grown.join(rest, on="shape", how="semi")])


def _tokens(texts: pl.Series) -> pl.DataFrame:
    """Every token of every text: shape, at (its place), token, word (whether it is one)."""
    rows = texts.rename("shape").to_frame()
    rows = rows.with_columns(token=pl.col("shape").str.extract_all(_TOKENS))
    rows = rows.with_columns(at=pl.int_ranges(pl.col("token").list.len()))
    rows = rows.explode("token", "at", empty_as_null=True).drop_nulls()
    return rows.with_columns(word=pl.col("token").str.contains(rf"^{_WORD}$"))


def _grown(texts: pl.Series) -> pl.DataFrame:
    """shape, template: merged among themselves, round by round."""
    tokens = _tokens(texts)
    for _ in range(ROUNDS):
        places = _varying(tokens)
        if not places.height:
            break
        tokens = tokens.join(places, on=["shape", "at"], how="left").with_columns(
            token=pl.coalesce("hole", "token"), word=pl.col("word") & pl.col("hole").is_null()
        )
        tokens = tokens.drop("hole")
    joined = tokens.sort("at").group_by("shape").agg(template=pl.col("token").str.join(""))
    whole = texts.rename("shape").to_frame().join(joined, on="shape", how="left")
    return whole.with_columns(pl.col("template").fill_null(""))


def _hash() -> pl.Expr:
    return pl.struct("at", "token").hash(7)


def _varying(tokens: pl.DataFrame) -> pl.DataFrame:
    """shape, at, hole: the place of each shape that is a value, if any, and what stands for it."""
    named = tokens.with_columns(own=_hash(), size=pl.len().over("shape"))
    named = named.with_columns(
        but=pl.col("own").sum().over("shape") - pl.col("own"),
        fixed=(_WEIGHT * pl.col("word") + (pl.col("token") != " ")).sum().over("shape")
        - _WEIGHT * pl.col("word"),
        masked=pl.col("token") == "<*>",
        open=pl.col("token").is_in(HOLES),
        plain=pl.col("word") & ~pl.col("token").is_in(LITERALS),
    )
    group = ["size", "at", "but"]
    some = named.filter(pl.col("fixed") >= FIXED, pl.col("plain") | pl.col("open"))
    some = some.filter(pl.len().over(group) > 1).with_columns(
        kinds=pl.col("token").n_unique().over(group),
        opened=pl.col("open").any().over(group),
        hole=pl.when(pl.col("masked").any().over(group))
        .then(pl.lit("<*>"))
        .otherwise(pl.lit("<word>")),
    )
    enough = pl.when("opened").then(2).otherwise(LEAST)
    some = some.filter(pl.col("kinds") >= enough, pl.col("token") != pl.col("hole"))
    best = some.sort("kinds", "at", descending=[True, False])
    return best.unique("shape", keep="first", maintain_order=True).select("shape", "at", "hole")


def _learnt(known: pl.Series) -> pl.DataFrame:
    """Known templates with words left out: shape, size, holes (their places), rest (the hash of
    what else they hold)."""
    texts = known.filter(known.str.contains("<word>", literal=True))
    hole = pl.col("token") == "<word>"
    tokens = _tokens(texts).with_columns(own=_hash())
    return (
        tokens.sort("at")
        .group_by("shape")
        .agg(size=pl.len(), holes=pl.col("at").filter(hole), rest=pl.col("own").filter(~hole).sum())
    )


def _known(tokens: pl.DataFrame, learnt: pl.DataFrame) -> pl.DataFrame:
    """shape, template: shapes that fit a known template with words left out; of several, the one
    that leaves out fewest."""
    whole = tokens.with_columns(own=_hash(), size=pl.len().over("shape"))
    total = whole.group_by("shape", "size").agg(
        total=pl.col("own").sum(), word=pl.col("at").filter("word")
    )
    found = []
    for (holes,), some in learnt.group_by("holes", maintain_order=True):
        left = whole.filter(
            pl.col("at").is_in(list(holes)), pl.col("size").is_in(some["size"].unique().implode())
        )
        left = left.filter(pl.col("word").all().over("shape"), pl.len().over("shape") == len(holes))
        less = left.group_by("shape").agg(less=pl.col("own").sum()).join(total, on="shape")
        keyed = less.select("shape", "size", rest=pl.col("total") - pl.col("less"))
        fit = keyed.join(some.rename({"shape": "template"}), on=["size", "rest"])
        found.append(fit.select("shape", "template", blanks=pl.lit(len(holes))))
    if not found:
        return pl.DataFrame(schema={"shape": pl.String, "template": pl.String})
    every = pl.concat(found).sort("blanks", "template").unique("shape", keep="first")
    return every.select("shape", "template")


def parameters(bodies: pl.DataFrame) -> pl.DataFrame:
    """body, template, template_id, parameters: the masked `values` of each body with the words
    that its template left out, in order."""
    names = ("body", "template", "template_id")
    out = [*map(pl.col, names), pl.col("values").alias("parameters")]
    merged = pl.col("shape") != pl.col("template")
    plain = bodies.filter(~merged | merged.is_null()).select(out)
    some = bodies.filter(merged)
    if not some.height:
        return plain
    pairs = some.select("shape", "template").unique()
    slots = _tokens(pairs["shape"]).join(pairs, on="shape")
    theirs = _tokens(pairs["template"].unique()).select(template="shape", at="at", hole="token")
    slots = slots.join(theirs, on=["template", "at"]).filter(pl.col("hole").is_in(HOLES))
    masked = pl.col("token") == "<*>"
    recipe = (
        slots.sort("at")
        .group_by("shape", maintain_order=True)
        .agg(word=pl.when(~masked).then("token"), place=masked.cum_sum().cast(pl.Int64) - 1)
    )
    rows = some.with_row_index("line").join(recipe, on="shape")
    each = rows.explode("word", "place", empty_as_null=True)
    each = each.with_columns(
        value=pl.coalesce(
            "word", pl.col("values").list.get(pl.col("place").clip(0), null_on_oob=True)
        )
    )
    lists = each.group_by("line", maintain_order=True).agg(parameters="value")
    return pl.concat([plain, rows.join(lists, on="line").select(*names, "parameters")])
