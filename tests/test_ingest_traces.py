"""Jaeger's and OTLP's JSON as received: counted, nothing normalised, nothing lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ingest import chunks, otlp
from ingest import jaeger_json as jaeger
from ingest.batch import Place
from ingest.run import ingest
from lake import Lake, UserError

from .conftest import SHARED

NOWHERE = Place()


def reply(*spans: dict[str, Any]) -> bytes:
    process = {
        "serviceName": "cart",
        "tags": [{"key": "host.name", "type": "string", "value": "n1"}],
    }
    trace = {"traceID": "ab", "spans": list(spans), "processes": {"p1": process}}
    return json.dumps({"data": [trace]}).encode()


def span(**changes: Any) -> dict[str, Any]:
    base = {
        "traceID": "AB-12",
        "spanID": "0x7",
        "operationName": "GET /",
        "references": [],
        "startTime": 5,
        "duration": -3,
        "tags": [
            {"key": "a", "type": "int64", "value": 1},
            {"key": "a", "type": "bool", "value": True},
        ],
        "processID": "p1",
    }
    return {**base, **changes}


def test_ids_and_times_are_kept_as_received() -> None:
    row = jaeger.decode(reply(span()), NOWHERE, "x").rows.row(0, named=True)
    assert (row["trace_id"], row["span_id"]) == ("AB-12", "0x7")
    assert (row["start"], row["duration"], row["start_unit"]) == (5, -3, "us")
    assert json.loads(row["attributes"])[1] == {"key": "a", "type": "bool", "value": True}
    assert (row["service"], row["host"]) == ("cart", "n1")


def test_the_parent_is_the_child_of_reference_of_the_same_trace() -> None:
    references = [
        {"refType": "FOLLOWS_FROM", "traceID": "other", "spanID": "1"},
        {"refType": "CHILD_OF", "traceID": "AB-12", "spanID": "2"},
    ]
    row = jaeger.decode(reply(span(references=references)), NOWHERE, "x").rows.row(0, named=True)
    assert row["parent_span_id"] == "2"
    assert json.loads(row["links"]) == [references[0]]


def test_a_span_of_wrong_types_is_refused_whole_and_the_others_stay() -> None:
    batch = jaeger.decode(reply(span(), span(traceID=7), span()), NOWHERE, "x")
    assert (batch.records, batch.rows.height, batch.rejected.height) == (3, 2, 1)
    assert json.loads(batch.rejected["raw_row"][0])["traceID"] == 7


@pytest.mark.parametrize(
    "text", ['{"data": [{"spans": [', "[]", '{"data": 3}', '{"foo": 1}', "hello"]
)
def test_what_is_no_reply_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError, match=r"^x is "):
        jaeger.decode(text.encode(), NOWHERE, "x")


def test_otlp_is_told_apart_by_its_content(tmp_path: Path) -> None:
    export = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]
                },
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "0AF7651916CD43DD8448EB211C80319C",
                                "spanId": "b7ad6b7169203331",
                                "name": "GET /",
                                "kind": 2,
                                "startTimeUnixNano": "1741701600000000001",
                                "endTimeUnixNano": "1741701600000000101",
                                "status": {"code": 2},
                            }
                        ]
                    }
                ],
            }
        ]
    }
    line = json.dumps(export)
    file = tmp_path / "traces.jsonl.gz"
    file.write_bytes(gzip.compress(f"{line}\n{line}\n".encode()))
    lake = Lake(tmp_path / "lake")
    assert ingest(lake, "jaeger", file).rows == 2
    row = lake.read("raw_spans").row(0, named=True)
    assert (row["start"], row["duration"], row["start_unit"]) == (1741701600000000001, 100, "ns")
    assert (row["kind"], row["status"], row["service"]) == ("server", "error", "cart")


def test_vendor_payloads_go_in() -> None:
    folder = SHARED / "fixtures" / "jaeger"
    if not folder.is_dir():
        pytest.skip("../shared/fixtures is not here: vendors' payloads are not in the project")
    for file in sorted(folder.glob("*.json")):
        content = file.read_bytes()
        read = otlp.decode if b"resourceSpans" in content else jaeger.decode
        batch = read(content, NOWHERE, file.name)
        spans = content.count(b'"spanID"') or content.count(b'"spanId"')
        assert 0 < batch.records <= spans, file.name


def test_a_big_zipped_file_lands_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "BIG", 1 << 16)
    groups = [{"traceID": f"{n:032x}", "spans": [span(spanID=f"{n:016x}")]} for n in range(2000)]
    whole = json.loads(reply(span()))["data"][0]["processes"]
    text = json.dumps({"data": [{**one, "processes": whole} for one in groups]})
    file = tmp_path / "big.json.gz"
    file.write_bytes(gzip.compress(text.encode(), 1))
    lake = Lake(tmp_path / "lake")
    told: list[float | None] = []
    landed = ingest(lake, "jaeger", file, progress=lambda so_far, _: told.append(so_far.share))
    assert landed.rows == lake.read("raw_spans")["span_id"].n_unique() == 2000
    assert told[-1] == 1.0


def test_an_error_far_inside_a_big_file_says_from_where_its_bytes_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "BIG", 1 << 16)
    monkeypatch.setattr(chunks.cut, "__defaults__", (1 << 17,))
    one = json.dumps(json.loads(reply(span()))["data"][0])
    file = tmp_path / "big.json"
    file.write_text('{"data":[' + ",".join([one] * 1500) + "]} x")
    with pytest.raises(UserError, match=r"big\.json from byte [\d,]+ on is cut or not JSON"):
        ingest(Lake(tmp_path / "lake"), "jaeger", file)
