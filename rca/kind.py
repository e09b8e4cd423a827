"""Which kind of fault a suspect has: what tells of one kind alone goes before what many cause.

A service's own words come first, then its resources, then the network around it; slowness,
failures and silence say only that something is wrong, and name a kind when nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping

SURE = 0.2  # how loud a resource or the network must be
RESOURCES = (
    "metrics/restarts",
    "metrics/memory",
    "metrics/disk",
    "metrics/capacity",
    "metrics/cpu",
)


def kind(
    parts: Mapping[str, float], faults: Mapping[str, str], said: str | None, *, gauged: bool
) -> str:
    """`parts`: per modality how convinced it is (0 … 1), `faults`: the fault it would name;
    `said`: what the service's own loud lines name; `gauged`: its CPU is measured."""
    if gauged and faults.get("latency") == "cpu":
        faults = {**faults, "latency": "dependency"}
    loudest = max(parts, key=lambda one: parts[one])
    if said and faults[loudest] not in {"network_delay", "network_loss"}:
        return said
    outside = [name for name in ("errors", "latency") if faults.get(name) == "external"]
    if any(parts[name] >= 0.25 * parts[loudest] for name in outside):
        return "external"
    network = max(parts.get("network", 0.0), parts.get("loss", 0.0))
    resources = [name for name in RESOURCES if parts.get(name, 0.0) >= SURE]
    if resources:
        best = max(resources, key=lambda one: parts[one])
        if parts[best] >= 0.6 * network:
            return faults[best]
    if network >= 0.8 * parts[loudest]:
        lost = parts.get("loss", 0.0) > parts.get("network", 0.0)
        dropped = parts.get("metrics/network_loss", 0.0) >= 0.5
        return "network_loss" if dropped else faults["loss"] if lost else "network_delay"
    return said or faults[loudest]
