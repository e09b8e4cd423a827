"""One scenario played: spans, log lines and pool readings on true clocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from sample_data.generator.loop import Loop, Pool, Process
from sample_data.generator.shop import MODELS, Call, Topology
from sample_data.generator.story import Scenario


@dataclass
class Span:
    trace: str
    id: str
    parent: str | None
    pod: str
    operation: str
    kind: str
    start: float  # seconds since 1970, true time
    end: float = 0.0
    error: bool = False
    tags: dict[str, object] = field(default_factory=dict)
    events: list[tuple[float, dict[str, str]]] = field(default_factory=list)


@dataclass
class Line:
    at: float
    pod: str
    level: str
    text: str
    span: Span | None = None


@dataclass(frozen=True)
class Pod:
    name: str
    service: str
    cluster: str
    node: str
    version: str
    uid: str


@dataclass
class Recording:
    """Everything that happened, on true clocks."""

    pods: dict[str, Pod] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    busy: list[tuple[float, str, float]] = field(default_factory=list)  # at, pod, CPU seconds
    pools: list[tuple[float, str, int, int]] = field(default_factory=list)  # at, pod, used, size


def letters(rng: np.random.Generator, count: int) -> str:
    return "".join(rng.choice(list("bcdfghjklmnpqrstvwxz2456789"), count))


def place_pods(topology: Topology, scenario: Scenario, rng: np.random.Generator) -> dict[str, Pod]:
    """Two pods of the front door and checkout per cluster, one of every other service."""
    pods: dict[str, Pod] = {}
    turn = 0
    released = {deploy.service: deploy for deploy in scenario.deploys}
    for cluster in topology.clusters:
        for service in topology.services:
            deploy = released.get(service)
            mine = deploy is not None and deploy.cluster in (None, cluster)
            version = deploy.version if deploy and mine else topology.versions[service]
            template = letters(rng, 9)
            for _ in range(2 if service in {topology.front, "checkout"} else 1):
                name = f"{service}-{template}-{letters(rng, 5)}"
                node = f"{cluster}-node-{turn % topology.nodes + 1}"
                raw = rng.bytes(16).hex()
                uid = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
                pods[name] = Pod(name, service, cluster, node, version, uid)
                turn += 1
    return pods


class Play:
    """The requests of one scenario as processes on the event loop."""

    def __init__(self, topology: Topology, scenario: Scenario, rng: np.random.Generator) -> None:
        self.topology, self.scenario, self.rng = topology, scenario, rng
        self.loop = Loop()
        self.out = Recording(place_pods(topology, scenario, rng))
        self.onset = scenario.fault.onset.timestamp()
        self.pools = {
            pod.name: Pool(
                topology.services[pod.service].pool, topology.services[pod.service].patience
            )
            for pod in self.out.pods.values()
            if topology.services[pod.service].store
        }
        fault = scenario.fault
        if fault.kind == "pool":
            for pod in self.out.pods.values():
                if pod.service == fault.service:
                    self.pools[pod.name].size = fault.size

    def run(self) -> Recording:
        for at, cluster, operation in self._arrivals():
            self.loop.start(at, self._request(cluster, operation))
        start, minutes = self.scenario.start.timestamp(), self.scenario.minutes
        for step in range(minutes * 2 + 1):
            self.loop.start(start + 30 * step, self._read_pools())
        self.loop.run()
        self.out.spans.sort(key=lambda span: span.end)
        self.out.lines.sort(key=lambda line: line.at)
        return self.out

    def _arrivals(self) -> Iterator[tuple[float, str, str]]:
        at = self.scenario.start.timestamp()
        end = at + 60 * self.scenario.minutes
        entries = list(self.topology.entries)
        shares = np.array(list(self.topology.entries.values()))
        while True:
            rate = self.scenario.rate * (self.scenario.surge if at >= self.onset else 1.0)
            at += float(self.rng.exponential(1 / rate))
            if at >= end:
                return
            cluster = str(self.rng.choice(self.topology.clusters, p=_even(self.topology.clusters)))
            yield at, cluster, str(self.rng.choice(entries, p=shares / shares.sum()))

    def _read_pools(self) -> Process:
        for name, pool in self.pools.items():
            self.out.pools.append((self.loop.now, name, pool.used, pool.size))
        yield 0.0

    def _request(self, cluster: str, operation: str) -> Process:
        trace = self.rng.bytes(16).hex()
        yield from self._serve(trace, None, cluster, self.topology.front, operation, "server")

    def _pod(self, cluster: str, service: str) -> Pod:
        mine = [p for p in self.out.pods.values() if p.service == service and p.cluster == cluster]
        return mine[int(self.rng.integers(len(mine)))]

    def _span(self, trace: str, parent: str | None, pod: Pod, operation: str, kind: str) -> Span:
        return Span(
            trace, self.rng.bytes(8).hex(), parent, pod.name, operation, kind, self.loop.now
        )

    def _close(self, span: Span, *, error: bool = False) -> None:
        span.end, span.error = self.loop.now, error
        self.out.spans.append(span)

    def _work(self, milliseconds: float) -> float:
        return float(self.rng.lognormal(math.log(milliseconds), 0.35)) / 1000

    def _wire(self) -> float:
        return float(self.rng.gamma(2.0, 0.00018)) + 0.00012

    def _serve(
        self, trace: str, parent: str | None, cluster: str, service: str, operation: str, kind: str
    ) -> Process:
        """One operation of a service: its work, its queries, its calls."""
        pod = self._pod(cluster, service)
        plan = self.topology.services[service].operations[operation]
        span = self._span(trace, parent, pod, operation, kind)
        span.tags |= _http(operation) if kind == "server" else {"messaging.system": "kafka"}
        work = self._work(plan.work)
        self.out.busy.append((self.loop.now, pod.name, work * 0.6))
        yield work * 0.6
        failed = False
        queries = plan.queries
        if service == "llm-gateway":
            yield from self._generate(span, pod)
        fault = self.scenario.fault
        if fault.kind == "pool" and service == fault.service:
            queries = fault.queries if self.loop.now >= self.onset else 2
        if queries:
            failed = not (yield from self._queries(span, pod, queries))
        for call in plan.calls:
            if failed or self.rng.random() > call.chance:
                continue
            failed = not (yield from self._call(span, pod, call))
        yield work * 0.4
        self._close(span, error=failed)
        if kind == "server":
            span.tags["http.status_code"] = 500 if failed else 200
        self._say(span, pod, failed=failed)

    def _call(self, span: Span, pod: Pod, call: Call) -> Iterator[object]:
        """A call over the network: client span here, server span there."""
        if call.queued:
            hand = self._span(
                span.trace, span.id, pod, f"{call.operation.split()[0]} publish", "producer"
            )
            hand.tags |= {"messaging.system": "kafka", "messaging.destination.name": "orders"}
            yield 0.0012
            self._close(hand)
            later = self.loop.now + float(self.rng.exponential(0.05)) + 0.004
            process = self._serve(
                span.trace, hand.id, pod.cluster, call.service, call.operation, "consumer"
            )
            self.loop.start(later, process)
            return True
        client = self._span(span.trace, span.id, pod, call.operation, "client")
        client.tags |= {"rpc.system": "http", "peer.service": call.service}
        extra = self._delay(call.service, pod.cluster)
        yield self._wire() + extra
        before = len(self.out.spans)
        yield from self._serve(
            span.trace, client.id, pod.cluster, call.service, call.operation, "server"
        )
        failed = any(one.parent == client.id and one.error for one in self.out.spans[before:])
        yield self._wire() + extra
        self._close(client, error=failed)
        return not failed

    def _delay(self, service: str, cluster: str) -> float:
        fault = self.scenario.fault
        if (
            fault.kind == "network"
            and service == fault.service
            and cluster == fault.cluster
            and self.loop.now >= self.onset
        ):
            return max(0.01, float(self.rng.normal(fault.delay / 2, fault.delay / 10)))
        return 0.0

    def _queries(self, span: Span, pod: Pod, count: int) -> Iterator[object]:
        """Queries on one pooled connection; False when none was free in time."""
        service = self.topology.services[pod.service]
        pool = self.pools[pod.name]
        got = yield pool
        if not got:
            wait = f"{service.patience:.1f}"
            text = f"connection pool exhausted: waited {wait}s, size={pool.size} in use={pool.used}"
            self.out.lines.append(Line(self.loop.now, pod.name, "ERROR", text, span))
            span.events.append(
                (
                    self.loop.now,
                    {
                        "event": "exception",
                        "exception.type": "PoolTimeout",
                        "exception.message": text,
                    },
                )
            )
            return False
        for _ in range(count):
            yield from self._query(span, pod, crowded=pool.size < 5 and self.loop.now >= self.onset)
        self.loop.leave(pool)
        return True

    def _query(self, span: Span, pod: Pod, *, crowded: bool) -> Iterator[object]:
        """One query; row locks make it wait where a pool's few connections are held long."""
        service = self.topology.services[pod.service]
        query = self._span(span.trace, span.id, pod, f"{service.store} query", "client")
        query.tags |= {"db.system": service.store, "db.name": pod.service}
        usual = {"redis": 0.6, "postgresql": 4.0}[service.store or "redis"]
        yield self._work(usual * (40 if crowded else 1))
        self._close(query)

    def _generate(self, span: Span, pod: Pod) -> Iterator[object]:
        """An answer of a language model, token by token."""
        model = MODELS[0] if self.rng.random() < 0.55 else MODELS[1]
        chat = self._span(span.trace, span.id, pod, f"chat {model}", "internal")
        tokens = int(self.rng.integers(60, 240))
        slow = self.scenario.fault
        hit = (
            slow.kind == "model"
            and model == MODELS[0]
            and pod.cluster == slow.cluster
            and self.loop.now >= self.onset
        )
        yield tokens * (0.0035 if model == MODELS[0] else 0.0015) * (slow.factor if hit else 1.0)
        chat.tags |= {
            "gen_ai.system": "aurora",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "gen_ai.usage.input_tokens": int(self.rng.integers(40, 900)),
            "gen_ai.usage.output_tokens": tokens,
        }
        self._close(chat)

    def _say(self, span: Span, pod: Pod, *, failed: bool) -> None:
        """What the service logs when an operation ends, and its everyday grumbling."""
        took = (span.end - span.start) * 1000
        if failed:
            text = f"{span.operation} failed after {took:.0f} ms"
            self.out.lines.append(Line(span.end, pod.name, "ERROR", text, span))
        elif self.rng.random() < 0.75:
            text = f"{span.operation} done in {took:.1f} ms"
            self.out.lines.append(Line(span.end, pod.name, "INFO", text, span))
        if self.rng.random() < 0.01:
            text = (
                "slow garbage collection pause, 48 ms"
                if self.rng.random() < 0.5
                else "client closed the connection early"
            )
            self.out.lines.append(Line(span.end, pod.name, "WARN", text, span))
        if self.rng.random() < 0.004:
            text = "feature store did not answer, using defaults from 2025-02-28"
            self.out.lines.append(Line(span.end, pod.name, "ERROR", text, span))


def _http(operation: str) -> dict[str, object]:
    method, _, route = operation.partition(" ")
    return {"http.method": method, "http.route": route}


def _even(names: tuple[str, ...]) -> list[float]:
    return [1 / len(names)] * len(names)


def utc(at: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    from datetime import UTC

    return datetime.fromtimestamp(at, UTC)
