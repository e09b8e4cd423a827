"""A slice of raw rows as columns of codes: what is kept on disk between the steps of a repair.

Texts that repeat are dictionaries, tags are maps of them; ids stay text as received. The file is
Arrow IPC, read back by memory mapping.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake import TABLES
from quality.slices import plan, shred

Numbers = npt.NDArray[Any]
KINDS = frozenset(("server", "client", "producer", "consumer", "internal"))
SAFE_US = 9_000_000_000_000_000  # beyond this a time in µs does not fit int64 nanoseconds
ROWS = 120_000  # whose tags are read at once, about
SOME = 4_096  # rows that tell whether texts repeat
_WIDE = ("attributes", "resource", "events", "links")
_RAW = TABLES["raw_spans"].schema
CODES = pa.dictionary(pa.int32(), pa.string())


def decoded(one: plan.Slice) -> pa.Table:
    """The slice's rows, in the order they are read."""
    return _together([_part(rows) for rows in _gathered(plan.read(one, _RAW.names))])


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows in tables of about one size: a text that repeats in one of them is read once."""
    held, rows = list[pa.Table](), 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= ROWS:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held)


def of(rows: pa.Table) -> pa.Table:
    """Raw rows that are in memory already."""
    return _together([_part(rows)])


def _together(parts: list[pa.Table]) -> pa.Table:
    parts = parts or [_part(_RAW.empty_table())]
    maps = shred.concat([part["attributes"].chunk(0) for part in parts])
    place = parts[0].schema.get_field_index("attributes")
    parts = [part.remove_column(place) for part in parts]
    for name in ("events", "links"):
        if any(not _coded(part, name) for part in parts):
            parts = [_with(part, name, part[name].cast(pa.string())) for part in parts]
    rest = pa.concat_tables(parts)
    rest = rest.unify_dictionaries().combine_chunks()
    whole = rest.append_column("attributes", maps)
    return _told(whole)


def _part(rows: pa.Table) -> pa.Table:
    """Some rows with their tags shredded, other texts as codes, and their length as `size`."""
    rows = rows.combine_chunks()
    size = np.zeros(rows.num_rows, np.int64)
    for name in _WIDE:
        size += _length(rows[name])
    for name in (*plan.CODED, "events", "links"):
        if not _coded(rows, name) and (name in plan.CODED or _repeats(rows[name])):
            rows = _with(rows, name, rows[name].cast(pa.string()).dictionary_encode())
    place = rows.schema.get_field_index("attributes")
    texts = _flat(rows["attributes"])
    rows = rows.set_column(place, "attributes", pa.chunked_array([shred.maps(texts)]))
    return rows.append_column("size", pa.array(size))


def _coded(rows: pa.Table, name: str) -> bool:
    return bool(pa.types.is_dictionary(rows[name].type))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a text stands there twice or more, in the mean of the first rows; else codes are of
    no use."""
    some = column.slice(0, SOME)
    return bool(2 * pc.count_distinct(some).as_py() <= len(some))


def _with(rows: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, column)


def _length(column: pa.ChunkedArray) -> Numbers:
    found = _flat(column)
    if pa.types.is_dictionary(found.type):
        lengths = pc.binary_length(found.dictionary).fill_null(0).to_numpy().astype(np.int64)
        codes = found.indices.fill_null(-1).to_numpy()
        of_codes: Numbers = np.append(lengths, 0)[codes]
        return of_codes
    lengths = pc.binary_length(found).fill_null(0).to_numpy(zero_copy_only=False)
    whole: Numbers = lengths.astype(np.int64)
    return whole


