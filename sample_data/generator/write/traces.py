"""Spans as Jaeger's query API returns them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from sample_data.generator.corrupt import Clock
from sample_data.generator.simulate import Pod, Recording
from sample_data.generator.write.file import Row, put, tag

FILE_SECONDS = 300


def rows_of(recording: Recording, clocks: dict[str, Clock], since: float) -> list[Row]:
    """Spans as their pods reported them: on the clocks of their nodes, in µs."""
    out = []
    for number, span in enumerate(recording.spans):
        pod = recording.pods[span.pod]
        off = clocks[pod.node].error(span.start, since)
        tags = [tag("span.kind", span.kind)] if span.kind != "internal" else []
        tags += [tag(key, value) for key, value in span.tags.items()]
        if span.error:
            tags += [tag("error", True), tag("otel.status_code", "ERROR")]
        logs = [
            {"timestamp": round((at + off) * 1e6), "fields": [tag(k, v) for k, v in fields.items()]}
            for at, fields in span.events
        ]
        out.append(
            {
                "key": str(number),
                "order": span.end,
                "trace_id": span.trace,
                "span_id": span.id,
                "parent": span.parent,
                "operation": span.operation,
                "start": round((span.start + off) * 1e6),
                "duration": round((span.end - span.start) * 1e6),
                "tags": tags,
                "logs": logs,
                "pod": span.pod,
            }
        )
    return out


def jaeger(
    folder: Path, name: str, rows: list[Row], pods: dict[str, Pod]
) -> dict[str, tuple[str, int]]:
    """Files of five minutes each by the time of arrival; where each row went: key → (file, place)."""
    first = min(row["order"] for row in rows)
    files: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda one: (one["order"], one["key"])):
        files[int((row["order"] - first) // FILE_SECONDS)].append(row)
    where = {}
    for number in sorted(files):
        file = f"{name}-{number:02d}.json.gz"
        traces: dict[str, list[Row]] = defaultdict(list)
        for row in files[number]:
            traces[row["trace_id"]].append(row)
        place = 0
        data = []
        for trace, spans in traces.items():
            data.append(_trace(trace, spans, pods))
            for row in spans:
                where[row["key"]] = (file, place)
                place += 1
        reply = {"data": data, "total": 0, "limit": 0, "offset": 0, "errors": None}
        put(folder / "jaeger" / file, json.dumps(reply, separators=(",", ":")))
    return where


def _trace(trace: str, rows: list[Row], pods: dict[str, Pod]) -> Row:
    names = {pod: f"p{i}" for i, pod in enumerate(dict.fromkeys(row["pod"] for row in rows), 1)}
    return {
        "traceID": trace,
        "spans": [_span(row, names[row["pod"]]) for row in rows],
        "processes": {names[pod]: _process(pods[pod]) for pod in names},
        "warnings": None,
    }


def _span(row: Row, process: str) -> Row:
    parent = row["parent"]
    references = (
        [{"refType": "CHILD_OF", "traceID": row["trace_id"], "spanID": parent}] if parent else []
    )
    return {
        "traceID": row["trace_id"],
        "spanID": row["span_id"],
        "operationName": row["operation"],
        "references": references,
        "startTime": row["start"],
        "duration": row["duration"],
        "tags": row["tags"],
        "logs": row["logs"],
        "processID": process,
        "warnings": None,
    }


def _process(pod: Pod) -> Row:
    tags = {
        "service.version": pod.version,
        "deployment.environment": "production",
        "host.name": pod.node,
        "k8s.cluster.name": pod.cluster,
        "k8s.namespace.name": "shop",
        "k8s.node.name": pod.node,
        "k8s.pod.name": pod.name,
    }
    return {"serviceName": pod.service, "tags": [tag(key, value) for key, value in tags.items()]}
