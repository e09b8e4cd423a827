"""A random system: services, the calls they make for each other, pods, nodes, manner of speech."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Rng = np.random.Generator

_HEAD = ("ba", "co", "da", "fe", "gi", "ha", "ju", "ka", "lo", "mi", "nu", "pa", "ra", "so", "ti", "vu")  # fmt: skip
_TAIL = ("ber", "dan", "fil", "gor", "ken", "lim", "mar", "nix", "pol", "ric", "sel", "tum", "ver")
_ENDING = ("", "", "-svc", "-api", "-service")
_NOUNS = ("items", "orders", "users", "quotes", "plans", "stock", "routes", "tickets", "invoices", "profiles", "offers", "events")  # fmt: skip
_VERBS = ("list", "find", "create", "update", "check", "reserve", "resolve", "compute", "load", "notify")  # fmt: skip
LANGUAGES = ("java", "python", "go", "node")
STORES = ("postgresql", "redis", "mongodb", "mysql")


@dataclass(frozen=True)
class Step:
    """What one span is made for. `kind` is server, consumer, store or external; a store's or an
    external party's step is a client span of the service that asks. `work` in seconds."""

    service: str
    operation: str
    kind: str
    work: float
    calls: tuple[Call, ...] = ()
    peer: str | None = None
    says: tuple[tuple[str, float], ...] = ()  # ordinary lines and how often


@dataclass(frozen=True)
class Call:
    """`fallback`: how often the caller copes when it fails; `patience`: seconds until it gives up."""

    to: Step
    chance: float
    fallback: float = 0.0
    retry: bool = False
    patience: float = 5.0


@dataclass(frozen=True)
class Pod:
    name: str
    service: str
    node: str
    cluster: str
    version: str


@dataclass(frozen=True)
class Service:
    language: str
    store: str | None
    external: str | None
    grumble: float  # share of requests with a meaningless warning
    fails: float  # share of requests that always fail
    quiet: bool  # logs no errors of its own
    cores: float  # a pod's limit
    memory: float  # bytes, usual
    pool: int
    attribute: tuple[str, tuple[str, ...]] | None


@dataclass(frozen=True)
class System:
    services: dict[str, Service]
    entries: tuple[tuple[Step, float], ...]
    pods: tuple[Pod, ...]
    clients: bool  # callers record client spans
    kinds: bool  # spans say their kind
    traced_logs: bool  # lines carry trace ids
    tracker: bool  # an error tracker is there
    counters: bool  # CPU as a counter of seconds rather than a gauge
    scrape: float  # seconds between samples
    rate: float  # requests a second
    noise: float  # spread of the time steps take (log-normal σ)
    names: dict[str, str] = field(default_factory=dict)  # metric → how this system calls it


def system(rng: Rng) -> System:
    """A system of 3 to 30 services."""
    count = int(rng.choice([3, 5, 8, 12, 16, 22, 30], p=[0.06, 0.12, 0.2, 0.22, 0.18, 0.14, 0.08]))
    names = _names(rng, count)
    services = {name: _service(rng) for name in names}
    entries = _entries(rng, names, services)
    used = _used([step for step, _ in entries])
    services = {name: one for name, one in services.items() if name in used}
    scheme = int(rng.integers(3))
    spans = sum(_size(step) * share for step, share in entries)
    return System(
        services=services,
        entries=entries,
        pods=_pods(rng, services, names[0]),
        clients=bool(rng.random() < 0.65),
        kinds=bool(rng.random() < 0.8),
        traced_logs=bool(rng.random() < 0.85),
        tracker=bool(rng.random() < 0.5),
        counters=bool(rng.random() < 0.4),
        scrape=float(rng.choice([15, 30, 60], p=[0.4, 0.4, 0.2])),
        rate=float(min(np.exp(rng.uniform(np.log(1.0), np.log(5.0))), 18 / spans)),
        noise=float(rng.uniform(0.2, 0.6)),
        names={name: spellings[scheme] for name, spellings in METRICS.items()},
    )


METRICS = {
    "cpu": ("container_cpu_usage", "pod_cpu_millicores", "process_cpu_utilization"),
    "memory": ("container_memory_working_set_bytes", "pod_memory_usage_bytes", "process_resident_memory_bytes"),
    "disk": ("container_fs_usage_ratio", "disk_used_percent", "filesystem_usage"),
    "io": ("container_disk_io_time_ratio", "disk_io_wait_percent", "disk_busy_share"),
    "pool": ("db_pool_connections_in_use", "hikaricp_active_connections", "connection_pool_used"),
    "busy": ("http_requests_in_flight", "server_active_requests", "thread_pool_active_threads"),
    "received": ("container_network_receive_bytes", "pod_network_rx_bytes", "network_receive_rate"),
    "retransmits": ("tcp_retransmits", "network_packet_drops", "tcp_retransmitted_segments"),
    "restarts": ("kube_pod_container_status_restarts", "pod_restarts", "container_restart_count"),
    "node_cpu": ("node_cpu_utilization", "machine_cpu_busy", "host_cpu_usage"),
}  # fmt: skip


