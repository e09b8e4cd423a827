"""A tree of container logs as a Kubernetes node keeps it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from sample_data.generator.corrupt import Clock
from sample_data.generator.simulate import Line, Recording, utc
from sample_data.generator.write.file import number_of, put


def logs(
    folder: Path,
    recording: Recording,
    clocks: dict[str, Clock],
    since: float,
    language: dict[str, str],
) -> None:
    """A node's `pods/` tree per cluster: docker's JSON in the first, CRI in the others."""
    by_pod: dict[str, list[Line]] = defaultdict(list)
    for line in recording.lines:
        by_pod[line.pod].append(line)
    first = min(pod.cluster for pod in recording.pods.values())
    for name, lines in sorted(by_pod.items()):
        pod = recording.pods[name]
        off = clocks[pod.node]
        texts: list[str] = []
        for line in sorted(lines, key=lambda one: one.at):
            at = line.at + off.error(line.at, since)
            stamp = f"{utc(at):%Y-%m-%dT%H:%M:%S.%f}000Z"
            body = _body(line, at, language[pod.service])
            stream = "stderr" if line.level in {"ERROR", "FATAL"} else "stdout"
            texts += (
                _docker(body, stream, stamp) if pod.cluster == first else _cri(body, stream, stamp)
            )
        place = folder / pod.cluster / "pods" / f"shop_{pod.name}_{pod.uid}" / "app"
        put(place / "0.log.gz", "\n".join(texts) + "\n")


def _body(line: Line, at: float, language: str) -> str:
    trace = line.span.trace if line.span else ""
    span = line.span.id if line.span else ""
    if language == "java":
        return (
            f"{utc(at):%H:%M:%S}.{int(at * 1000) % 1000:03d} {line.level:<5} [exec-{int(at * 7) % 16}]"
            f" TraceID: {trace} SpanID: {span} {line.text}"
        )
    if language == "go":
        return f'level={line.level.lower()} trace_id={trace} span_id={span} msg="{line.text}"'
    record = {"level": line.level, "trace_id": trace, "span_id": span, "message": line.text}
    return json.dumps(record)


def _docker(body: str, stream: str, stamp: str) -> list[str]:
    return [
        json.dumps({"log": body + "\n", "stream": stream, "time": stamp}, separators=(",", ":"))
    ]


def _cri(body: str, stream: str, stamp: str) -> list[str]:
    if len(body) > 180 or (number_of(body) % 997) == 0:
        cut = len(body) // 2
        return [f"{stamp} {stream} P {body[:cut]}", f"{stamp} {stream} F {body[cut:]}"]
    return [f"{stamp} {stream} F {body}"]
