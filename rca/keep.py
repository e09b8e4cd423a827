"""Diagnoses and incidents in the lake: their names, how they are kept and recalled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake import TABLES, Lake, empty

LASTS = timedelta(minutes=10)  # a question this long after an onset is about that incident


def incident_at(lake: Lake, at: datetime) -> str | None:
    """The incident on record that was going on at a time, the latest if there are several."""
    rows = lake.read("incidents").filter(
        pl.col("onset") - timedelta(minutes=2) <= at,
        pl.max_horizontal("closed_at", pl.col("onset") + LASTS) >= at,
    )
    return str(rows.sort("onset", "incident_id")["incident_id"][-1]) if rows.height else None


def name_of(at: datetime) -> str:
    """A new incident's id: its minute."""
    return f"INC-{at:%Y%m%d-%H%M}"


def store(lake: Lake, answer: Mapping[str, Any], now: datetime, trigger: str = "asked") -> bool:
    """Add the diagnosis to `diagnoses`, and its incident to `incidents` if it is new; False, and
    nothing is, where these are not ours to write."""
    if not all(lake.writable(name) for name in ("diagnoses", "incidents")):
        return False
    moment = pl.Series([now]).cast(pl.Datetime("us", "UTC"))
    row = {
        "incident_id": answer["incident_id"],
        "run_id": f"diagnose-{now:%Y%m%dT%H%M%S.%f}",
        "model": answer["model"],
        "verdict": answer["verdict"],
        "confidence": float(answer["confidence"]),
        **{
            key: json.dumps(answer[key], ensure_ascii=False)
            for key in ("suspects", "evidence", "propagation", "ruled_out", "missing")
        },
        "cost": json.dumps({"model_calls": 0, "tokens": 0}),
        "duration_ms": int(answer["duration_ms"]),
        "answer": json.dumps(answer, ensure_ascii=False),
    }
    frame = pl.DataFrame([row]).with_columns(recorded_at=moment)
    lake.append("diagnoses", frame.select(TABLES["diagnoses"].schema.names))
    _add_incident(lake, answer, trigger)
    return True


def _add_incident(lake: Lake, answer: Mapping[str, Any], trigger: str) -> None:
    first = answer["suspects"][0]["service"] if answer["suspects"] else None
    row = {
        "incident_id": answer["incident_id"],
        "opened_at": datetime.fromisoformat(answer["at"]),
        "onset": datetime.fromisoformat(answer["onset"]),
        "closed_at": None,
        "trigger": trigger,
        "service": first,
        "severity": "unknown",
        "status": "open",
        "labels": [],
    }
    add_incidents(lake, [row])


def add_incidents(lake: Lake, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add incidents that are not known by their id; of known ones that are open still, say when
    they closed."""
    schema = empty(TABLES["incidents"]).schema
    plain = {**schema, "labels": pl.List(pl.Struct({"key": pl.String, "value": pl.String}))}
    fresh = pl.DataFrame(rows, schema=plain).with_columns(
        pl.col("labels").cast(pl.Map(pl.String, pl.String))
    )

    def merge(known: pl.DataFrame) -> pl.DataFrame:
        over = fresh.filter(pl.col("status") == "closed").select("incident_id", over="closed_at")
        kept = known.join(over, on="incident_id", how="left", maintain_order="left")
        closes = pl.col("closed_at").is_null() & pl.col("over").is_not_null()
        kept = kept.with_columns(
            closed_at=pl.coalesce("closed_at", "over"),
            status=pl.when(closes).then(pl.lit("closed")).otherwise("status"),
        ).drop("over")
        return pl.concat([kept, fresh.join(known, on="incident_id", how="anti")])

    lake.update("incidents", merge)


def known_as(
    lake: Lake, rows: Sequence[Mapping[str, Any]], near: Mapping[str, set[str]]
) -> list[Mapping[str, Any]]:
    """The rows under the id of the incident on record that they go on with, where there is one:
    at the same time, of one of its services, of one that calls or is called by one (`near`), or
    of none in particular. Data that came late may move an onset; it opens nothing anew."""
    held = lake.read("incidents").to_dicts()
    out: list[Mapping[str, Any]] = []
    for row in rows:
        known = [one["incident_id"] for one in held if _same(one, row, near)]
        out.append({**row, "incident_id": [*known, row["incident_id"]][0]})
    return out


def _same(held: Mapping[str, Any], row: Mapping[str, Any], near: Mapping[str, set[str]]) -> bool:
    first, last = (one["closed_at"] or one["onset"] + LASTS for one in (held, row))
    mine = _services(held)
    around = mine.union(*(near.get(one, set()) for one in mine))
    together = held["onset"] <= last and row["onset"] <= first
    return together and (held["service"] is None or bool(around & _services(row)))


def _services(row: Mapping[str, Any]) -> set[str]:
    labels = row["labels"] or []
    pairs = (
        labels.items() if isinstance(labels, Mapping) else ((x["key"], x["value"]) for x in labels)
    )
    listed = dict(pairs).get("services", "").split(", ")
    return {one for one in (*listed, row["service"]) if one}


def similar(
    lake: Lake, fault: str, listed: Sequence[Mapping[str, Any]], incident: str
) -> list[dict[str, Any]]:
    """Remembered cases of the same kind of fault, the same service first."""
    cases = lake.read("cases").filter(pl.col("incident_id").fill_null("") != incident)
    if not cases.height or not listed:
        return []
    service = listed[0]["service"]
    scored = [
        {
            "case_id": row["case_id"],
            "title": row["title"],
            "score": round(
                0.5 * (fault in str(row["signature"])) + 0.4 * (service in str(row["signature"])), 2
            ),
        }
        for row in cases.to_dicts()
    ]
    return sorted(
        [one for one in scored if one["score"] > 0], key=lambda one: (-one["score"], one["case_id"])
    )[:3]
