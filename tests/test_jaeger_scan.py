"""Big replies of Jaeger by the compiled loop, as msgspec reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ingest import jaeger_json, jaeger_scan
from ingest.batch import Batch, Place
from lake import UserError

from .conftest import SHARED, TIMES

pytest.importorskip("ingest.jaeger_compiled", reason="numba is not installed")
PLACE = Place(cluster="c", namespace=None, environment="prod")
TEXT = st.sampled_from(
    ["", "a", "ab12", "ABCDEF0123456789", "né", "日本", 'say "hi"', "a\\b", "\n"]
)
ID = st.sampled_from(["", "1", "0x7", "ab12", "ab12", "ab12", "00000000000000000000000000000ab1"])
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT,
    st.just([]), st.just({}), st.just([[{"a": [1, {}]}]]), st.integers(-(1 << 63), (1 << 64)),
)  # fmt: skip
TAGS = st.one_of(
    st.lists(st.fixed_dictionaries({"key": TEXT, "value": ODD}), max_size=3),
    st.sampled_from([None, [], {}, "x", 5, [[]]]),
)
REFERENCE = st.fixed_dictionaries(
    {}, optional={
        "refType": st.sampled_from(["CHILD_OF", "FOLLOWS_FROM", ""]),
        "traceID": ID, "spanID": ID, "span": TAGS,
    },
)  # fmt: skip
NUMBER = st.one_of(
    st.integers(-5, 5), st.integers(10**14, 10**18), st.none(), st.integers(), st.just(1.0)
)


def shuffled(fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return fields.flatmap(lambda one: st.permutations(list(one.items())).map(dict))


def seldom(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 30).flatmap(lambda one: odd if one == 0 else usual)


SPAN = shuffled(
    st.fixed_dictionaries(
        {"traceID": ID, "spanID": ID, "processID": st.sampled_from(["p1", "p2", "p3"])},
        optional={
            "operationName": seldom(TEXT, ODD),
            "references": seldom(
                st.one_of(st.none(), st.lists(REFERENCE, max_size=1)), st.lists(ODD, max_size=2)
            ),
            "parentSpanID": seldom(st.one_of(st.none(), ID), ODD),
            "startTime": seldom(NUMBER, ODD),
            "duration": seldom(NUMBER, ODD),
            "tags": TAGS,
            "logs": TAGS,
            "warnings": ODD,
            "flags": ODD,
        },
    )
)
PROCESS = shuffled(
    st.fixed_dictionaries({}, optional={"serviceName": seldom(TEXT, ODD), "tags": TAGS, "x": ODD})
)
TRACE = shuffled(
    st.fixed_dictionaries(
        {
            "spans": st.lists(SPAN, max_size=4),
            "processes": st.dictionaries(st.sampled_from(["p1", "p2", "é"]), PROCESS, max_size=3),
        },
        optional={"traceID": ODD, "warnings": ODD},
    )
)
REPLY = shuffled(
    st.fixed_dictionaries(
        {"data": seldom(st.lists(TRACE, max_size=4), ODD)},
        optional={"errors": ODD, "total": ODD, "limit": ODD},
    )
)
PIECES = [
    b"",
    b"\x00",
    b'"',
    b"\\",
    b"{",
    b"]",
    b",",
    b":",
    b"0",
    b"null",
    b"\xff",
    b" ",
    b"-",
    b".",
]
MUCH = settings(
    max_examples=150 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def decoded(content: bytes, *, enough: int) -> tuple[Batch, int] | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaeger_scan, "ENOUGH", enough)
        patch.setattr(jaeger_scan, "ODD", 1.0)
        try:
            return jaeger_json.decode_counted(content, PLACE, "x")
        except UserError as error:
            return str(error)


def assert_alike(content: bytes) -> None:
    mine, its = decoded(content, enough=0), decoded(content, enough=1 << 40)
    if isinstance(mine, str) or isinstance(its, str):
        assert mine == its
        return
    (batch, traces), (other, others) = mine, its
    assert (traces, batch.records) == (others, other.records)
    assert_frame_equal(batch.rows, other.rows)
    assert_frame_equal(batch.rejected, other.rejected)


@MUCH
@given(REPLY, st.sampled_from([None, 1]), st.booleans())
def test_a_reply_is_read_alike(reply: dict[str, Any], indent: int | None, plain: bool) -> None:
    assert_alike(json.dumps(reply, indent=indent, ensure_ascii=plain).encode())


@MUCH
@given(REPLY, st.data())
def test_a_damaged_reply_is_read_alike_or_refused_alike(
    reply: dict[str, Any], data: st.DataObject
) -> None:
    content = bytearray(json.dumps(reply, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.sampled_from(PIECES))
        content[place : place + data.draw(st.integers(0, 3))] = piece
        if not content:
            break
    assert_alike(bytes(content))


def test_every_byte_that_is_cut_off_is_noticed() -> None:
    span = {"traceID": "a", "spanID": "b", "processID": "p", "tags": [{"key": "k", "value": 1.5}]}
    trace = {"spans": [span], "processes": {"p": {"serviceName": "s"}}}
    content = json.dumps({"data": [trace]}).encode()
    assert not isinstance(decoded(content, enough=0), str)
    for size in range(len(content)):
        assert_alike(content[:size])


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not there: recordings are left out")
def test_recorded_replies_are_read_alike() -> None:
    for file in sorted((SHARED / "fixtures" / "jaeger").glob("*.json")):
        assert_alike(file.read_bytes())


@pytest.mark.parametrize("wrong", [5, None, [], {}, True])
def test_a_service_of_another_type_is_left_to_msgspec(wrong: object) -> None:
    span = {"traceID": "a", "spanID": "b", "processID": "p"}
    process = {"tags": [], "serviceName": wrong}
    assert_alike(json.dumps({"data": [{"processes": {"p": process}, "spans": [span]}]}).encode())


@pytest.mark.parametrize(
    "escape", ["\\ud83d\\ude00", "\\uD83D\\uDE00", "\\ud83d", "\\ude00", "\\ud83d\\u0041",
               "\\ud83dx", "\\uDBFF\\uDFFF", "\\ud83d\\ud83d\\ude00", "\\u00e9", "\\uffff"],
)  # fmt: skip
def test_half_a_pair_is_no_text_wherever_it_stands(escape: str) -> None:
    for name in ("traceID", "operationName", "tags", "warnings"):
        span = f'{{"spanID":"b","processID":"p","{name}":"{escape}"}}'
        for service in ("s", escape):
            processes = f'{{"p":{{"serviceName":"{service}"}}}}'
            assert_alike(f'{{"data":[{{"spans":[{span}],"processes":{processes}}}]}}'.encode())


def test_many_traces_keep_their_origins_apart() -> None:
    traces = [
        {
            "spans": [
                {"traceID": f"{number}", "spanID": f"{one}", "processID": f"p{one}"}
                for one in range(90)
            ],
            "processes": {
                f"p{one}": {"serviceName": f"s{(one * number) % 1200}", "tags": []}
                for one in range(80)
            },
        }
        for number in range(40)
    ]
    content = json.dumps({"data": traces}).encode()
    assert_alike(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaeger_scan, "ENOUGH", 0)
        assert jaeger_scan.read(jaeger_scan.EDGE + content + jaeger_scan.EDGE)
    found = decoded(content, enough=0)
    assert not isinstance(found, str)
    assert found[0].rows["service"].null_count() == 40 * 10
