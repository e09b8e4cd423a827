"""Events from JSON text into lists of structs. Jaeger's logs of everyday tags are cut in columns;
other texts are decoded to times and the text of their tags, and those read in columns (`shred`).
What is not written as Jaeger or OTLP do is left to `quality.tags`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from lake import TABLES
from quality import tags
from quality.slices import shred

KIND = TABLES["spans"].schema.field("events").type
Numbers = npt.NDArray[Any]
_BETWEEN, _HEAD, _TAIL = ']},{"timestamp":', '[{"timestamp":', "]}]"
_FIELDS = ',"fields":'
_TIME = r"^(?:0|[1-8]\d{0,15}|9\d{0,14})$"  # that can be told in nanoseconds
_Micros = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000_000)]
_Nanos = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000_000_000)]
_Digits = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}$")]


class _Log(msgspec.Struct, gc=False):
    """As Jaeger writes an event."""

    timestamp: _Micros
    fields: msgspec.Raw


class _Event(msgspec.Struct, gc=False):
    """As OTLP does; what would make it one of Jaeger's is refused."""

    timeUnixNano: _Digits | _Nanos  # noqa: N815 - the format's name
    attributes: msgspec.Raw
    name: str | None = None
    timestamp: msgspec.UnsetType = msgspec.UNSET
    fields: msgspec.UnsetType = msgspec.UNSET


_JAEGER, _OTLP = (msgspec.json.Decoder(list[one]) for one in (_Log, _Event))  # type: ignore[valid-type]


def read(texts: pa.StringArray) -> pa.ListArray:
    """The events of each text; none is null."""
    found, good = _regular(texts)
    if good.all():
        return found
    if good.any():
        found, _ = _regular(texts.filter(pa.array(good)))
    others = _one_by_one(texts.filter(pa.array(~good)).to_pylist())
    if not good.any():
        return others
    order = np.argsort(np.concatenate([np.flatnonzero(good), np.flatnonzero(~good)]))
    return pa.concat_arrays([found, others]).take(pa.array(order))


def _regular(texts: pa.StringArray) -> tuple[pa.ListArray, Numbers]:
    """Jaeger's logs without a look at each, and which texts are such, of everyday tags; the others'
    are not right. As `shred` does it: what stands between two logs stands nowhere else."""
    column = pl.Series(texts, dtype=pl.String)
    good = (column.str.starts_with(_HEAD) & column.str.ends_with(_TAIL)).to_numpy()
    lists = column.str.strip_prefix(_HEAD).str.strip_suffix(_TAIL).str.split(_BETWEEN)
    counts = lists.list.len().to_numpy().astype(np.int64)
    parts = lists.list.explode().str.splitn(_FIELDS, 2).struct
    time, fields = parts.field("field_0"), parts.field("field_1") + "]"
    right = time.str.contains(_TIME)
    micros = time.zip_with(right, pl.Series([None], dtype=pl.String)).cast(pl.Int64)
    maps, whole = shred.regular(
        fields.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    )
    fine = right.to_numpy() & whole
    starts = np.concatenate([[0], np.cumsum(counts)])
    if len(texts):
        good = good & np.logical_and.reduceat(fine, starts[:-1])
    if not good.all():
        return pa.nulls(len(texts), KIND), good
    names = shred.first(maps, "event", "message")
    return _together(starts, micros.to_numpy() * 1000, names, maps), good


def _one_by_one(texts: list[str]) -> pa.ListArray:
    logs = [_tried(_JAEGER, text) for text in texts]
    events = [
        _tried(_OTLP, text) if log is None else None for text, log in zip(texts, logs, strict=True)
    ]
    parts, places = list[pa.Array](), list[int]()
    for found, make in ((logs, _of_logs), (events, _of_events)):
        chosen = {place: one for place, one in enumerate(found) if one is not None}
        if chosen:
            parts.append(make(list(chosen.values())))
            places += chosen
    left = sorted({*range(len(texts))} - {*places})
    if left or not parts:
        slow = pl.Series(tags.read([texts[place] for place in left], "events"))
        parts.append(slow.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(KIND))
        places += left
    whole = pa.concat_arrays(parts)
    order = np.argsort(np.array(places, np.int64))
    return whole if len(parts) == 1 else whole.take(pa.array(order))


def _tried(decoder: msgspec.json.Decoder[Any], text: str) -> list[Any] | None:
    try:
        found: list[Any] = decoder.decode(text)
    except msgspec.DecodeError:
        return None
    lists = all(bytes(_tags(one)[:1]) == b"[" for one in found)
    return found if lists else None


def _tags(one: Any) -> memoryview:
    return memoryview(one.fields if isinstance(one, _Log) else one.attributes)


def _of_logs(rows: list[list[_Log]]) -> pa.ListArray:
    flat = [one for row in rows for one in row]
    maps = shred.maps(pa.array([str(one.fields, "utf-8") for one in flat], pa.string()))
    times = np.array([one.timestamp for one in flat], np.int64) * 1000
    return _together(_starts(rows), times, shred.first(maps, "event", "message"), maps)


def _of_events(rows: list[list[_Event]]) -> pa.ListArray:
    flat = [one for row in rows for one in row]
    maps = shred.maps(pa.array([str(one.attributes, "utf-8") for one in flat], pa.string()))
    times = np.array([int(one.timeUnixNano) for one in flat], np.int64)
    return _together(_starts(rows), times, pa.array([one.name for one in flat], pa.string()), maps)


def _starts(rows: list[list[Any]]) -> Numbers:
    """Where each row's events begin, and where the last one's end."""
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])])


def _together(starts: Numbers, times: Any, names: pa.Array, maps: pa.MapArray) -> pa.ListArray:
    keys, values = (one.cast(pa.string()) for one in (maps.keys, maps.items))
    plain = pa.MapArray.from_arrays(maps.offsets, keys, values)
    each = pa.StructArray.from_arrays(
        [pa.array(times), names.cast(pa.string()), plain], ["ts_ns", "name", "attributes"]
    )
    return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), each).cast(KIND)
