"""The incidents: what is wrong, when, and what else happens around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True)
class Fault:
    """What goes wrong from `onset` on.

    kind      'pool' (a store's pool shrinks to `size`, each order asks `queries` times),
              'network' (`delay` s on the way to a service in one cluster),
              'model' (one model takes `factor` times as long on one cluster),
              'none' (a healthy stretch)
    """

    kind: str
    service: str
    onset: datetime
    cluster: str | None = None
    size: int = 0
    queries: int = 1
    delay: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True)
class Deploy:
    """A release that went out; `commit` names the commit it ships by its subject."""

    at: datetime
    service: str
    version: str
    commit: str
    author: str
    cluster: str | None = None
    message: str = ""


@dataclass(frozen=True)
class Scenario:
    """Half an hour of the shop's life."""

    name: str
    start: datetime
    minutes: int
    rate: float  # requests a second
    fault: Fault
    deploys: tuple[Deploy, ...] = ()
    flags: tuple[tuple[datetime, str, str, str, str], ...] = ()  # at, flag, service, before, after
    surge: float = 1.0  # from the onset on, times the rate
    truth: dict[str, object] = field(default_factory=dict)


def _at(day: int, clock: str) -> datetime:
    hours, minutes = clock.split(":")
    return datetime(2025, 3, day, int(hours), int(minutes), tzinfo=UTC)


BAD_COMMIT = "inventory: read stock line by line, free connections for the reports job"
RUNTIME = "deploy(us-1): llm runtime 0.7.0 for llm-gateway"

STORY = (
    Scenario(
        "bad-commit",
        _at(11, "13:42"),
        32,
        1.1,
        Fault("pool", "inventory", _at(11, "14:05"), size=1, queries=9),
        deploys=(
            Deploy(_at(11, "13:36"), "inventory", "2.5.0", BAD_COMMIT, "mila"),
            Deploy(_at(11, "14:01"), "shipping", "1.6.1", "shipping: clearer log lines", "jonas"),
        ),
        flags=((_at(11, "14:03"), "spring-banner", "frontend", "off", "on"),),
        surge=1.7,
        truth={
            "at": "2025-03-11T14:08:00Z",
            "service": "inventory",
            "fault": "capacity",
            "change": {"kind": "commit", "subject": BAD_COMMIT, "also": []},
            "decoys": ["shipping@1.6.1", "spring-banner"],
            "remediation": "rollback",
            "symptom": "checkout",
        },
    ),
    Scenario(
        "network-delay",
        _at(12, "08:58"),
        30,
        1.1,
        Fault("network", "cart", _at(12, "09:20"), cluster="eu-1", delay=0.22),
        deploys=(
            Deploy(_at(12, "09:06"), "pricing", "1.8.5", "pricing: round half even", "amira"),
            Deploy(_at(12, "08:30"), "cart", "1.14.3", "cart: document the item limit", "lin"),
        ),
        truth={
            "at": "2025-03-12T09:23:00Z",
            "service": "cart",
            "fault": "network_delay",
            "change": None,
            "decoys": ["pricing@1.8.5", "cart@1.14.3"],
            "remediation": "reschedule",
            "symptom": "checkout",
        },
    ),
    Scenario(
        "runtime-upgrade",
        _at(13, "16:08"),
        30,
        1.1,
        Fault("model", "llm-gateway", _at(13, "16:30"), cluster="us-1", factor=6.0),
        deploys=(
            Deploy(
                _at(13, "16:24"),
                "llm-gateway",
                "0.9.0-rt0.7.0",
                RUNTIME,
                "tomasz",
                "us-1",
                "llm runtime upgrade 0.6.3 to 0.7.0",
            ),
            Deploy(
                _at(13, "16:27"), "frontend", "4.18.1", "frontend: lazy-load hero image", "noor"
            ),
        ),
        truth={
            "at": "2025-03-13T16:33:00Z",
            "service": "llm-gateway",
            "fault": "dependency",
            "attribute": "gen_ai.request.model = aurora-2-large-20250301 on us-1",
            "change": {
                "kind": "deploy",
                "subject": RUNTIME,
                "also": ["llm-gateway@0.9.0-rt0.7.0", "llm-gateway@13"],
            },
            "decoys": ["frontend@4.18.1"],
            "remediation": "rollback",
            "symptom": "frontend",
        },
    ),
)
