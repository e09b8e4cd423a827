"""Metrics as OpenMetrics text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sample_data.generator.simulate import Recording
from sample_data.generator.story import Scenario
from sample_data.generator.write.file import put

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Families:
    """Metric families and their samples' lines."""

    def __init__(self, scenario: Scenario) -> None:
        self.known: dict[str, tuple[str, str, list[str]]] = {}
        self.start, self.count = scenario.start.timestamp(), scenario.minutes * 2

    def declare(self, name: str, kind: str, about: str) -> None:
        """A family; the first declaration counts."""
        self.known.setdefault(name, (kind, about, []))

    def add(self, family: str, ending: str, labels: str, value: str, step: int) -> None:
        """A sample at the end of a step of 30 seconds."""
        at = _number(self.start + 30 * (step + 1))
        self.known[family][2].append(f"{family}{ending}{{{labels}}} {value} {at}")

    def text(self) -> str:
        """OpenMetrics text."""
        lines: list[str] = []
        for name in sorted(self.known):
            kind, about, samples = self.known[name]
            unit = [f"# UNIT {name} seconds"] if name.endswith("_seconds") else []
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *unit, *_grouped(samples)]
        return "\n".join([*lines, "# EOF"]) + "\n"


CPU = "container_cpu_usage_millicores"
MEMORY = "container_memory_working_set_mebibytes"
RESTARTS = "kube_pod_container_status_restarts"
REQUESTS = "http_server_requests"
TIMINGS = "http_server_duration_seconds"
POOL = "db_client_connections_usage"
FAMILIES = (
    (CPU, "gauge", "CPU time used"),
    (MEMORY, "gauge", "memory in use"),
    (RESTARTS, "counter", "restarts of the container"),
    (REQUESTS, "counter", "requests answered"),
    (TIMINGS, "histogram", "time to answer"),
    (POOL, "gauge", "connections of the pool in use"),
)


def metrics(
    folder: Path, scenario: Scenario, recording: Recording, rng: np.random.Generator
) -> None:
    """OpenMetrics text with a sample every 30 seconds per pod."""
    out = Families(scenario)
    for family in FAMILIES:
        out.declare(*family)
    served = _served(recording, out.start, out.count)
    busy = _sums(recording.busy, out.start, out.count)
    pools = {(round((at - out.start) / 30) - 1, pod): used for at, pod, used, _ in recording.pools}
    for name in sorted(recording.pods):
        pod = recording.pods[name]
        labels = f'cluster="{pod.cluster}",namespace="shop",node="{pod.node}",pod="{name}",service="{pod.service}"'
        memory = float(rng.uniform(180, 420))
        for step in range(out.count):
            cpu = 25 + busy.get((step, name), 0.0) / 30 * 1000 + rng.normal(0, 2)
            out.add(CPU, "", labels, _number(cpu), step)
            out.add(MEMORY, "", labels, _number(memory + rng.normal(0, 3)), step)
            if step % 4 == 0:
                out.add(RESTARTS, "_total", labels, "0", step)
            if (step, name) in pools:
                out.add(POOL, "", labels, str(pools[step, name]), step)
        _requests(out, labels, [served.get((step, name), []) for step in range(out.count)])
    put(folder / "prometheus" / f"{scenario.name}.om.gz", out.text())


def _requests(out: Families, labels: str, served: Sequence[Sequence[tuple[float, bool]]]) -> None:
    """The counter and the histogram of a pod's requests (seconds, failed) per step."""
    total = {"200": 0, "500": 0}
    buckets, spent = [0] * (len(BUCKETS) + 1), 0.0
    for step, requests in enumerate(served):
        for took, failed in requests:
            total["500" if failed else "200"] += 1
            spent += took
            buckets[int(np.searchsorted(BUCKETS, took))] += 1
        for status, value in total.items():
            out.add(REQUESTS, "_total", f'{labels},status="{status}"', str(value), step)
        if step % 2 == 0:
            below = 0
            for edge, value in zip([*map(str, BUCKETS), "+Inf"], buckets, strict=True):
                below += value
                out.add(TIMINGS, "_bucket", f'{labels},le="{edge}"', str(below), step)
            out.add(TIMINGS, "_count", labels, str(below), step)
            out.add(TIMINGS, "_sum", labels, _number(spent), step)


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
