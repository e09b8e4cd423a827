"""Logs: one row per physical line; what is none is refused whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingest import log_lines as logs
from ingest.batch import Place
from ingest.run import ingest
from lake import Lake, UserError

POD = logs.Pod("shop", "cart-7d9h7cz59-94dkv", "uid", "app")


def docker(*bodies: str) -> str:
    lines = [
        json.dumps({"log": body, "stream": "stdout", "time": f"2025-03-11T14:05:0{i}.123456789Z"})
        for i, body in enumerate(bodies)
    ]
    return "\n".join(lines) + "\n"


def test_docker_lines_are_read_and_cut_ones_marked() -> None:
    rows = logs.decode_container(
        docker("one\n", "two", "three\n"), POD, Place("eu-1"), "0.log"
    ).rows
    assert rows["body"].to_list() == ["one", "two", "three"]
    assert rows["partial"].to_list() == [False, True, False]
    assert rows["ts"][0].microsecond == 123456
    assert rows.row(0, named=True)["service"] == "cart"
    assert rows["attributes"].map.get("container").to_list() == ["app"] * 3


def test_cri_lines_are_read_and_cut_ones_marked() -> None:
    text = (
        '2025-03-11T14:05:00.1Z stdout P level=error msg="a\n'
        '2025-03-11T14:05:00.2+01:00 stderr F b"\n'
        "rubbish\n"
    )
    batch = logs.decode_container(text, POD, Place(), "0.log")
    assert batch.rows["partial"].to_list() == [True, False]
    assert batch.rows["severity"][0] == "ERROR"
    assert batch.rows["ts"][1].hour == 13
    assert (batch.records, batch.rejected["raw_row"].to_list()) == (3, ["rubbish"])


def test_a_line_with_garbage_behind_it_is_refused_whole() -> None:
    text = docker("fine\n", "also fine\n").rstrip("\n") + ':"garbage"}\n'
    batch = logs.decode_container(text, POD, Place(), "0.log")
    assert batch.rows["body"].to_list() == ["fine"]
    assert batch.rejected.height == 1


@pytest.mark.parametrize(
    ("body", "severity", "trace"),
    [
        (
            "16:42:09.705 INFO  c.X#1 TraceID: 42b4f7d894cd9d47 SpanID: 7e8c8193 x",
            "INFO",
            "42b4f7d894cd9d47",
        ),
        ('{"level":"warning","trace_id":"0af7651916cd43dd"}', "WARN", "0af7651916cd43dd"),
        (
            "traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            None,
            "0af7651916cd43dd8448eb211c80319c",
        ),
        ("nothing to see", None, None),
    ],
)
def test_severity_and_ids_are_found_in_the_text(
    body: str, severity: str | None, trace: str | None
) -> None:
    row = logs.decode_container(docker(body + "\n"), POD, Place(), "0.log").rows.row(0, named=True)
    assert (row["severity"], row["trace_id"]) == (severity, trace)


def test_a_pods_tree_names_service_pod_and_namespace(tmp_path: Path) -> None:
    file = tmp_path / "pods/shop_cart-7d9h7cz59-94dkv_u-1/app/0.log"
    file.parent.mkdir(parents=True)
    file.write_text(docker("hello\n"))
    lake = Lake(tmp_path / "lake")
    ingest(lake, "logs", tmp_path / "pods", cluster="eu-1")
    row = lake.read("raw_logs").row(0, named=True)
    assert (row["service"], row["pod"], row["namespace"], row["cluster"]) == (
        "cart",
        "cart-7d9h7cz59-94dkv",
        "shop",
        "eu-1",
    )


@pytest.mark.parametrize(
    ("pod", "service"),
    [
        ("ts-order-service-5b67c48447-mv5hb", "ts-order-service"),
        ("postgres-0", "postgres"),
        ("fluentd-x7k2p", "fluentd"),
        ("alone", "alone"),
    ],
)
def test_service_of(pod: str, service: str) -> None:
    assert logs.service_of(pod) == service


def test_json_lines_with_other_names(tmp_path: Path) -> None:
    file = tmp_path / "app.jsonl"
    file.write_text(
        '{"time": "2025-03-11T14:05:00Z", "msg": "hi", "level": "err", "user": {"id": 7}}\n'
        '{"time": 1741701600123, "msg": "ho"}\n'
        "not json\n"
    )
    lake = Lake(tmp_path / "lake")
    mapping = {"ts": "time", "body": "msg", "severity": "level"}
    landed = ingest(lake, "logs", file, mapping=mapping)
    assert (landed.records, landed.rows, landed.quarantined) == (3, 2, 1)
    rows = lake.read("raw_logs").sort("arrival")
    assert rows["severity"].to_list() == ["ERROR", None]
    assert rows["attributes"].map.get("user").to_list() == ['{"id":7}', None]
    with pytest.raises(UserError, match="--map ts=FIELD"):
        logs.decode_lines(file.read_text(), {}, Place(), "app.jsonl")


def test_log_records_of_a_collector_land_beside_its_spans(tmp_path: Path) -> None:
    def text(value: str) -> dict[str, str]:
        return {"stringValue": value}

    resource = {
        "attributes": [
            {"key": "service.name", "value": text("cart")},
            {"key": "k8s.pod.name", "value": text("cart-1")},
        ]
    }
    record = {
        "timeUnixNano": "1741701600000001500",
        "severityNumber": 17,
        "body": text("connection refused"),
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "attributes": [
            {"key": "retry", "value": {"intValue": "2"}},
            {"key": "retry", "value": {"arrayValue": {"values": []}}},
        ],
    }
    timeless = {"body": text("when?")}
    logs = {
        "resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record, timeless]}]}]
    }
    spans = {
        "resourceSpans": [
            {"resource": resource, "scopeSpans": [{"spans": [{"traceId": "a", "spanId": "b"}]}]}
        ]
    }
    file = tmp_path / "export.jsonl"
    file.write_text(f"{json.dumps(logs)}\n{json.dumps(spans)}\n")
    lake = Lake(tmp_path / "lake")
    for rows in (2, 0):
        assert ingest(lake, "otlp", file).rows == rows
    row = lake.read("raw_logs").row(0, named=True)
    assert str(row["ts"]) == "2025-03-11 14:00:00.000001+00:00"
    assert (row["service"], row["pod"], row["severity"]) == ("cart", "cart-1", "ERROR")
    assert dict(row["attributes"]) == {"retry": "2", "retry#2": '{"values":[]}'}
    assert lake.read("raw_spans").height == 1
    assert lake.read("quarantine")["reason"].to_list() == ["a log record without a time"]
    file.write_text('{"resourceMetrics": []}\n')
    with pytest.raises(UserError, match="pull them from Prometheus"):
        ingest(lake, "otlp", file)
