"""Shapes that differ in one word become one template, in columns.

A shape's words are hashed with their position and summed; less one word's own hash, the sum
names "this shape but for that word" (as Rabin–Karp does for substrings). Shapes that share such a
name with at least `LEAST` different words there are one template; where several places qualify,
the one with the most words. Repeated, so that several words of a shape can vary.
"""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import polars as pl

LEAST = 4  # different words in one place make it a value
FIXED = 7  # what a template keeps at least: words count 1 + _WEIGHT, other signs 1
_WEIGHT = 2
ROUNDS = 4
HOLES = ("<*>", "<word>")
LITERALS = ("null", "None", "none", "nil", "NULL", "true", "false", "True", "False", "NaN")
_EVERY, _ASCII = (r"\p{L}", r"\p{N}"), ("A-Za-z", "0-9")  # letters, digits


def merge(found: pl.Series, known: pl.Series | None = None) -> pl.DataFrame:
    """shape, and the template it belongs to: a known one that fits it, else what the shapes
    found now and the known templates make of it."""
    earlier = pl.Series([], dtype=pl.String) if known is None else known.drop_nulls().unique()
    if not earlier.len():
        return _grown(found)
    texts = found.rename("shape").to_frame()
    same = texts.filter(pl.col("shape").is_in(earlier.implode()))
    same = same.with_columns(template=pl.col("shape"))
    rest = texts.join(same, on="shape", how="anti")
    fits = _known(_tokens(rest["shape"]), _learnt(earlier))
    rest = rest.join(fits, on="shape", how="anti")
    grown = _grown(pl.concat([rest["shape"], earlier]).unique()) if rest.height else fits
    return pl.concat([same, fits, grown.join(rest, on="shape", how="semi")])


_BLANK, _SIGN, _LITERAL, _PLAIN, _HOLE, _LEFT_OUT = range(6)
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def _split(texts: pl.Series, signs: tuple[str, str] = _EVERY) -> pl.Series:
    """The tokens of every text: holes, words, numbers, other signs one by one."""
    letter, digit = signs
    more = f"[{letter}{digit}_]"
    word = f"[{letter}]{more}*(?:[-.]{more}+)*"
    return texts.str.extract_all(rf"<\*>|<word>|{word}|[{digit}_]+|[^{letter}{digit}_]")


def _signs(texts: pl.Series) -> tuple[str, str]:
    """Letters and digits: for texts of ASCII its own, with which a pattern is ready far sooner."""
    return _ASCII if (texts.str.len_bytes() == texts.str.len_chars()).all() else _EVERY


class _Rows(NamedTuple):
    """Tokens of texts, one text's after the other's: a hash of each (`name`), what `kind` it is,
    its place in the text (`at`), its number among the tokens first read (`word`); the `sizes` of
    the texts."""

    name: Any
    kind: Any
    at: Any
    word: Any
    sizes: Any

    def own(self) -> Any:
        """A hash of every token in its place."""
        found = (self.name + self.at.astype(np.uint64) * _PRIME) * _PRIME
        return (found ^ (found >> np.uint64(32))) * _PRIME

    def summed(self, values: Any) -> Any:
        """The sum of every text's tokens."""
        upto = np.concatenate([np.zeros(1, values.dtype), values.cumsum(dtype=values.dtype)])
        ends = self.sizes.cumsum()
        return upto[ends] - upto[ends - self.sizes]

    def picked(self, texts: Any) -> _Rows:
        """These texts alone."""
        sizes = self.sizes[texts]
        begins = (self.sizes.cumsum() - self.sizes)[texts]
        mine = np.repeat(begins - sizes.cumsum() + sizes, sizes) + np.arange(sizes.sum())
        return _Rows(self.name[mine], self.kind[mine], self.at[mine], self.word[mine], sizes)


def _rows(words: pl.Series, letter: str, sizes: Any) -> _Rows:
    some = words.to_frame("token").select(
        pl.col("token").hash(7).alias("name"),
        pl.when(pl.col("token") == " ").then(_BLANK)
        .when(~pl.col("token").str.contains(f"^[{letter}]")).then(_SIGN)
        .when(pl.col("token").is_in(LITERALS)).then(_LITERAL)
        .otherwise(_PLAIN).cast(pl.Int64).alias("kind")
    )  # fmt: skip
    name, kind = (some[column].to_numpy().copy() for column in ("name", "kind"))
    for number, hash_ in enumerate(_hole_names()):
        kind[name == hash_] = _HOLE + number
    at = np.arange(len(words)) - np.repeat(sizes.cumsum() - sizes, sizes)
    return _Rows(name, kind, at, np.arange(len(words)), sizes)


@cache
def _hole_names() -> Any:
    return pl.Series(HOLES).hash(7).to_numpy()


def _grown(texts: pl.Series) -> pl.DataFrame:
    """shape, template: merged among themselves, round by round; texts that became the same go on
    as one."""
    signs = _signs(texts)
    tokens = _split(texts, signs)
    words = tokens.explode(empty_as_null=False)
    read = _rows(words, signs[0], tokens.list.len().to_numpy().astype(np.int64))
    now, first, same = read, np.arange(len(texts)), np.arange(len(texts))
    for _ in range(ROUNDS):
        holes, kinds = _varying(now)
        if not len(holes):
            break
        name, kind = now.name.copy(), now.kind.copy()
        name[holes], kind[holes] = _hole_names()[kinds - _HOLE], kinds
        now = now._replace(name=name, kind=kind)
        _, one, number = np.unique(
            now.summed(now.own()) + now.sizes.astype(np.uint64),
            return_index=True,
            return_inverse=True,
        )
        now, first, same = now.picked(one), first[one], number[same]
    made = _joined(now, words, read.kind, texts.gather(first))
    return pl.DataFrame({"shape": texts, "template": made.gather(same)})


