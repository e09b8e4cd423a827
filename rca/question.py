"""What is asked of a diagnosis: a time at which something was wrong, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lake import Lake, UserError

Stretch = tuple[datetime, datetime]


@dataclass(frozen=True)
class Question:
    """at         when it was noticed; the fault may have begun minutes before
    service    the service that was seen to fail, if known
    baselines  healthy stretches of time, before or after; none: found from the data
    onset      when it began, if that is known already
    trigger    who asks: an alert by its name, or 'asked'
    """

    at: datetime
    service: str | None = None
    baselines: tuple[Stretch, ...] = ()
    incident_id: str | None = None
    onset: datetime | None = None
    trigger: str = "asked"


def of_incident(lake: Lake, incident: str, baselines: tuple[Stretch, ...] = ()) -> Question:
    """The question an incident in the lake makes. UserError where there is none of that id."""
    rows = lake.scan("incidents").filter(pl.col("incident_id") == incident).collect()
    if not rows.height:
        known = lake.scan("incidents").select("incident_id").collect()["incident_id"].to_list()
        raise UserError(
            f"there is no incident {incident!r}; "
            + (
                f"there are {', '.join(sorted(known))}."
                if known
                else "`rootlake detect` finds them."
            )
        )
    row = rows.row(0, named=True)
    at = max(row["opened_at"], row["onset"])
    return Question(at, row["service"], baselines, incident, row["onset"])


def of_alert(file: str, baselines: tuple[Stretch, ...] = ()) -> Question:
    """The question an alert makes: an Alertmanager payload, or a flat object with service,
    fired_at and the like. UserError where it names no time."""
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the alert {file}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is no alert: it holds no JSON object.")
    alert = _first(found)
    when = alert.get("fired_at") or alert.get("startsAt") or alert.get("at")
    try:
        at = datetime.fromisoformat(str(when))
    except ValueError:
        raise UserError(f"{file} does not say when it fired (fired_at or startsAt).") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    labels = alert.get("labels") or {}
    service = alert.get("service") or labels.get("service") or labels.get("job")
    name = labels.get("alertname") or alert.get("alertname") or alert.get("metric")
    return Question(at, service, baselines, trigger=f"alert {name}" if name else "alert")


def _first(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first firing alert of an Alertmanager payload, or the flat object itself."""
    alerts = payload.get("alerts")
    if not isinstance(alerts, list) or not alerts:
        return payload
    firing = [one for one in alerts if one.get("status") == "firing"]
    return {"labels": payload.get("commonLabels") or {}, **(firing or alerts)[0]}
