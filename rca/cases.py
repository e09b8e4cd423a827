"""Solved incidents, remembered: added, listed, shown, and found again by likeness."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from lake import TABLES, Lake, UserError, empty

Row = dict[str, Any]


def remember(
    lake: Lake,
    answer: Mapping[str, Any],
    outcome: str | None = None,
    *,
    verified: bool = False,
    now: datetime | None = None,
) -> Row:
    """Keep a diagnosis as a case; remembering an incident again brings its case up to date."""
    first = answer["suspects"][0] if answer["suspects"] else {}
    change = answer["root_cause_change"] or {}
    cited = [one["claim"] for one in answer["evidence"] if one["id"] in first.get("evidence", ())]
    row = {
        "case_id": case_id(answer["incident_id"]),
        "title": answer.get("summary") or answer["incident_id"],
        "symptoms": "; ".join(cited),
        "signature": json.dumps(
            {
                "service": first.get("service"),
                "fault": first.get("fault"),
                "attribute": first.get("attribute"),
                "change": change.get("kind"),
                "blast_radius": answer["blast_radius"],
            }
        ),
        "root_cause": " ".join(
            filter(None, [first.get("service"), first.get("fault"), change.get("ref")])
        ),
        "fix": answer["remediation"],
        "outcome": outcome,
        "verified": verified,
        "sources": [one["id"] for one in answer["evidence"]],
        "incident_id": answer["incident_id"],
        "created_at": now or datetime.now(UTC),
    }
    fresh = pl.DataFrame([row], schema=empty(TABLES["cases"]).schema)

    def merge(known: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([known.filter(pl.col("case_id") != row["case_id"]), fresh])

    lake.update("cases", merge)
    return row


def case_id(incident: str) -> str:
    """A case's id: the same for the same incident."""
    return "CASE-" + hashlib.blake2b(incident.encode(), digest_size=4).hexdigest()


def list_cases(lake: Lake) -> list[Row]:
    """Every case, the newest first."""
    return lake.read("cases").sort("created_at", descending=True).to_dicts()


def show(lake: Lake, case: str) -> Row:
    """One case by its id or its incident's. UserError where there is none."""
    rows = lake.read("cases").filter((pl.col("case_id") == case) | (pl.col("incident_id") == case))
    if not rows.height:
        raise UserError(f"there is no case {case!r}; `rootlake cases list` shows them all.")
    return rows.row(0, named=True)


def search(lake: Lake, text: str, most: int = 5) -> list[Row]:
    """Cases by likeness to a text, the best first: cosine of their words' TF-IDF weights."""
    cases = list_cases(lake)
    documents = [
        _words(f"{one['title']} {one['symptoms']} {one['signature']} {one['outcome']}")
        for one in cases
    ]
    asked = _words(text)
    weights = _rarity([*documents, asked])
    scored = [
        {**one, "score": round(_cosine(asked, words, weights), 3)}
        for one, words in zip(cases, documents, strict=True)
    ]
    return sorted((one for one in scored if one["score"] > 0), key=lambda one: -one["score"])[:most]


def _words(text: str) -> Counter[str]:
    return Counter(
        word for word in re.findall(r"[a-z][a-z0-9-]{2,}", text.lower().replace("_", " "))
    )


def _rarity(documents: Sequence[Counter[str]]) -> dict[str, float]:
    """A word's weight: the rarer among the documents, the more it tells."""
    seen = Counter(word for words in documents for word in words)
    return {word: math.log(1 + len(documents) / count) for word, count in seen.items()}


def _cosine(one: Counter[str], other: Counter[str], weights: Mapping[str, float]) -> float:
    dot = sum(one[word] * other[word] * weights[word] ** 2 for word in one)
    sizes = [math.sqrt(sum((words[w] * weights[w]) ** 2 for w in words)) for words in (one, other)]
    return dot / (sizes[0] * sizes[1]) if all(sizes) else 0.0
