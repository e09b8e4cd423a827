"""What can go wrong: a fault of some kind, on part of a service, from its onset on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.incidents.system import Pod, Rng, Step, System

KINDS = (
    "cpu", "memory", "network_delay", "network_loss", "disk", "exception", "wrong_return",
    "config", "dependency", "capacity", "external",
)  # fmt: skip
TOLD = {  # what the service itself logs, by manner; the last of each says little
    "exception": ("{x} while handling request <n>: {y}", "Unhandled {x}: {y}", "request <n> failed unexpectedly: {y}"),
    "config": ("missing configuration key {k}", "invalid value for setting {k}, refusing request", "environment variable {k} is not set", "authentication failed: credentials for {k} rejected"),
    "memory": ("java.lang.OutOfMemoryError: Java heap space", "process killed: out of memory", "GC overhead: paused <n> ms"),
    "disk": ("write failed: no space left on device", "I/O error while flushing segment <n>", "slow flush: took <n> ms"),
    "capacity": ("connection pool exhausted: waited <n> ms, size=<n>", "too many connections, request rejected", "worker queue full, dropping request <n>"),
    "dependency": ("slow query: took <n> ms", "method not found in driver version <n>", "statement cache disabled by driver, took <n> ms"),
    "external": ("provider {p} answered 503", "call to {p} timed out after <n> ms", "certificate of {p} expired"),
}  # fmt: skip
_THROWN = {
    "java": ("java.lang.NullPointerException", "IllegalStateException", "ClassCastException"),
    "python": ("TypeError", "KeyError", "AttributeError"),
    "go": ("panic: runtime error", "nil pointer dereference", "index out of range"),
    "node": ("TypeError: undefined", "RangeError", "UnhandledPromiseRejection"),
}


@dataclass(frozen=True)
class Fault:
    """level    service, pod, node, cluster, operation or attribute: what part is touched
    pods     the pods touched (indices into the system's)
    share    of what is touched, how often it shows
    size     how much: a factor or seconds, by kind
    """

    kind: str
    service: str
    onset: float
    level: str
    value: str
    pods: np.ndarray
    share: float
    size: float
    ramp: float
    both_ways: bool
    fails: bool  # it also makes requests fail, where the kind may or may not
    thrown: str
    line: str | None
    surge: float = 1.0
    restarts: tuple[float, ...] = ()
    services: tuple[str, ...] = field(default=())  # right answers, more than one for a node


def draw(rng: Rng, system: System, onset: float, taken: tuple[str, ...] = ()) -> Fault:
    """A fault of a random kind on a random service on which it can show."""
    while True:
        kind = str(rng.choice(KINDS))
        able = [name for name in system.services if name not in taken and _can(system, name, kind)]
        if able:
            return _fault(rng, system, kind, str(rng.choice(able)), onset)


def asked(system: System) -> dict[str, float]:
    """How often each service takes part in a request."""
    out: dict[str, float] = {}

    def walk(step: Step, chance: float) -> None:
        if step.kind == "server":
            out[step.service] = out.get(step.service, 0.0) + chance
        for call in step.calls:
            walk(call.to, chance * call.chance)

    for step, share in system.entries:
        walk(step, share)
    return out


def _can(system: System, name: str, kind: str) -> bool:
    if asked(system).get(name, 0.0) * system.rate < 0.15:
        return False  # so rarely asked that nobody would notice
    front = system.entries[0][0].service
    if kind == "external":
        return any(step.kind == "external" and step.service == name for step in steps(system))
    return not (name == front and kind.startswith("network"))


def steps(system: System) -> list[Step]:
    """Every distinct step of every request."""
    seen: dict[int, Step] = {}

    def walk(step: Step) -> None:
        seen[id(step)] = step
        for call in step.calls:
            walk(call.to)

    for step, _ in system.entries:
        walk(step)
    return list(seen.values())


def _fault(rng: Rng, system: System, kind: str, name: str, onset: float) -> Fault:
    level, value, pods, services = _part(rng, system, kind, name)
    language = system.services[name].language
    told = TOLD.get(kind)
    line = str(rng.choice(told)) if told and rng.random() < 0.85 else None
    if kind in {"exception", "config"} and line is None and told:
        line = told[0]
    words = {
        "x": str(rng.choice(_THROWN[language])),
        "y": str(
            rng.choice(["cannot read field", "value is null", "unexpected state", "bad index"])
        ),
        "k": str(
            rng.choice(["DB_URL", "payment.timeout", "cache.hosts", "API_TOKEN", "feature.limits"])
        ),
        "p": system.services[name].external or "",
    }
    size = {
        "cpu": rng.uniform(2.0, 8.0),
        "memory": rng.uniform(0.08, 0.6),
        "network_delay": np.exp(rng.uniform(np.log(0.015), np.log(0.5))),
        "network_loss": rng.uniform(0.1, 0.4),
        "disk": np.exp(rng.uniform(np.log(0.03), np.log(0.4))),
        "dependency": np.exp(rng.uniform(np.log(4), np.log(25))),
        "capacity": rng.uniform(0.15, 1.5),
        "external": np.exp(rng.uniform(np.log(4), np.log(30))),
    }.get(kind, 1.0)
    partial = kind in {"exception", "wrong_return", "config", "dependency"}
    share = float(rng.choice([0.3, 0.6, 1.0])) if partial else 1.0
    restarts = (onset + 60.0, onset + 190.0) if kind == "memory" and rng.random() < 0.5 else ()
    return Fault(
        kind, name, onset, level, value, pods, share, float(size),
        ramp=float(rng.choice([1.0, 30.0, 60.0])) if kind in {"cpu", "memory", "disk", "capacity"} else 1.0,
        both_ways=bool(rng.random() < 0.5),
        fails=bool(rng.random() < (0.7 if kind in {"external", "capacity"} else 0.4)),
        thrown=words["x"],
        line=line.format(**words) if line else None,
        surge=float(rng.uniform(1.6, 3.0)) if kind == "capacity" and rng.random() < 0.4 else 1.0,
        restarts=restarts,
        services=services,
    )  # fmt: skip


def _part(
    rng: Rng, system: System, kind: str, name: str
) -> tuple[str, str, np.ndarray, tuple[str, ...]]:
    """Which part of a service is touched: all of it, a pod, a node's pods, a cluster, …"""
    mine = [i for i, pod in enumerate(system.pods) if pod.service == name]
    clusters = sorted({system.pods[i].cluster for i in mine})
    choices = ["service", "service", "service"]
    if len(mine) > 1 and kind not in {"external", "capacity"}:
        choices += ["pod"]
    if kind in {"cpu", "network_delay", "network_loss"} and rng.random() < 0.25:
        choices += ["node"] * 3
    if len(clusters) > 1:
        choices += ["cluster"]
    trait = system.services[name].attribute
    if trait and kind in {"exception", "wrong_return", "dependency"}:
        choices += ["attribute", "attribute"]
    level = str(rng.choice(choices))
    if level == "pod":
        place = int(rng.choice(mine))
        return level, system.pods[place].name, np.array([place]), (name,)
    if level == "node":
        return _node(system, system.pods[int(rng.choice(mine))])
    if level == "cluster":
        cluster = str(rng.choice(clusters))
        return (
            level,
            cluster,
            np.array([i for i in mine if system.pods[i].cluster == cluster]),
            (name,),
        )
    if level == "attribute" and trait:
        return level, f"{trait[0]} = {trait[1][0]}", np.array(mine), (name,)
    return "service", name, np.array(mine), (name,)


def _node(system: System, pod: Pod) -> tuple[str, str, np.ndarray, tuple[str, ...]]:
    there = [i for i, one in enumerate(system.pods) if one.node == pod.node]
    names = tuple(dict.fromkeys([pod.service, *(system.pods[i].service for i in there)]))
    return "node", pod.node, np.array(there), names