def _names(rng: Rng, count: int) -> list[str]:
    found: list[str] = []
    ending = str(rng.choice(_ENDING))
    while len(found) < count:
        name = "".join(rng.choice(_HEAD, int(rng.integers(1, 3)))) + str(rng.choice(_TAIL)) + ending
        if name not in found:
            found.append(name)
    return found


def _service(rng: Rng) -> Service:
    attribute = None
    if rng.random() < 0.4:
        key = str(rng.choice(["tenant", "app.region", "gen_ai.request.model", "feature.variant"]))
        attribute = (key, tuple(f"{rng.choice(_HEAD)}{rng.choice(_TAIL)}-{i}" for i in range(4)))
    return Service(
        language=str(rng.choice(LANGUAGES)),
        store=str(rng.choice(STORES)) if rng.random() < 0.5 else None,
        external=f"api.{rng.choice(_HEAD)}{rng.choice(_TAIL)}.com" if rng.random() < 0.25 else None,
        grumble=float(rng.choice([0.0, 0.01, 0.05])),
        fails=float(rng.choice([0.0, 0.002, 0.01], p=[0.6, 0.3, 0.1])),
        quiet=bool(rng.random() < 0.12),
        cores=float(rng.choice([0.5, 1.0, 2.0])),
        memory=float(rng.uniform(1e8, 1.5e9)),
        pool=int(rng.choice([5, 10, 20, 50])),
        attribute=attribute,
    )


def _entries(
    rng: Rng, names: list[str], services: dict[str, Service]
) -> tuple[tuple[Step, float], ...]:
    """The operations users ask for; services lie in layers and call deeper ones only."""
    layers = 1 + min(4, len(names) // 2)
    layer = {name: 0 if i == 0 else 1 + int(rng.integers(layers)) for i, name in enumerate(names)}
    steps: dict[str, list[Step]] = {}
    for name in sorted(names[1:], key=lambda one: -layer[one]):
        deeper = [step for other in steps for step in steps[other] if layer[other] > layer[name]]
        steps[name] = [
            _step(rng, name, services[name], deeper, "server")
            for _ in range(int(rng.integers(1, 4)))
        ]
    tops = [step for name in names[1:] for step in steps[name] if layer[name] <= 2]
    out = [
        (_step(rng, names[0], services[names[0]], tops, "server"), rng.uniform(0.5, 2))
        for _ in range(int(rng.integers(2, 6)))
    ]
    whole = sum(share for _, share in out)
    return tuple((step, float(share / whole)) for step, share in out)


def _step(rng: Rng, name: str, service: Service, deeper: list[Step], kind: str) -> Step:
    noun, verb = str(rng.choice(_NOUNS)), str(rng.choice(_VERBS))
    operation = str(
        rng.choice([f"GET /{noun}/{verb}", f"{noun.title()}/{verb.title()}", f"{verb}_{noun}"])
    )
    calls: list[Call] = []
    if service.store and rng.random() < 0.8:
        work = float(rng.uniform(0.0006, 0.008))
        store = Step(name, f"{service.store} {verb}", "store", work, peer=service.store)
        calls += [Call(store, 1.0)] * int(rng.integers(1, 3))
    if service.external and rng.random() < 0.8:
        work = float(rng.uniform(0.02, 0.15))
        outside = Step(name, f"POST {service.external}", "external", work, peer=service.external)
        calls.append(
            Call(outside, float(rng.uniform(0.4, 1.0)), fallback=float(rng.choice([0, 0.5])))
        )
    wanted = int(rng.integers(1, 4)) if deeper else 0
    for place in rng.permutation(len(deeper))[:wanted]:
        if _size(deeper[place]) + sum(_size(one.to) for one in calls) > 28:
            continue
        calls.append(
            Call(
                deeper[place],
                float(rng.choice([1.0, 1.0, 0.7, 0.3])),
                fallback=float(rng.choice([0.0, 0.0, 0.0, 0.6])),
                retry=bool(rng.random() < 0.2),
                patience=float(rng.choice([1.0, 3.0, 10.0])),
            )
        )
    says = [
        (f"{verb} {noun} accepted for customer <n>", 0.95),
        (f"{noun} ready, {verb} took <n> ms", 0.9),
    ]
    chosen = tuple(says[: int(rng.choice([1, 2, 2]))])
    return Step(name, operation, kind, float(rng.uniform(0.0008, 0.015)), tuple(calls), says=chosen)


def _size(step: Step) -> int:
    return 1 + sum(_size(call.to) for call in step.calls)


def _used(steps: list[Step]) -> set[str]:
    out: set[str] = set()
    for step in steps:
        out |= {step.service} | _used([call.to for call in step.calls])
    return out


def _pods(rng: Rng, services: dict[str, Service], front: str) -> tuple[Pod, ...]:
    out = []
    clusters = ("north", "south") if rng.random() < 0.25 else ("main",)
    for cluster in clusters:
        nodes = [f"{cluster}-node-{i}" for i in range(int(rng.integers(3, 8)))]
        for name in services:
            count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2])) + (name == front)
            version = f"1.{rng.integers(1, 30)}.0"
            stem = f"{name}-{rng.integers(16**8):08x}"
            for _ in range(count):
                pod = f"{stem}-{rng.integers(16**4):04x}x"
                out.append(Pod(pod, name, str(rng.choice(nodes)), cluster, version))
    return tuple(out)
