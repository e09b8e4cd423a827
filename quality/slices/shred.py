"""Tags from JSON text into map columns, without a look at each span.

A list of tags is cut where one ends and the next begins, `},{"key":`; a quote within a JSON text is
written `\\"`, so this can stand between two objects only. Everyday tags repeat, so each distinct
piece is read once: most by one regular expression, the rest by `quality.tags`. What does not fall
apart into whole pieces, or repeats a key, is read by `quality.tags` whole, each distinct text once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from quality import tags

Numbers = npt.NDArray[Any]
_BETWEEN, _HEAD, _TAIL = '},{"key":', '[{"key":', "}]"
_TEXT = r'"([^"\\\x00-\x1f]*)"'
_VALUE = rf'"value":(?:{_TEXT}|(-?[1-9]\d{{0,17}}|0|true|false))'
_PLAIN = rf'^{_TEXT}(?:,"type":"\w*")?,{_VALUE}$'  # as Jaeger writes a tag
_TYPED = rf'^{_TEXT},"value":\{{{_VALUE.replace("value", "[a-z]+Value")}\}}$'  # as OTLP does


def maps(texts: pa.Array) -> pa.MapArray:
    """Texts (string) as maps of dictionary-encoded keys and values; null stays null."""
    found, good = regular(texts)
    return found if good.all() else _merged(texts, good, found)


def regular(texts: pa.Array) -> tuple[pa.MapArray, Numbers]:
    """The maps of the texts that fall apart into everyday tags, and which texts these are."""
    plain = pc.and_(pc.starts_with(texts, _HEAD), pc.ends_with(texts, _TAIL))
    good = np.asarray(plain.fill_null(False).to_numpy(zero_copy_only=False), bool)
    whole = bool(good.all())
    lists = pc.split_pattern(texts if whole else texts.filter(pa.array(good)), _BETWEEN)
    starts = lists.offsets.to_numpy()
    keys, values, fine = _read(lists.flatten(), starts - starts[0])
    found = pa.MapArray.from_arrays(lists.offsets, keys, values)
    if whole and fine.all():
        return found, good
    good = good.copy()
    good[np.flatnonzero(good)[~fine]] = False
    return found.filter(pa.array(fine)), good


def _read(pieces: pa.Array, starts: Numbers) -> tuple[pa.Array, pa.Array, Numbers]:
    """Keys and values of all pieces, and which of the texts they fully explain."""
    coded = pieces.dictionary_encode()
    form = np.zeros(len(pieces), np.int32)
    form[starts[:-1]] |= 1
    form[starts[1:] - 1] |= 2
    kinds = coded.indices.to_numpy() * 4 + form
    used = np.flatnonzero(np.bincount(kinds, minlength=4 * len(coded.dictionary)))
    place = np.zeros(4 * max(len(coded.dictionary), 1), np.int32)
    place[used] = np.arange(len(used))
    distinct = coded.dictionary.take(pa.array(used // 4))
    key, value = _decoded(pl.Series(distinct, dtype=pl.String), used % 4)
    index = place[kinds]
    keys, values = _gathered(key, index), _gathered(value, index)
    whole = key.is_not_null().to_numpy()[index]
    fine = np.logical_and.reduceat(whole, starts[:-1]) if len(starts) > 1 else np.zeros(0, bool)
    if not fine.all():
        keys = keys.fill_null("")
    return keys, values, fine & ~_repeats(keys.indices.to_numpy(), starts)


def _gathered(distinct: pl.Series, index: Numbers) -> pa.DictionaryArray:
    """Values by the place of their piece."""
    coded = distinct.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    coded = coded.dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices.take(pa.array(index)), coded.dictionary)


def _repeats(keys: Numbers, starts: Numbers) -> Numbers:
    """Which texts name a key twice: a key is compared with the next, the second next, …"""
    found = np.zeros(len(starts) - 1, bool)
    ends = np.repeat(starts[1:], np.diff(starts))
    left = np.arange(len(keys))
    for step in range(1, int(np.diff(starts).max(initial=0))):
        left = left[left + step < ends[left]]
        twice = left[keys[left] == keys[left + step]]
        found[np.searchsorted(starts, twice, "right") - 1] = True
    return found


def _decoded(pieces: pl.Series, form: Numbers) -> tuple[pl.Series, pl.Series]:
    """Key and value of each piece, as text; the key is null for one that is no whole tag.

    `form` 1: the first of its text, 2: the last, 3: both.
    """
    frame = pl.DataFrame({"piece": pieces, "form": form})
    first, last = (pl.col("form") & 1) > 0, (pl.col("form") & 2) > 0
    begun = pl.when(first).then(pl.col("piece").str.slice(len(_HEAD))).otherwise("piece")
    frame = frame.select(begun.alias("piece"), last.alias("last"))
    cut = pl.col("piece").str.head(-len(_TAIL))
    bare = frame.select(pl.when("last").then(cut).otherwise("piece")).to_series()
    key, value = _matched(bare, _PLAIN)
    for read in (partial(_matched, form=_TYPED), _one_by_one):
        odd = np.flatnonzero(key.is_null().to_numpy())
        if len(odd):
            more = read(bare.gather(odd))
            key, value = key.scatter(odd, more[0]), value.scatter(odd, more[1])
    return key, value


def _matched(pieces: pl.Series, form: str) -> tuple[pl.Series, pl.Series]:
    """Key and value of the pieces of a form, null of others."""
    parts = pieces.str.extract_groups(form).struct
    return parts.field("1"), parts.field("2").zip_with(
        parts.field("2").is_not_null(), parts.field("3")
    )


def _one_by_one(pieces: pl.Series) -> tuple[pl.Series, pl.Series]:
    read = [_one(piece) for piece in pieces.to_list()]
    key, value = zip(*read, strict=True)
    return pl.Series(key, dtype=pl.String), pl.Series(value, dtype=pl.String)


def _one(piece: str) -> tuple[str | None, str | None]:
    try:
        found = msgspec.json.decode(f'{{"key":{piece}}}')
    except msgspec.DecodeError:
        return None, None
    pair = tags.tag(found)
    return pair["key"], pair["value"]


def _merged(texts: pa.Array, good: Numbers, regular: pa.MapArray) -> pa.MapArray:
    """The maps of all texts, in their order; those that are not `good` read one by one."""
    coded = texts.filter(pa.array(~good)).dictionary_encode()
    read = of_pairs([tags.pairs(text) for text in coded.dictionary.to_pylist()])
    odd = take(read, coded.indices)
    both = concat([regular, odd])
    order = np.empty(len(good), np.int64)
    order[good] = np.arange(len(regular))
    order[~good] = len(regular) + np.arange(len(odd))
    return take(both, pa.array(order))


def of_pairs(rows: Sequence[Sequence[tags.Pair]]) -> pa.MapArray:
    """Maps of dictionary-encoded text from lists of pairs."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    keys, values = (
        pa.array([pair[name] for row in rows for pair in row], pa.string()).dictionary_encode()
        for name in ("key", "value")
    )
    return pa.MapArray.from_arrays(pa.array(offsets), keys, values)


