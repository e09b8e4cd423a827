"""Odd bytes into every decoder: a sentence, or rows and refused records that add up to what came;
never another exception, and never a row that its table would not take. FUZZ=50 looks longer."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import (
    files,
    git,
    jaeger_json,
    k8s_objects,
    log_lines,
    loki,
    native_histograms,
    openmetrics,
    otlp,
    otlp_logs,
    query_range,
    records,
    remote_read,
    sentry_json,
    xor,
)
from ingest.batch import Batch, Piece, Place
from ingest.land import delivered
from ingest.mask import mask
from ingest.series import Catalog
from ingest.web import Damaged
from lake import TABLES, UserError, fit

from .conftest import TIMES
from .servers import field, varint, zigzag

NOW = datetime(2025, 3, 11, 14, tzinfo=UTC)
PLACE = Place("eu-1")
POD = log_lines.Pod("shop", "cart-7d9h7cz59-94dkv", "uid", "app")
ODD = [
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\xe2\x80\xa8", b"\\ud800", b"\\u0000", b'"'),
    *(b"-9223372036854775809", b"18446744073709551616", b"1e999", b"NaN", b"-1", b"null", b"true"),
    *(b"{}", b"[]", b"[[", b"}", b"{", b"\n", b",", b"1e-400", b"0.5", b"\x80\x80\x80\x80\x10"),
]


def text_of(data: bytes) -> str:
    return files.text(Path("x"), data)


JAEGER = json.dumps(
    {
        "data": [
            {
                "traceID": "ab",
                "spans": [
                    {
                        "traceID": "ab",
                        "spanID": "cd",
                        "operationName": "GET",
                        "references": [{"refType": "CHILD_OF", "traceID": "ab", "spanID": "ef"}],
                        "startTime": 1741701600000000,
                        "duration": 5,
                        "tags": [{"key": "a", "type": "int64", "value": 1}],
                        "logs": [{"timestamp": 1741701600000000, "fields": []}],
                        "processID": "p1",
                    }
                ]
                * 2,
                "processes": {
                    "p1": {
                        "serviceName": "cart",
                        "tags": [{"key": "hostname", "type": "string", "value": "n1"}],
                    }
                },
            }
        ]
    }
).encode()
_RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]}
_SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "GET",
    "kind": 2,
    "startTimeUnixNano": "1741701600000000001",
    "endTimeUnixNano": "1741701600000000101",
    "attributes": [{"key": "a", "value": {"intValue": "1"}}],
    "status": {"code": 2},
}
_RECORD = {
    "timeUnixNano": "1741701600000000001",
    "severityNumber": 9,
    "body": {"stringValue": "hello"},
    "attributes": [{"key": "a", "value": {"doubleValue": 1.5}}],
    "traceId": "0af7651916cd43dd8448eb211c80319c",
}
OTLP = json.dumps(
    {"resourceSpans": [{"resource": _RESOURCE, "scopeSpans": [{"spans": [_SPAN, _SPAN]}]}]}
).encode()
OTLP_LOGS = json.dumps(
    {"resourceLogs": [{"resource": _RESOURCE, "scopeLogs": [{"logRecords": [_RECORD, _RECORD]}]}]}
).encode()
SENTRY = json.dumps(
    [
        {
            "eventID": "e1",
            "dateCreated": "2025-03-11T14:05:00Z",
            "dateReceived": "2025-03-11T14:05:01Z",
            "title": "boom",
            "level": "error",
            "environment": "production",
            "release": {"version": "1.2"},
            "user": {"id": "4711"},
            "contexts": {"trace": {"trace_id": "ab", "span_id": "cd"}},
            "tags": [{"key": "level", "value": "error"}],
            "entries": [
                {
                    "type": "exception",
                    "data": {
                        "values": [
                            {
                                "type": "E",
                                "value": "v",
                                "stacktrace": {
                                    "frames": [{"filename": "a", "lineNo": 3, "inApp": True}]
                                },
                            }
                        ]
                    },
                }
            ],
        }
    ]
    * 2
).encode()
K8S = json.dumps(
    {
        "kind": "List",
        "items": [
            {
                "kind": "Event",
                "reason": "Killing",
                "message": "m",
                "lastTimestamp": "2025-03-11T14:00:00Z",
                "involvedObject": {"kind": "Pod", "name": "cart-7d9f8b6c5-abcde"},
                "source": {"component": "kubelet"},
            },
            *(
                {
                    "kind": "ReplicaSet",
                    "metadata": {
                        "name": f"cart-{number}",
                        "creationTimestamp": "2025-03-11T14:00:00Z",
                        "ownerReferences": [{"kind": "Deployment", "name": "cart"}],
                        "annotations": {"deployment.kubernetes.io/revision": str(number)},
                    },
                    "spec": {"template": {"spec": {"containers": [{"image": "cart:1"}]}}},
                }
                for number in (1, 2)
            ),
            {
                "kind": "ConfigMap",
                "metadata": {"name": "c", "creationTimestamp": "2025-03-11T14:00:00Z"},
                "data": {"a": "b"},
            },
        ],
    }
).encode()
OPEN = b"""# TYPE a counter
a_total{path="/a b",code="200"} 3 1741701600
a_total{path="/\\"x\\\\}"} 4.5 1741701600.25 # {trace_id="ab"} 0.5
heat NaN 1741701601
# EOF
"""
DOCKER = (
    b'{"log":"hello trace_id=0af7651916cd43dd\\n","stream":"stdout",'
    b'"time":"2025-03-11T14:05:00.1Z"}\n'
    b'{"log":"part","stream":"stderr","time":"2025-03-11T14:05:00.2Z"}\n'
)
CRI = b"2025-03-11T14:05:00.1Z stdout P level=error a\n2025-03-11T14:05:00.2+01:00 stderr F b\n"
LINES = (
    b'{"ts":"2025-03-11T14:05:00Z","body":"hi","severity":"err","attributes":{"a":1},"x":[1]}\n'
    b'{"ts":1741701600123,"body":"ho"}\n'
)
CHANGES = (
    b'{"ts":"2025-03-11T14:00:00Z","kind":"deploy","service":"cart","files":["a"],"after":{"a":1}}\n'
    b'{"ts":1741701600,"kind":"flag","ref":"x"}\n'
)
EDGES = b"minute,caller,callee,calls,duration_p50_ns\n2025-03-11T14:00:00Z,a,b,12,5\n"
LOKI = json.dumps(
    {
        "data": {
            "resultType": "streams",
            "result": [
                {
                    "stream": {"pod": "cart-7d9f8b6c5-abcde", "level": "info"},
                    "values": [["1741701600000000001", "hi"], ["1741701600000000002", "ho"]],
                }
            ],
        }
    }
).encode()
MARK = "0123456789abcdef"
GIT = (
    f"{MARK}{'ab' * 20}\0{MARK}a <a@b>\0{MARK}2025-03-11T14:00:00+01:00\0{MARK}tag: v1\0{MARK}m\n"
    f"\0{MARK}\ndiff --git a/services/cart/x b/services/cart/x\n+one\n"
).encode()


def sentry_decode(data: bytes) -> Batch:
    return sentry_json.decode(data, PLACE, "x")


def loki_decode(data: bytes) -> Batch:
    return loki.decode(data, PLACE, "x")[0]


def zipped(data: bytes) -> Batch:
    """The file layer: what is zipped, or looks so."""
    return log_lines.decode_lines(text_of(data), {}, PLACE, "x")


DECODERS: dict[str, tuple[str, bytes, Callable[[bytes], Batch]]] = {
    "jaeger": ("raw_spans", JAEGER, lambda data: jaeger_json.decode(data, PLACE, "x")),
    "otlp": ("raw_spans", OTLP, lambda data: otlp.decode(data, PLACE, "x")),
    "otlp logs": ("raw_logs", OTLP_LOGS, lambda data: otlp_logs.decode(data, PLACE, "x")),
    "sentry": ("raw_errors", SENTRY, sentry_decode),
    "k8s": ("changes", K8S, lambda data: k8s_objects.decode(data, PLACE, "x")),
    "openmetrics": (
        "raw_samples",
        OPEN,
        lambda data: openmetrics.decode(text_of(data), PLACE, "x"),
    ),
    "docker": (
        "raw_logs",
        DOCKER,
        lambda data: log_lines.decode_container(text_of(data), POD, PLACE, "0.log"),
    ),
    "cri": (
        "raw_logs",
        CRI,
        lambda data: log_lines.decode_container(text_of(data), POD, PLACE, "0.log"),
    ),
    "json lines": ("raw_logs", LINES, zipped),
    "loki": ("raw_logs", LOKI, loki_decode),
    "changes": (
        "changes",
        CHANGES,
        lambda data: records.decode("changes", text_of(data), ("ts", "kind"), PLACE, "x"),
    ),
    "edges": (
        "raw_edges",
        EDGES,
        lambda data: records.decode(
            "raw_edges", text_of(data), ("minute", "caller", "callee"), PLACE, "x"
        ),
    ),
}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Valid content with some bytes changed, cut, doubled, or odd ones put in."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        stop = min(at + draw(st.sampled_from([0, 0, 1, 1, 2, 8, 40])), len(data))
        new = draw(st.one_of(st.sampled_from(ODD), st.binary(max_size=3), st.just(b"")))
        if draw(st.booleans()):
            new = new + bytes(data[at:stop])
        data[at:stop] = new
    if draw(st.integers(0, 9)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def check(table: str, decode: Callable[[bytes], Batch], data: bytes) -> Batch | None:
    """The batch, which its table takes; None where the decoder told a sentence."""
    try:
        batch = decode(data)
    except (Damaged, UserError):
        return None
    assert batch.rows.height + batch.rejected.height == batch.records
    assert not batch.rejected["reason"].null_count()
    batch = mask(table, batch, ["password"])
    piece = Piece(table, "x", "b", 1, lambda: batch, "x")
    rows = fit(TABLES[table], delivered(piece, batch, NOW))
    for text in rows.select(pl.col(pl.String)).get_columns():
        text.str.len_bytes().sum()
    assert rows["date"].null_count() == 0
    return batch


@pytest.fixture(autouse=True)
def _salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTLAKE_SALT", "s")


QUICK = settings(
    max_examples=40 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", DECODERS)
@QUICK
@given(data=st.data())
def test_damaged_input_is_a_sentence_or_adds_up(name: str, data: st.DataObject) -> None:
    table, content, decode = DECODERS[name]
    whole = check(table, decode, content)
    assert whole is not None
    assert whole.rows.height >= 1
    check(table, decode, data.draw(damaged(content)))


@pytest.mark.parametrize("name", DECODERS)
@settings(QUICK, max_examples=20 * TIMES)
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode)))
def test_any_bytes_are_a_sentence_or_add_up(name: str, content: bytes) -> None:
    table, _, decode = DECODERS[name]
    check(table, decode, content)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("deep", [b"[", b'{"a":', b'{"data":[{"spans":[{"tags":['])
def test_depth_without_end_is_a_sentence_or_refused(name: str, deep: bytes) -> None:
    table, content, decode = DECODERS[name]
    check(table, decode, deep * 100_000)
    check(table, decode, content.replace(b"1", b"[" * 50_000 + b"]" * 50_000, 1))


@pytest.mark.parametrize("name", ["openmetrics", "docker", "cri", "json lines", "changes"])
@QUICK
@given(data=st.data())
def test_a_damaged_line_leaves_the_others_alone(name: str, data: st.DataObject) -> None:
    table, content, decode = DECODERS[name]
    lines = content.splitlines()
    place = data.draw(st.integers(0, len(lines) - 2))
    odd = data.draw(damaged(lines[place])).replace(b"\n", b"")
    batch = check(table, decode, b"\n".join([*lines[:place], odd, *lines[place + 1 :]]) + b"\n")
    whole = check(table, decode, content)
    assert whole is not None
    if batch is None or odd[:1] == b"#" or lines[place][:1] == b"#":
        return
    told = ["ts", "value"] if table == "raw_samples" else ["ts"]
    had, has = whole.rows.select(told).rows(), batch.rows.select(told).rows()
    lost = [row for row in had if repr(row) not in {repr(one) for one in has}]
    assert len(lost) <= 1


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    for name in ("changes", "edges", "json lines", "openmetrics"):
        table, content, decode = DECODERS[name]
        with_mark, without = (
            check(table, decode, head + content) for head in (b"\xef\xbb\xbf", b"")
        )
        assert with_mark is not None
        assert without is not None
        assert with_mark.rows.equals(without.rows)


def test_windows_line_breaks_change_nothing() -> None:
    for name in ("changes", "edges", "json lines", "openmetrics", "docker"):
        table, content, decode = DECODERS[name]
        batch = check(table, decode, content.replace(b"\n", b"\r\n"))
        whole = check(table, decode, content)
        assert batch is not None
        assert whole is not None
        columns = [one for one in whole.rows.columns if one != "attributes"]
        assert batch.rows.select(columns).equals(whole.rows.select(columns)), name
        assert not batch.rejected.height


def test_a_cell_beyond_the_header_is_refused_not_dropped() -> None:
    table, content, decode = DECODERS["edges"]
    batch = check(table, decode, content + b"2025-03-11T14:01:00Z,a,b,12,5,surplus\n")
    assert batch is not None
    assert (batch.rows.height, batch.rejected.height) == (1, 1)
    assert "surplus" in batch.rejected["raw_row"][0]


def test_a_line_separator_within_a_text_does_not_cut_its_line() -> None:
    table, _, decode = DECODERS["changes"]
    line = '{"ts":"2025-03-11T14:00:00Z","kind":"flag","message":"one\u2028two"}\n'
    batch = check(table, decode, line.encode())
    assert batch is not None
    assert batch.rows["message"].to_list() == ["one\u2028two"]


def test_labels_that_are_none_are_refused() -> None:
    for labels in ("{job}", '{job="a"x}', '{="a"}', '{job="a" b="c"}'):
        batch = openmetrics.decode(f"up{labels} 1 1741701600\n# EOF\n", PLACE, "x")
        assert (batch.rows.height, batch.rejected.height) == (0, 1), labels


def test_twelve_hex_digits_are_no_base64() -> None:
    content = OTLP.replace(b"b7ad6b7169203331", b"b7ad6b716920")
    assert otlp.decode(content, PLACE, "x").rows["span_id"].to_list() == ["b7ad6b716920"] * 2


@settings(QUICK, max_examples=20 * TIMES)
@given(data=st.data())
def test_a_damaged_gzip_file_is_a_sentence(data: st.DataObject, tmp_path_factory: Any) -> None:
    file = tmp_path_factory.mktemp("gz") / "x.gz"
    file.write_bytes(data.draw(damaged(gzip.compress(LINES))))
    try:
        found = files.content(file)
    except UserError:
        return
    assert found in (LINES, file.read_bytes()) or found.startswith(LINES) or not found


@QUICK
@given(data=st.data())
def test_the_output_of_git_is_read_whatever_it_holds(data: st.DataObject) -> None:
    odd = data.draw(st.text(max_size=30)).replace(MARK, "")
    message, diff = data.draw(st.sampled_from([(odd, ""), ("m", odd), (odd, odd)]))
    text = GIT.decode().replace("m\n\0", f"{message}\n\0").replace("+one", diff)
    rows = git.decode(text * 2, MARK).rows
    assert rows["ref"].to_list() == ["ab" * 20] * 2
    assert message.strip() in rows["message"][0] or not message.strip()


# -- Prometheus' binary forms ---------------------------------------------------------------------


def frame(message: bytes) -> bytes:
    return varint(len(message)) + google_crc32c.value(message).to_bytes(4, "big") + message


def chunk_of(samples: list[tuple[int, float]]) -> bytes:
    """An XOR chunk: every delta of a delta in 64 bits, every value whole."""
    bits = ""
    value = 0
    for place, (at, number) in enumerate(samples):
        word = struct.unpack(">Q", struct.pack(">d", number))[0]
        if place == 0:
            bits += "".join(f"{byte:08b}" for byte in varint(zigzag(at))) + f"{word:064b}"
        else:
            delta = at - samples[place - 1][0]
            if place == 1:
                bits += "".join(f"{byte:08b}" for byte in varint(delta))
            else:
                change = delta - (samples[place - 1][0] - samples[place - 2][0])
                bits += "1111" + f"{change & ((1 << 64) - 1):064b}"
            same = word == value
            bits += "0" if same else "11" + "00000" + "000000" + f"{word ^ value:064b}"
        value = word
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
    return len(samples).to_bytes(2, "big") + body


POINTS = [(1_741_701_600_000 + 15_000 * i, i / 3) for i in range(5)]


def series_of(chunk: bytes, kind: int = 1) -> bytes:
    label = field(1, field(1, b"__name__") + field(2, b"up"))
    return field(1, label + field(2, field(1, 1) + field(2, 9) + field(3, kind) + field(4, chunk)))


def both(work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the compiled and the plain decoder make of something; 'refused' for a ValueError."""
    found = []
    for plain in (False, True):
        with monkeypatch.context() as patched:
            if plain:
                patched.setattr(xor, "compiled", lambda: None)
            try:
                found.append(work())
            except (ValueError, IndexError):
                found.append("refused")
    return found


