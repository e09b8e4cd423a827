"""Stored diagnoses, as `diagnose` printed them."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from lake import Lake, UserError


def newest(lake: Lake) -> dict[str, Any]:
    """The newest diagnosis of all. UserError where there is none."""
    rows = lake.scan("diagnoses").sort("recorded_at").select("answer").tail(1).collect()
    if not rows.height:
        raise UserError("there is no diagnosis yet; `rootlake diagnose` makes one.")
    answer: dict[str, Any] = json.loads(rows["answer"][0])
    return answer


def stored(lake: Lake, incident: str) -> dict[str, Any]:
    """The newest diagnosis of an incident. UserError where there is none."""
    rows = lake.scan("diagnoses").filter(pl.col("incident_id") == incident)
    found = rows.sort("recorded_at").select("answer").collect()["answer"].to_list()
    if found:
        answer: dict[str, Any] = json.loads(found[-1])
        return answer
    known = lake.scan("diagnoses").select("incident_id").unique().collect()["incident_id"]
    raise UserError(
        f"there is no diagnosis of {incident}; "
        + (
            f"there is one of {', '.join(sorted(known))}."
            if len(known)
            else "`rootlake diagnose` makes one."
        )
    )