def _joined(now: _Rows, words: pl.Series, kinds: Any, before: pl.Series) -> pl.Series:
    """The texts that were `before`, with the holes they got since their tokens were of `kinds`."""
    changed = np.flatnonzero(now.summed((now.kind != kinds[now.word]).astype(np.int64)))
    rows = now.picked(changed)
    parts = words.gather(rows.word).to_list()
    for place in np.flatnonzero(rows.kind >= _HOLE).tolist():
        parts[place] = HOLES[rows.kind[place] - _HOLE]
    ends = rows.sizes.cumsum().tolist()
    texts = ["".join(parts[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    return before.scatter(changed, pl.Series(texts, dtype=pl.String))


def _varying(rows: _Rows) -> tuple[Any, Any]:
    """The tokens that are a value, at most one of a text, and the kind of hole each becomes."""
    of = np.repeat(np.arange(len(rows.sizes)), rows.sizes)
    own, word = rows.own(), (rows.kind == _PLAIN) | (rows.kind == _LITERAL)
    fixed = rows.summed(_WEIGHT * word + (rows.kind != _BLANK))[of] - _WEIGHT * word
    may = np.flatnonzero((fixed >= FIXED) & (rows.kind >= _PLAIN))
    if not len(may):
        return may, may
    place = (rows.at[may] << 20 | rows.sizes[of[may]]).astype(np.uint64) * _PRIME
    but = (rows.summed(own)[of[may]] - own[may]) ^ place
    order = np.argsort(but, kind="stable")
    may, but = may[order], but[order]
    begins = np.flatnonzero(np.append(True, but[1:] != but[:-1]))
    words = np.diff(np.append(begins, len(may)))
    opened = np.logical_or.reduceat(rows.kind[may] >= _HOLE, begins)
    masked = np.logical_or.reduceat(rows.kind[may] == _HOLE, begins)
    enough = words >= np.where(opened, 2, LEAST)
    hole = np.repeat(np.where(masked, _HOLE, _LEFT_OUT), words)
    some = np.repeat(enough, words) & (rows.kind[may] != hole)
    may, hole, words = may[some], hole[some], np.repeat(words, words)[some]
    best = np.lexsort((rows.at[may], -words, of[may]))
    may, hole = may[best], hole[best]
    _, first = np.unique(of[may], return_index=True)
    return may[first], hole[first]


def _tokens(texts: pl.Series) -> pl.DataFrame:
    """Every token of every text: shape, at (its place), token, word (whether it is one)."""
    signs = _signs(texts)
    rows = pl.DataFrame({"shape": texts, "token": _split(texts, signs)})
    rows = rows.with_columns(at=pl.int_ranges(pl.col("token").list.len()))
    rows = rows.explode("token", "at", empty_as_null=True).drop_nulls()
    return rows.with_columns(word=pl.col("token").str.contains(f"^[{signs[0]}]"))


def _hash() -> pl.Expr:
    return pl.struct("at", "token").hash(7)


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


def recipes(pairs: pl.DataFrame) -> list[list[int | str]]:
    """How the parameters of every pair of shape and template are made: the number of a masked
    value, or a word that the template left out, in order."""
    masked = pairs["shape"].str.count_matches(HOLES[0], literal=True)
    made: list[list[int | str]] = [[*range(size)] for size in masked.to_list()]
    signs = _signs(pairs["shape"])
    merged = (pairs["shape"] != pairs["template"]).arg_true()
    some = pairs[merged]
    theirs = some["template"].unique()
    holes = {
        text: [at for at, token in enumerate(tokens) if token in HOLES]
        for text, tokens in zip(theirs, _split(theirs, signs).to_list(), strict=True)
    }
    rows = zip(merged, _split(some["shape"], signs).to_list(), some["template"], strict=True)
    for at, tokens, template in rows:
        made[at] = _recipe([tokens[place] for place in holes[template]])
    return made


def _recipe(tokens: list[str]) -> list[int | str]:
    values = count()
    return [next(values) if token == HOLES[0] else token for token in tokens]


def parameters(bodies: pl.DataFrame) -> pl.DataFrame:
    """body, template, template_id, parameters: the masked `values` of each body with the words
    that its template left out, in order."""
    names = ("body", "template", "template_id")
    merged = pl.col("shape") != pl.col("template")
    out = [*map(pl.col, names), pl.col("values").alias("parameters")]
    plain = bodies.filter(~merged | merged.is_null()).select(out)
    some = bodies.filter(merged)
    if not some.height:
        return plain
    pairs = some.select("shape", "template").unique()
    made = recipes(pairs)
    kinds = pl.List(pl.String), pl.List(pl.Int64)
    recipe = pairs.select("shape").with_columns(
        pl.Series(
            "word",
            [[one if isinstance(one, str) else None for one in row] for row in made],
            kinds[0],
        ),
        pl.Series(
            "place", [[0 if isinstance(one, str) else one for one in row] for row in made], kinds[1]
        ),
    )
    rows = some.with_row_index("line").join(recipe, on="shape")
    each = rows.explode("word", "place", empty_as_null=True)
    each = each.with_columns(
        value=pl.coalesce("word", pl.col("values").list.get("place", null_on_oob=True))
    )
    lists = each.group_by("line", maintain_order=True).agg(parameters="value")
    return pl.concat([plain, rows.join(lists, on="line").select(*names, "parameters")])