@settings(QUICK, max_examples=60 * TIMES)
@given(data=st.data())
def test_both_decoders_of_chunks_agree(
    data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = data.draw(st.one_of(damaged(chunk_of(POINTS)), st.binary(max_size=80)))
    content = np.frombuffer(chunk, np.uint8)
    starts, ends = np.array([0]), np.array([len(chunk)])

    def work() -> Any:
        found = xor.decode(content, starts, ends)
        return found.times.tolist(), found.values.view(np.uint64).tolist()

    one, other = both(work, monkeypatch)
    assert one == other


def test_a_whole_chunk_is_read_to_the_bit() -> None:
    chunk = chunk_of(POINTS)
    found = xor.decode(np.frombuffer(chunk, np.uint8), np.array([0]), np.array([len(chunk)]))
    assert list(zip(found.times.tolist(), found.values.tolist(), strict=True)) == POINTS


def counts(content: bytes) -> Any:
    return remote_read._chunked(content).samples.counts.tolist()


@settings(QUICK, max_examples=60 * TIMES)
@given(data=st.data())
def test_a_damaged_stream_of_frames_is_refused_by_both_decoders(
    data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = frame(series_of(chunk_of(POINTS))) * 2
    odd = data.draw(damaged(content))
    one, other = both(partial(counts, odd), monkeypatch)
    assert one == other
    assert one == "refused" or odd == content or not odd or odd == content[: len(content) // 2]


@settings(QUICK, max_examples=60 * TIMES)
@given(data=st.data())
def test_fields_of_any_length_within_a_sound_frame_are_refused_or_read_alike(
    data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = data.draw(damaged(series_of(chunk_of(POINTS))))
    work = lambda: [  # noqa: E731
        (one.labels, one.times.tolist(), one.values.view(np.uint64).tolist())
        for one in remote_read._chunked(frame(message)).samples.each()
    ]
    one, other = both(work, monkeypatch)
    assert one == other


@QUICK
@given(data=st.data())
def test_a_damaged_reply_of_samples_is_refused_or_read(data: st.DataObject) -> None:
    label = field(1, field(1, b"__name__") + field(2, b"up"))
    points = b"".join(field(2, field(1, value) + field(2, at)) for at, value in POINTS)
    content = field(1, field(1, label + points))
    assert [one.times.tolist() for one in remote_read.parse(content)] == [[at for at, _ in POINTS]]
    odd = data.draw(damaged(content))
    try:
        list(remote_read.parse(odd))
    except (ValueError, IndexError, UserError):
        return


def test_histograms_among_samples_are_told_not_misread() -> None:
    label = field(1, field(1, b"__name__") + field(2, b"latency"))
    content = field(1, field(1, label + field(4, field(1, 3) + field(15, 1_741_701_600_000))))
    with pytest.raises(UserError, match="latency is a native histogram"):
        list(remote_read.parse(content))


@QUICK
@given(data=st.data())
def test_damaged_snappy_is_refused(data: st.DataObject) -> None:
    odd = data.draw(st.one_of(damaged(remote_read._snappy(b"hello" * 30)), st.binary(max_size=40)))
    try:
        remote_read._unsnappy(odd)
    except (ValueError, IndexError, OSError):
        return


@QUICK
@given(data=st.data())
def test_damaged_histogram_chunks_are_refused_whole(data: st.DataObject) -> None:
    chunk = data.draw(st.one_of(st.binary(min_size=0, max_size=60), damaged(b"\x00\x02\x00" * 12)))
    labels = (("__name__", "latency"),)
    made = [native_histograms.HistogramChunk(labels, 2, chunk)]
    rows, refused = native_histograms.rows(made, 0, 1 << 62, Catalog({}), PLACE)
    assert refused.height in (0, 1)
    assert rows["ts"].null_count() == 0
    rows.select(pl.col("positive_deltas").list.len())


QUERY = json.dumps(
    {"data": {"result": [{"metric": {"__name__": "up"}, "values": [[1741701600.5, "1.5"]] * 3}]}}
).encode()


@QUICK
@given(data=st.data())
def test_damaged_replies_of_the_query_api_are_asked_for_again(data: st.DataObject) -> None:
    assert query_range.decode(QUERY)[0].values.tolist() == [1.5] * 3
    odd = data.draw(st.one_of(damaged(QUERY), st.binary(max_size=40)))
    for decode in (query_range.decode, query_range.decode_exemplars):
        try:
            decode(odd)
        except Damaged:
            continue


@pytest.mark.parametrize("value", [1e-300, 1.7976931348623157e308, 5e-324, -0.0])
def test_a_value_of_many_digits_comes_back_as_it_was(value: float) -> None:
    text = np.format_float_positional(value, trim="-") or "0"
    content = QUERY.replace(b'"1.5"', f'"{text}"'.encode())
    assert query_range.decode(content)[0].values.tolist() == [value] * 3


def test_a_partial_answer_is_no_answer() -> None:
    content = QUERY.replace(b'{"data"', b'{"warnings": ["store a is down"], "data"', 1)
    with pytest.raises(Damaged, match="store a is down"):
        query_range.decode(content)