def take(found: pa.MapArray, rows: pa.Array) -> pa.MapArray:
    """Maps by their place; a null place gives a null map."""
    empty = rows.is_null().to_numpy(zero_copy_only=False)
    index = rows.fill_null(0).to_numpy().astype(np.int64)
    offsets = found.offsets.to_numpy()
    counts = np.diff(offsets)[index] if len(found) else np.zeros(len(index), np.int64)
    if found.null_count:
        empty = empty | found.is_null().to_numpy(zero_copy_only=False)[index]
    counts = np.where(empty, 0, counts)
    ends = np.concatenate([[0], np.cumsum(counts)])
    first = offsets[:-1][index] if len(found) else np.zeros(len(index), np.int64)
    items = pa.array(np.arange(ends[-1]) + np.repeat(first - ends[:-1], counts))
    keys, values = found.keys, found.items
    return pa.MapArray.from_arrays(
        pa.array(ends.astype(np.int32)),
        pa.DictionaryArray.from_arrays(keys.indices.take(items), keys.dictionary),
        pa.DictionaryArray.from_arrays(values.indices.take(items), values.dictionary),
        mask=pa.array(empty) if empty.any() else None,
    )


def concat(parts: Sequence[pa.MapArray]) -> pa.MapArray:
    """One array of maps, with one dictionary each for keys and values."""
    offsets, base = [np.zeros(1, np.int64)], 0
    for part in parts:
        own = part.offsets.to_numpy().astype(np.int64)
        offsets.append(own[1:] - own[0] + base)
        base += int(own[-1] - own[0])
    keys, values = (_unified([_child(part, place) for part in parts]) for place in (0, 1))
    empty = np.concatenate([part.is_null().to_numpy(zero_copy_only=False) for part in parts])
    return pa.MapArray.from_arrays(
        pa.array(np.concatenate(offsets).astype(np.int32)),
        keys,
        values,
        mask=pa.array(empty) if empty.any() else None,
    )


def _child(part: pa.MapArray, which: int) -> pa.Array:
    offsets = part.offsets.to_numpy()
    whole = part.items if which else part.keys
    return whole.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


def _unified(parts: Sequence[pa.Array]) -> pa.DictionaryArray:
    kind = pa.dictionary(pa.int32(), pa.string())
    found = pa.chunked_array(parts, kind).unify_dictionaries().combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        return found.chunk(0) if found.num_chunks else pa.array([], kind)
    return found


def first(found: pa.MapArray, *names: str) -> pa.DictionaryArray:
    """The value of a key in each map, of several keys the first there is; null where none is."""
    keys = found.keys
    codes = [pc.index(keys.dictionary, name).as_py() for name in names]
    codes = [code for code in codes if code >= 0]
    empty = pa.array(np.full(len(found), -1, np.int32), mask=np.ones(len(found), bool))
    if not codes:
        return pa.DictionaryArray.from_arrays(empty, found.items.dictionary)
    offsets = found.offsets.to_numpy()
    places = np.flatnonzero(np.isin(keys.indices.to_numpy(), codes))
    places = places[(places >= offsets[0]) & (places < offsets[-1])]
    rows = np.searchsorted(offsets, places, "right") - 1
    index = np.full(len(found), -1, np.int64)
    index[rows[::-1]] = places[::-1]
    chosen = pa.array(index, mask=index < 0)
    return pa.DictionaryArray.from_arrays(found.items.indices.take(chosen), found.items.dictionary)
