"""Changes before the onset, ranked by whether they can explain what fails, and how.

A change scores by the services it touches, by what it does (`ANALYSERS`, each a pattern and the
faults it leads to), and a little by when it took effect. The nearest deploy is no evidence by
itself: without a reason in what it does it stays below the threshold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from lake import Lake

EXPLAINS = 0.5  # a change below this explains nothing
UNEXPLAINED = 0.45  # the most for a change of which nothing says how it could lead to the fault
REACH = timedelta(days=10)
SLACK = timedelta(minutes=1)
Row = dict[str, Any]


def short(ref: Any) -> str:
    """A reference as a person reads it: a sha cut, anything else whole."""
    text = str(ref)
    return text[:12] if re.fullmatch("[0-9a-f]{40}", text) else text[:60]


class Analyser(NamedTuple):
    """`pattern` in an added line (+), a removed one (-) or either (±), and what it can cause."""

    name: str
    side: str
    pattern: str
    causes: tuple[str, ...]


_SLOW = ("dependency", "capacity", "exception", "unknown")
ANALYSERS = (
    Analyser("changes a pool's size or a limit", "±", r"(?i)(pool|max)[_-]?(size|conn|connections|open|workers|idle)\w*\s*[:=]|limits?:", (*_SLOW, "config", "cpu", "memory")),
    Analyser("changes or removes a timeout", "±", r"(?i)timeout|deadline", (*_SLOW, "config")),
    Analyser("puts a query inside a loop", "+", r"(?i)^\s+.*\b(query|execute|fetch|select|find|get)\w*\(", (*_SLOW, "cpu")),
    Analyser("drops an index", "+", r"(?i)drop\s+index", (*_SLOW, "disk", "cpu")),
    Analyser("removes an index", "-", r"(?i)create\s+(unique\s+)?index", (*_SLOW, "disk", "cpu")),
    Analyser("changes retries", "±", r"(?i)retr(y|ies)|backoff|attempts", (*_SLOW, "cpu")),
    Analyser("changes a cache or its lifetime", "±", r"(?i)\bttl\b|cache", (*_SLOW, "memory", "cpu")),
    Analyser("changes a dependency's version", "±", r"(?i)^\s*[\w.-]+\s*(==|>=|~=|@|:)\s*v?\d+\.\d+|image:\s*\S+:\S+", (*_SLOW, "memory", "cpu", "wrong_return")),
    Analyser("removes a check for nothing", "-", r"(?i)if .*(is None|== nil|!= nil|is not None|null)", ("exception", "wrong_return")),
    Analyser("raises or returns another way", "±", r"(?i)\braise\b|\bthrow\b|\bpanic\(|\breturn\b", ("exception", "wrong_return")),
    Analyser("changes memory or CPU", "±", r"(?i)memory:|cpu:|-Xmx|GOMEMLIMIT|heap", ("memory", "cpu", "capacity", "config")),
)  # fmt: skip


class Suspect(NamedTuple):
    """What a change must explain: a service, how it fails, on which cluster alone (or None)."""

    service: str
    fault: str
    cluster: str | None
    words: str  # what its evidence says, for matching with what a change says


def candidates(lake: Lake, onset: datetime) -> list[Row]:
    """Changes of the days before the onset; the newest first."""
    rows = lake.scan("changes").filter(
        pl.col("date") >= (onset - REACH).date(),
        pl.col("ts") >= onset - REACH,
        pl.col("ts") <= onset + SLACK,
    )
    return rows.sort("ts", "kind", "ref", descending=True).collect().to_dicts()


def rank(rows: Sequence[Row], suspects: Sequence[Suspect], onset: datetime) -> list[Row]:
    """Changes with `score` and `reasons`, best first, one per (kind, ref, service)."""
    shipped = _shipped(rows)
    scored = [_score(row, suspects, onset, shipped) for row in rows]
    best: dict[tuple[str, str, str], Row] = {}
    for row in scored:
        key = (row["kind"], str(row["ref"]), str(row["service"]))
        if key not in best or row["score"] > best[key]["score"]:
            best[key] = row
    return sorted(best.values(), key=lambda row: (-row["score"], _order(row), str(row["ref"])))


def _order(row: Row) -> int:
    """Among equals the commit, which says what was done, goes before the deploy that shipped it."""
    kinds = ("commit", "config", "flag", "deploy", "scale", "k8s_event")
    return kinds.index(row["kind"]) if row["kind"] in kinds else len(kinds)


def _shipped(rows: Sequence[Row]) -> dict[str, Row]:
    """sha → the deploy that took it out, as the deploy's `after` or `ref` names it."""
    found: dict[str, Row] = {}
    deploys = [row for row in rows if row["kind"] == "deploy"]
    for row in rows:
        if row["kind"] == "commit":
            for deploy in deploys:
                text = f"{deploy['after']} {deploy['ref']} {deploy['message']}"
                if row["ref"][:7] in text:
                    found[row["ref"]] = deploy
    return found


