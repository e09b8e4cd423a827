"""How sure a diagnosis may be, by code."""

from __future__ import annotations

CONFIRMED, LIKELY = 0.85, 0.5
REMEDY = {
    "network_delay": "reschedule",
    "network_loss": "reschedule",
    "cpu": "restart",
    "memory": "restart",
    "disk": "purge-bad-data",
    "capacity": "scale",
    "external": "escalate-upstream",
    "exception": "rollback",
    "wrong_return": "rollback",
    "config": "config-revert",
    "dependency": "restart",
    "unknown": "none",
}
REVERT = {
    "commit": "rollback",
    "deploy": "rollback",
    "config": "config-revert",
    "flag": "feature-flag-disable",
}


def confidence(
    first: float, second: float, *, modalities: int, explained: bool, healthy: int
) -> float:
    """Between 0 and 1: how loud the first suspect is, how far ahead of the second, how many kinds
    of telemetry agree, whether a change explains it; capped when there is little healthy time."""
    lead = max(first - second, 0.0)
    value = 0.55 * first + 0.25 * min(lead / 0.3, 1.0) + 0.1 * min(modalities / 3, 1.0)
    value += 0.1 if explained else 0.0
    cap = 0.95 if healthy >= 200 else 0.8 if healthy >= 30 else 0.45
    return round(min(value, cap), 3)


def verdict(value: float) -> str:
    """confirmed, likely or inconclusive."""
    return "confirmed" if value >= CONFIRMED else "likely" if value >= LIKELY else "inconclusive"


def remediation(fault: str, change: str | None) -> str:
    """What usually undoes such a cause."""
    return REVERT.get(change or "", REMEDY.get(fault, "none"))
