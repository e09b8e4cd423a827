"""Events from JSON text into lists of structs: each text decoded to times and the text of its tags,
and those read in columns (`shred`). What is not written as Jaeger or OTLP do is left to
`quality.tags`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from lake import TABLES
from quality import tags
from quality.slices import shred

KIND = TABLES["spans"].schema.field("events").type
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


def read(texts: Sequence[str]) -> pa.ListArray:
    """The events of each text."""
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
    return _together(rows, times, shred.first(maps, "event", "message"), maps)


def _of_events(rows: list[list[_Event]]) -> pa.ListArray:
    flat = [one for row in rows for one in row]
    maps = shred.maps(pa.array([str(one.attributes, "utf-8") for one in flat], pa.string()))
    times = np.array([int(one.timeUnixNano) for one in flat], np.int64)
    return _together(rows, times, pa.array([one.name for one in flat], pa.string()), maps)


def _together(rows: list[list[Any]], times: Any, names: pa.Array, maps: pa.MapArray) -> Any:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    keys, values = (one.cast(pa.string()) for one in (maps.keys, maps.items))
    plain = pa.MapArray.from_arrays(maps.offsets, keys, values)
    each = pa.StructArray.from_arrays(
        [pa.array(times), names.cast(pa.string()), plain], ["ts_ns", "name", "attributes"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets), each).cast(KIND)