def _score(
    row: Row, suspects: Sequence[Suspect], onset: datetime, shipped: Mapping[str, Row]
) -> Row:
    """One change against the suspects, the first of whom counts most."""
    deploy = shipped.get(row["ref"] or "")
    effect = deploy["ts"] if deploy else row["ts"]
    best, reasons = 0.0, ["no suspect is touched by it"]
    for place, suspect in enumerate(suspects[:3]):
        touched = _touches(row, suspect.service)
        if not touched:
            continue
        acts = _acts(row, suspect)
        same_place = suspect.cluster and row.get("cluster") == suspect.cluster
        other_place = suspect.cluster and row.get("cluster") not in (None, suspect.cluster)
        score = 0.25 + (0.45 if acts else 0.0) + 0.15 * _near(effect, onset)
        score += 0.1 if deploy or row["kind"] in {"config", "flag"} else 0.0
        score += 0.15 if same_place else -0.3 if other_place else 0.0
        score = score if acts else min(score, UNEXPLAINED)
        score *= 1.0 if place == 0 else 0.4
        if score > best:
            best = score
            reasons = _reasons(suspect, acts, deploy, effect, onset, bool(same_place))
    return {
        **row,
        "score": round(min(max(best, 0.0), 0.99), 4),
        "reasons": reasons,
        "effect": effect,
    }


def _touches(row: Row, service: str) -> bool:
    if row["service"] == service:
        return True
    return any(
        re.search(rf"(^|/){re.escape(service)}(/|\.|$)", path) for path in row["files"] or ()
    )


def does(row: Row, fault: str) -> list[str]:
    """What a change does that can lead to a fault; with fault 'any', all that is recognised."""
    if fault not in {"any", "unknown"}:
        return _acts(row, Suspect("", fault, None, ""))
    return [one.name for one in ANALYSERS if _matches(one, _lines(row))]


def _acts(row: Row, suspect: Suspect) -> list[str]:
    """What the change does that can lead to how the suspect fails."""
    if row["kind"] in {"k8s_event", "scale"}:
        return []
    found = [
        one.name for one in ANALYSERS if suspect.fault in one.causes and _matches(one, _lines(row))
    ]
    if row["kind"] in {"deploy", "config"} and _upgrade(row) and suspect.fault != "network_delay":
        found.append(_upgrade(row))
    return found


def _lines(row: Row) -> list[tuple[str, str]]:
    """(sign, text) of the changed lines of code; tests and documents do not run."""
    out: list[tuple[str, str]] = []
    runs = True
    for line in (row["diff"] or "").splitlines():
        if line.startswith("diff --git"):
            runs = not re.search(r"(^|/)(tests?|docs?)/|_test\.|test_|\.md\b", line)
        elif runs and line[:1] in "+-" and not line.startswith(("+++", "---")):
            text = line[1:]
            if text.strip() and not text.strip().startswith(("#", "//", "*")):
                out.append((line[0], text))
    return out


def _matches(one: Analyser, lines: Sequence[tuple[str, str]]) -> bool:
    hits = [(sign, text) for sign, text in lines if re.search(one.pattern, text)]
    if one.side == "±":
        return bool(hits)
    if one.name == "puts a query inside a loop":
        looped = any(sign == "+" and re.search(r"\bfor\b|\bwhile\b", text) for sign, text in lines)
        return looped and any(sign == "+" for sign, _ in hits)
    return any(sign == one.side for sign, _ in hits)


def _upgrade(row: Row) -> str:
    """A runtime or image that was changed for another version, where the change says so."""
    text = f"{row['message'] or ''} {row['before'] or ''} {row['after'] or ''}"
    told = re.search(r"(?i)\b(upgrade|runtime|driver|bump|engine|kernel)\b", text)
    return "changes the runtime or image it runs on" if told else ""


def _near(effect: datetime, onset: datetime) -> float:
    """1 just before the onset, one half after six hours, towards 0; 0 after the onset."""
    if effect > onset + SLACK:
        return 0.0
    hours = max((onset - effect).total_seconds(), 0.0) / 3600
    return 1.0 / (1.0 + hours / 6)


def _reasons(
    suspect: Suspect,
    acts: Sequence[str],
    deploy: Row | None,
    effect: datetime,
    onset: datetime,
    same_place: bool,
) -> list[str]:
    minutes = (onset - effect).total_seconds() / 60
    when = f"{minutes:,.0f} min before the onset" if minutes >= 0 else "after the onset"
    out = [f"touches {suspect.service}"]
    out += [f"it {act}, which can lead to {suspect.fault}" for act in acts]
    out.append(f"{'shipped by ' + str(deploy['ref']) if deploy else 'took effect'} {when}")
    if same_place:
        out.append(f"on {suspect.cluster}, where the fault is")
    if not acts:
        out.append("nothing in it explains how the service fails")
    return out