def _flat(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        return found.chunk(0) if found.num_chunks else pa.array([], found.type)
    return found


def flat(rows: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    return _flat(rows[name])


def _told(rows: pa.Table) -> pa.Table:
    """With kind and status as their tags tell them, the upper half of a trace id, and times in
    nanoseconds (null where the number cannot be)."""
    tags = flat(rows, "attributes")
    kind = _coalesced(flat(rows, "kind"), shred.first(tags, "span.kind"), _kind)
    status = _status(flat(rows, "status"), tags)
    tid = recoded(shred.first(tags, "_dd.p.tid"), _tid)
    nanos = np.equal(*_codes(flat(rows, "start_unit"), "ns"))
    columns: dict[str, pa.Array] = {"kind": kind, "status": status, "tid": tid}
    for name in ("start", "duration"):
        columns[f"{name}_ns"] = _nanos(flat(rows, name), nanos)
    for name, column in columns.items():
        place = rows.schema.get_field_index(name)
        found = pa.chunked_array([column])
        rows = rows.append_column(name, found) if place < 0 else rows.set_column(place, name, found)
    return rows


def _codes(column: pa.DictionaryArray, value: str) -> tuple[Numbers, int]:
    """A column's codes (-1: null), and the code of a value (-2: there is none)."""
    code = pc.index(column.dictionary, value).as_py()
    return column.indices.fill_null(-1).to_numpy(), -2 if code < 0 else code


def _kind(text: str) -> str | None:
    return text.lower() if text.lower() in KINDS else None


def _tid(text: str) -> str | None:
    return text if len(text) == 16 and not text.strip("0123456789abcdef") else None


def recoded(column: pa.DictionaryArray, change: Any) -> pa.DictionaryArray:
    """The column with each of its distinct texts changed; None makes it null."""
    used = pc.unique(column.indices).drop_null()
    texts = column.dictionary.take(used).to_pylist()
    changed = [None if text is None else change(text) for text in texts]
    distinct = pa.array(changed, pa.string()).dictionary_encode()
    codes = distinct.indices.take(pc.index_in(column.indices, used))
    return pa.DictionaryArray.from_arrays(codes, distinct.dictionary)


def _coalesced(
    one: pa.DictionaryArray, other: pa.DictionaryArray, change: Any
) -> pa.DictionaryArray:
    """The first that says something, then changed."""
    if one.null_count == 0:
        return recoded(one, change)
    both = pa.chunked_array([recoded(other, change), one.cast(CODES)]).unify_dictionaries()
    theirs, mine = both.chunk(0), both.chunk(1)
    codes = pc.coalesce(mine.indices, theirs.indices)
    return recoded(pa.DictionaryArray.from_arrays(codes, mine.dictionary), change)


def _status(own: pa.DictionaryArray, tags: pa.MapArray) -> pa.DictionaryArray:
    """The format's own status, else what the tags say."""
    error = recoded(shred.first(tags, "error"), lambda text: "error" if text == "true" else None)
    code = recoded(shred.first(tags, "otel.status_code"), str.lower)
    code = recoded(code, lambda text: text if text in {"error", "ok"} else None)
    own = recoded(own, lambda text: None if text == "unset" else text)
    last = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(own), np.int32)), pa.array(["unset"])
    )
    bad = recoded(code, lambda text: text if text == "error" else None)
    parts = pa.chunked_array([own.cast(CODES), error, bad, code, last], CODES).unify_dictionaries()
    codes = pc.coalesce(*(part.indices for part in parts.chunks))
    return pa.DictionaryArray.from_arrays(codes, parts.chunk(0).dictionary)


def _nanos(column: pa.Array, nanos: Numbers) -> pa.Array:
    value = column.fill_null(0).to_numpy()
    fits = nanos | (np.abs(value) <= SAFE_US)
    fits &= column.is_valid().to_numpy(zero_copy_only=False)
    scaled = np.where(fits, value * np.where(nanos, 1, 1000), 0)
    return pa.array(scaled, mask=None if fits.all() else ~fits)


def write(path: str, rows: pa.Table) -> None:
    """The rows into a file."""
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, rows.schema) as out:
        out.write_table(rows)


def load(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file, by memory mapping."""
    found = pa.ipc.open_file(pa.memory_map(path)).read_all()
    return found if columns is None else found.select(list(columns))
