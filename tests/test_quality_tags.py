"""Tags read in columns are the tags read one by one."""

from __future__ import annotations

import json

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality import tags
from quality.slices import events, shred

KEYS = st.sampled_from(["a", "http.method", "span.kind", 'q"uote', "ключ", "},{", ""])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["GET", '},{"key":', '"}]', "\\", "a\nb", "0", "-0"]),
    st.lists(st.sampled_from([1, {"key": "x", "value": 2}]), max_size=3),
)


@st.composite
def jaeger(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(["string", "int64", "bool"]))
    return {"key": draw(KEYS), "type": kind, "value": draw(VALUES)}


@st.composite
def otlp(draw: st.DrawFn) -> dict[str, object]:
    names = ("stringValue", "intValue", "boolValue", "doubleValue", "arrayValue", "kvlistValue")
    value = draw(VALUES)
    kind = draw(st.sampled_from(names))
    held = {"values": value} if kind in {"arrayValue", "kvlistValue"} else value
    return {"key": draw(KEYS), "value": draw(st.sampled_from([value, {kind: held}]))}


TAGS = st.lists(st.one_of(jaeger(), otlp()), max_size=6)
COMPACT = TAGS.map(lambda found: json.dumps(found, separators=(",", ":"), ensure_ascii=False))
ODD = st.sampled_from(
    [None, "", "[]", "{}", "null", '{"a":1}', '[{"key":"a"}]', '[{"key":"a","value":1}',
     '[{"key":"a","value":"x"}}]', '[{"key":1,"value":2}]', '[{"key":"a","value":-0}]',
     '[{"key":"a","value":01},{"key":"b","value":2}]', "[1,2]", '[{"key":"a\tb","value":1}]']
)  # fmt: skip
TEXTS = st.lists(st.one_of(COMPACT, COMPACT, TAGS.map(json.dumps), ODD), max_size=12)


def one_by_one(text: str | None) -> list[tuple[str | None, str | None]] | None:
    return None if text is None else [(one["key"], one["value"]) for one in tags.pairs(text)]


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_columns_hold_what_each_text_says(texts: list[str | None]) -> None:
    found = shred.maps(pa.array(texts, pa.string()))
    assert found.to_pylist() == [one_by_one(text) for text in texts]


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_parts_put_together_are_the_whole(one: list[str | None], other: list[str | None]) -> None:
    parts = [shred.maps(pa.array(texts, pa.string())) for texts in (one, other)]
    found = shred.concat(parts)
    assert found.to_pylist() == [one_by_one(text) for text in [*one, *other]]
    back = list(range(len(found)))[::-1]
    turned = shred.take(found, pa.array(back, pa.int64()))
    assert turned.to_pylist() == found.to_pylist()[::-1]


@pytest.mark.parametrize("key", ["span.kind", "nowhere"])
def test_the_value_of_a_key(key: str) -> None:
    texts = ['[{"key":"span.kind","type":"string","value":"client"},{"key":"b","value":1}]', None]
    found = shred.first(shred.maps(pa.array(texts, pa.string())), key)
    assert found.to_pylist() == (["client", None] if key == "span.kind" else [None, None])


def field(number: int) -> str:
    return f'{{"key":"{"event" if number % 3 else "message"}","type":"string","value":"v{number}"}}'


LOGS = [
    "[]",
    "null",
    "{}",
    "nonsense",
    '[{"timestamp":1741703833929180,"fields":[' + field(1) + "]}]",
    '[{"timestamp":1,"fields":[' + field(3) + "," + field(1) + "," + field(2) + "]}]",
    '[{"timestamp":1,"fields":[]},{"timestamp":2,"fields":[' + field(4) + "]}]",
    '[{"timestamp":0,"fields":[' + field(1) + ']},{"timestamp":2,"fields":[' + field(4) + "]}]",
    '[{"timestamp":8999999999999999,"fields":[' + field(5) + "]}]",
    '[{"timestamp":9999999999999999,"fields":[' + field(5) + "]}]",
    '[{"timestamp":01,"fields":[' + field(5) + "]}]",
    '[{"timestamp":5,"fields":[{"key":"a","value":"]},{\\"timestamp\\":"}]}]',
    '[{"timestamp":5,"fields":[{"key":"a","value":[{"b":[1]},{"timestamp":3}]}]}]',
    '[{"timestamp":5,"fields":[' + field(5) + '],"fields":[' + field(6) + "]}]",
    '[{"timestamp":1,"fields":null}]',
    '[{"timestamp":1}]',
    '[{"timestamp":"7","fields":[]}]',
    '[{"timestamp":99999999999999999999,"fields":[]}]',
    '[{"fields":[{"key":"x","type":"int64","value":3}]}, 5]',
    '[{"timeUnixNano":"1741703833929180123","name":"n","attributes":[]}]',
    '[{"timeUnixNano":12,"attributes":[{"key":"a","value":{"intValue":"3"}}]}]',
    '[{"timeUnixNano":"x","name":null,"attributes":{"a":1}}]',
    '[{"name":"only"}]',
    '[{"timeUnixNano":"5","attributes":[],"fields":[' + field(7) + "]}]",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(LOGS), max_size=12))
def test_events_read_in_columns_are_the_events_read_one_by_one(texts: list[str]) -> None:
    one_by_one = tags.read(texts, "events").to_arrow(compat_level=pl.CompatLevel.oldest())
    assert (
        events.read(pa.array(texts, pa.string())).to_pylist()
        == one_by_one.cast(events.KIND).to_pylist()
    )
