"""A recording as files, in the form each source serves."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sample_data.generator.corrupt import Clock
from sample_data.generator.shop import Topology
from sample_data.generator.simulate import Line, Pod, Recording, Span, utc
from sample_data.generator.story import Scenario

FILE_SECONDS = 300
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
Row = dict[str, Any]


def put(file: Path, text: str) -> None:
    """A file, zipped when its name says so; the same text gives the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    file.write_bytes(gzip.compress(data, 9, mtime=0) if file.suffix == ".gz" else data)


def tag(key: str, value: object) -> Row:
    kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "string"
    return {"key": key, "type": kind, "value": value}


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
    if len(body) > 180 or (line_number(body) % 997) == 0:
        cut = len(body) // 2
        return [f"{stamp} {stream} P {body[:cut]}", f"{stamp} {stream} F {body[cut:]}"]
    return [f"{stamp} {stream} F {body}"]


def line_number(text: str) -> int:
    """A number that is the same for the same text, in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def metrics(
    folder: Path, scenario: Scenario, recording: Recording, rng: np.random.Generator
) -> None:
    """OpenMetrics text with a sample every 30 seconds per pod."""
    start, count = scenario.start.timestamp(), scenario.minutes * 2
    times = [start + 30 * (step + 1) for step in range(count)]
    families: dict[str, tuple[str, str, list[str]]] = {}

    def family(name: str, kind: str, about: str) -> list[str]:
        return families.setdefault(name, (kind, about, []))[2]

    served = _served(recording, start, count)
    busy = _sums(((at, pod, value) for at, pod, value in recording.busy), start, count)
    used = {(round((at - start) / 30), pod): (n, size) for at, pod, n, size in recording.pools}
    for name in sorted(recording.pods):
        pod = recording.pods[name]
        labels = f'cluster="{pod.cluster}",namespace="shop",node="{pod.node}",pod="{name}",service="{pod.service}"'
        memory = float(rng.uniform(180, 420))
        cpu = family("container_cpu_usage_millicores", "gauge", "CPU time used")
        rss = family("container_memory_working_set_mebibytes", "gauge", "memory in use")
        restarts = family(
            "kube_pod_container_status_restarts", "counter", "restarts of the container"
        )
        requests = family("http_server_requests", "counter", "requests answered")
        timings = family("http_server_duration_seconds", "histogram", "time to answer")
        pools = family("db_client_connections_usage", "gauge", "connections of the pool in use")
        total = {"200": 0, "500": 0}
        buckets, spent = [0] * (len(BUCKETS) + 1), 0.0
        for step, at in enumerate(times):
            seconds = busy.get((step, name), 0.0)
            cpu.append(
                f"container_cpu_usage_millicores{{{labels}}} {_number(25 + seconds / 30 * 1000 + rng.normal(0, 2))} {_number(at)}"
            )
            rss.append(
                f"container_memory_working_set_mebibytes{{{labels}}} {_number(memory + rng.normal(0, 3))} {_number(at)}"
            )
            if step % 4 == 0:
                restarts.append(
                    f"kube_pod_container_status_restarts_total{{{labels}}} 0 {_number(at)}"
                )
            for took, failed in served.get((step, name), ()):
                total["500" if failed else "200"] += 1
                spent += took
                place = int(np.searchsorted(BUCKETS, took))
                buckets[place] += 1
            for status, value in total.items():
                requests.append(
                    f'http_server_requests_total{{{labels},status="{status}"}} {value} {_number(at)}'
                )
            if step % 2 == 0:
                below = 0
                for edge, value in zip([*map(str, BUCKETS), "+Inf"], buckets, strict=True):
                    below += value
                    timings.append(
                        f'http_server_duration_seconds_bucket{{{labels},le="{edge}"}} {below} {_number(at)}'
                    )
                timings.append(
                    f"http_server_duration_seconds_count{{{labels}}} {below} {_number(at)}"
                )
                timings.append(
                    f"http_server_duration_seconds_sum{{{labels}}} {_number(spent)} {_number(at)}"
                )
            if (step + 1, name) in used:
                pools.append(
                    f"db_client_connections_usage{{{labels}}} {used[step + 1, name][0]} {_number(at)}"
                )
    lines: list[str] = []
    for name in sorted(families):
        kind, about, samples = families[name]
        unit = [f"# UNIT {name} seconds"] if name.endswith("_seconds") else []
        lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *unit, *_grouped(samples)]
    put(folder / "prometheus" / f"{scenario.name}.om.gz", "\n".join([*lines, "# EOF"]) + "\n")


def _grouped(samples: list[str]) -> list[str]:
    """All samples of one series together, as OpenMetrics wants them; times stay in order."""
    return sorted(
        samples, key=lambda line: line.split("} ")[0].split(',le="')[0].split(',status="')[0]
    )


def _served(
    recording: Recording, start: float, count: int
) -> dict[tuple[int, str], list[tuple[float, bool]]]:
    out: dict[tuple[int, str], list[tuple[float, bool]]] = defaultdict(list)
    for span in recording.spans:
        if span.kind in {"server", "consumer"}:
            out[min(max(int((span.end - start) // 30), 0), count - 1), span.pod].append(
                (span.end - span.start, span.error)
            )
    return out


def _sums(
    rows: Iterable[tuple[float, str, float]], start: float, count: int
) -> dict[tuple[int, str], float]:
    out: dict[tuple[int, str], float] = defaultdict(float)
    for at, pod, value in rows:
        out[min(max(int((at - start) // 30), 0), count - 1), pod] += value
    return out


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


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
        "groupID": str(4000 + len(kind) * 7 + line_number(pod.service) % 100),
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


def kubernetes(folder: Path, topology: Topology, pieces: list[tuple[Scenario, Recording]]) -> None:
    """What `kubectl get … -o json` printed of each cluster after each incident, in one list each."""
    for cluster in topology.clusters:
        lists: dict[str, list[Row]] = defaultdict(list)
        for scenario, recording in pieces:
            _objects(lists, cluster, scenario, recording)
        for kind, items in sorted(lists.items()):
            unique = {json.dumps(item, sort_keys=True): item for item in items}
            body = {"apiVersion": "v1", "kind": f"{kind}List", "items": list(unique.values())}
            name = {"ConfigMap": "configmaps"}.get(kind, f"{kind.lower()}s")
            put(folder / cluster / "k8s" / f"{name}.json", json.dumps(body, indent=1) + "\n")


def _objects(
    lists: dict[str, list[Row]], cluster: str, scenario: Scenario, recording: Recording
) -> None:
    mine = [pod for pod in recording.pods.values() if pod.cluster == cluster]
    released = {
        deploy.service: deploy for deploy in scenario.deploys if deploy.cluster in (None, cluster)
    }
    for pod in mine:
        deploy = released.get(pod.service)
        started = deploy.at if deploy else utc(scenario.start.timestamp() - 90_000)
        lists["Pod"].append(_pod(pod, _z(started.timestamp())))
        if deploy:
            lists["ReplicaSet"] += _replica_sets(
                pod, deploy.version, deploy.message or deploy.commit, started.timestamp(), scenario
            )
            lists["Event"].append(
                _k8s_event(
                    pod,
                    "ScalingReplicaSet",
                    f"Scaled up replica set {pod.name.rsplit('-', 1)[0]} to 1",
                    started.timestamp(),
                    "Deployment",
                    pod.service,
                )
            )
    for node in sorted({pod.node for pod in mine}):
        lists["Node"].append(
            {
                "metadata": {
                    "name": node,
                    "labels": {"topology.kubernetes.io/zone": f"{cluster}{node[-1]}"},
                },
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "capacity": {"cpu": "8", "memory": "32Gi"},
                },
            }
        )
    noise = mine[0]
    lists["Event"].append(
        _k8s_event(
            noise,
            "Unhealthy",
            "Readiness probe failed: context deadline exceeded",
            scenario.start.timestamp() + 540,
            "Pod",
            noise.name,
        )
    )


def _pod(pod: Pod, started: str) -> Row:
    return {
        "metadata": {
            "name": pod.name,
            "namespace": "shop",
            "uid": pod.uid,
            "labels": {"app": pod.service},
            "creationTimestamp": started,
        },
        "spec": {
            "nodeName": pod.node,
            "containers": [
                {
                    "name": "app",
                    "image": f"shop/{pod.service}:{pod.version}",
                    "resources": {
                        "limits": {"cpu": "500m", "memory": "512Mi"},
                        "requests": {"cpu": "100m", "memory": "256Mi"},
                    },
                }
            ],
        },
        "status": {
            "phase": "Running",
            "startTime": started,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": started}],
            "containerStatuses": [
                {
                    "name": "app",
                    "ready": True,
                    "restartCount": 0,
                    "image": f"shop/{pod.service}:{pod.version}",
                    "state": {"running": {"startedAt": started}},
                }
            ],
        },
    }


def _replica_sets(pod: Pod, version: str, cause: str, at: float, scenario: Scenario) -> list[Row]:
    from sample_data.generator.shop import SHOP

    template = pod.name.rsplit("-", 1)[0]
    old = SHOP.versions.get(pod.service, "0")
    day = scenario.start.day

    def one(name: str, image: str, when: float, revision: int, why: str) -> Row:
        return {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "creationTimestamp": _z(when),
                "ownerReferences": [{"kind": "Deployment", "name": pod.service}],
                "annotations": {
                    "deployment.kubernetes.io/revision": str(revision),
                    "kubernetes.io/change-cause": why,
                },
            },
            "spec": {
                "replicas": 1,
                "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
            },
        }

    return [
        one(
            f"{pod.service}-old{day}",
            f"shop/{pod.service}:{old}",
            at - 950_000,
            day - 1,
            f"release {old}",
        ),
        one(template, f"shop/{pod.service}:{version}", at, day, cause),
    ]


def _k8s_event(pod: Pod, reason: str, message: str, at: float, kind: str, name: str) -> Row:
    return {
        "metadata": {"name": f"{name}.{int(at):x}", "namespace": "shop"},
        "involvedObject": {"kind": kind, "name": name, "namespace": "shop"},
        "reason": reason,
        "message": message,
        "type": "Warning" if reason == "Unhealthy" else "Normal",
        "lastTimestamp": _z(at),
        "source": {
            "component": "kubelet" if kind == "Pod" else "deployment-controller",
            "host": pod.node,
        },
    }


def _z(at: float) -> str:
    return f"{utc(at):%Y-%m-%dT%H:%M:%SZ}"


def changes(folder: Path, scenarios: Iterable[Scenario], shas: dict[str, str]) -> None:
    """Deploys and flags as JSON lines."""
    deploys = sorted(_deploys(scenarios, shas), key=lambda row: row["ts"])
    put(folder / "deploys.jsonl", "".join(json.dumps(row) + "\n" for row in deploys))
    flags = [
        {
            "ts": _z(at.timestamp()),
            "kind": "flag",
            "service": service,
            "ref": flag,
            "author": "noor",
            "message": f"{flag} {before} → {after}",
            "before": before,
            "after": after,
        }
        for scenario in scenarios
        for at, flag, service, before, after in scenario.flags
    ]
    put(
        folder / "flags.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in flags)
    )


def _deploys(scenarios: Iterable[Scenario], shas: dict[str, str]) -> Iterator[Row]:
    for scenario in scenarios:
        for deploy in scenario.deploys:
            yield {
                "ts": _z(deploy.at.timestamp()),
                "kind": "deploy",
                "service": deploy.service,
                "ref": f"{deploy.service}@{deploy.version}",
                "author": deploy.author,
                "message": deploy.message or f"release {deploy.version}: {deploy.commit}",
                "after": shas[deploy.commit],
                "cluster": deploy.cluster,
                "environment": "production",
            }
