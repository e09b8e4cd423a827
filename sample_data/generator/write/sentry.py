"""Errors as Sentry's API returns its events."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sample_data.generator.simulate import Pod, Recording, Span, utc
from sample_data.generator.story import Scenario
from sample_data.generator.write.file import Row, number_of, put


def sentry(
    folder: Path, scenario: Scenario, recording: Recording, rng: np.random.Generator
) -> None:
    """Failed spans as Sentry's API gives their events; a few SDK clocks are a minute and more off."""
    events = []
    for span in sorted(recording.spans, key=lambda one: one.end):
        grumble = rng.random() < 0.0006 and span.kind == "server"
        if not (span.error and span.events) and not grumble:
            continue
        events.append(_event(span, recording.pods[span.pod], rng, grumble=grumble))
    if events:
        put(
            folder / "sentry" / f"{scenario.name}.json.gz",
            json.dumps(events, separators=(",", ":")),
        )


def _event(span: Span, pod: Pod, rng: np.random.Generator, *, grumble: bool) -> Row:
    off = float(rng.uniform(60, 120)) if rng.random() < 0.05 else 0.0
    kind, text = (
        ("BrokenPipeError", "client closed the connection")
        if grumble
        else ("PoolTimeout", span.events[0][1]["exception.message"])
    )
    function = span.operation.split()[-1].strip("/{}").replace("/", "_") or "index"
    frames = [
        {"filename": "app/server.py", "function": "handle", "lineNo": 88, "inApp": False},
        {
            "filename": f"services/{pod.service}/{'handlers' if grumble else 'stock'}.py",
            "function": function,
            "lineNo": 21 if grumble else 34,
            "inApp": True,
        },
    ]
    return {
        "eventID": rng.bytes(16).hex(),
        "groupID": str(4000 + len(kind) * 7 + number_of(pod.service) % 100),
        "projectID": "1",
        "projectSlug": pod.service,
        "dateCreated": _iso(span.end - off),
        "dateReceived": _iso(span.end + 0.4),
        "sent_at": _iso(span.end - off + 0.3),
        "title": f"{kind}: {text}",
        "message": text,
        "culprit": f"services/{pod.service} in {function}",
        "platform": "python",
        "type": "error",
        "metadata": {"type": kind, "value": text},
        "release": {"version": f"{pod.service}@{pod.version}"},
        "user": {"id": str(int(rng.integers(1000, 9999))), "email": "shopper@example.com"},
        "tags": [
            {"key": "service", "value": pod.service},
            {"key": "environment", "value": "production"},
            {"key": "cluster", "value": pod.cluster},
            {"key": "level", "value": "warning" if grumble else "error"},
        ],
        "contexts": {"trace": {"trace_id": span.trace, "span_id": span.id, "type": "trace"}},
        "entries": [
            {
                "type": "exception",
                "data": {
                    "values": [{"type": kind, "value": text, "stacktrace": {"frames": frames}}]
                },
            }
        ],
    }


def _iso(at: float) -> str:
    return utc(at).isoformat(timespec="microseconds").replace("+00:00", "Z")
