"""How sure a diagnosis may be, by code.

The confidence is the chance that the first suspect is a true cause: a logistic regression on a
few signals, fitted on generated incidents and healthy stretches (`python -m bench.rca fit`),
each judged by coefficients found without it; `calibration.json` keeps what came out, from how
many, and the error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import polars as pl

from rca import fuse, graph
from rca.facts import Facts

CONFIRMED, LIKELY = 0.93, 0.5
EQUAL = 0.002  # less of a lead is none
RIVAL = 0.25  # from this blame on a later suspect may as well be the cause:
BESIDE = 0.9  # so sure at most is what is said of the first then
AGREES = 0.3  # how loud a further kind of telemetry must be to count as agreeing
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


@cache
def calibration() -> dict[str, Any]:
    """The fitted coefficients by the name of their signal, `base`, and how they were made."""
    text = files("rca").joinpath("calibration.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def signals(ranked: pl.DataFrame, found: pl.DataFrame) -> dict[str, float]:
    """What the confidence is made from: how loud the first suspect is (as log-odds), how far
    ahead of the second, how many kinds of telemetry speak against it."""
    if not ranked.height:
        return {}
    first, second = [*ranked["total"].to_list(), 0.0][:2]
    parts = fuse.loudness(found.filter(pl.col("service") == ranked["service"][0]))["part"]
    safe = min(max(first, 0.01), 0.99)
    return {
        "loud": math.log(safe / (1 - safe)),
        "lead": max(first - second, 0.0),
        "agree": float(min((parts >= AGREES).sum(), 3)),
    }


def confidence(given: Mapping[str, float], healthy: int) -> float:
    """Between 0 and 1; capped where little healthy time (`healthy` requests) was compared with."""
    if not given:
        return 0.0
    fitted = calibration()
    line = fitted["base"] + sum(fitted["weights"][name] * value for name, value in given.items())
    cap = 0.99 if healthy >= 100 else 0.8 if healthy >= 30 else 0.45
    return round(min(1 / (1 + math.exp(-line)), cap), 3)


def most(seen: Facts, ranked: pl.DataFrame) -> float:
    """The confidence that may be had at most where who calls whom is not known, chance decides who
    comes first, or another is clearly wrong as well."""
    if len(tied(ranked)) < 2:
        return BESIDE if rivals(ranked) else 1.0
    return 0.8 if graph.linked(seen.spans) else 0.45


def tied(ranked: pl.DataFrame) -> list[str]:
    """The services with as much blame as the first, itself among them."""
    return ranked.filter(pl.col("total") > pl.col("total").max() - EQUAL)["service"].to_list()


def rivals(ranked: pl.DataFrame) -> list[str]:
    """The services behind the first that are clearly wrong by themselves."""
    return ranked.slice(1).filter(pl.col("total") >= RIVAL)["service"].to_list()


def doubts(seen: Facts, ranked: pl.DataFrame) -> list[str]:
    """What keeps the answer from being surer, for `missing`."""
    out = []
    if not graph.linked(seen.spans):
        out.append("no parent of any span: who calls whom is not known")
    same = tied(ranked)
    if len(same) > 1:
        more = f" and {len(same) - 3} more" if len(same) > 3 else ""
        out.append(f"nothing that tells {', '.join(same[:3])}{more} apart: they are as suspect")
    elif others := rivals(ranked):
        named = ", ".join(others[:3])
        out.append(f"whether {named} fails for the same cause: much speaks against it as well")
    return out


def verdict(value: float) -> str:
    """confirmed, likely or inconclusive."""
    return "confirmed" if value >= CONFIRMED else "likely" if value >= LIKELY else "inconclusive"


def remediation(fault: str, change: str | None) -> str:
    """What usually undoes such a cause."""
    return REVERT.get(change or "", REMEDY.get(fault, "none"))
