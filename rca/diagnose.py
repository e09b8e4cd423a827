"""`diagnose`: from a time at which something was wrong to a ranked, evidenced root cause.

No model and no key: suspects from each kind of telemetry, fused; the changes before the onset;
every claim with the query that shows it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from lake import Lake
from rca import changes, claims, facts, fuse, graph, keep, kind, missing, verdict, window
from rca.changes import failing, without
from rca.evidence import Ledger, check, stamp
from rca.facts import Facts, Source
from rca.pod import pod
from rca.question import Question, Stretch
from rca.snapshot import Snapshot
from rca.suspects import (
    SCHEMA,
    alone,
    attributes,
    failures,
    latency,
    logs,
    metrics,
    network,
    untraced,
    words,
)

SHOWN = 5  # suspects and changes in an answer
SURELY = 0.5  # the blame from which a service is wrong enough to explain what was seen
HALF = 0.5  # how loud a first look must be that the time before it needs none of its own
FAINT = 0.02  # a later suspect with less than this says nothing
NOTHING = "nothing in the telemetry of this time differs from healthy time"
UNCOMPARED = (
    "there is no healthy time to compare with (--baseline FROM/TO names some): nobody is blamed"
)
UNKEPT = "this answer is not kept in the lake, which cannot be written to from here"
Row = dict[str, Any]


def diagnose(lake: Lake, question: Question, now: datetime | None = None) -> Row:
    """The answer, as `rootlake diagnose --json` prints it; it is kept in `diagnoses`, unless the
    lake is not ours to write, which stands in `missing`.

    Raises UserError when there is no telemetry at the time asked for.
    """
    began = time.perf_counter()
    still = Snapshot(lake)
    seen, found = look(still, question)
    ranked = _ranked(seen, found, question)
    onset = question.onset or _onset(seen, found, ranked) or seen.window[0]
    with Ledger(still) as ledger:
        answer = _answer(still, ledger, question, seen, found, ranked, onset)
    answer["duration_ms"] = round((time.perf_counter() - began) * 1000)
    check(answer)
    if not keep.store(lake, answer, now or datetime.now(UTC), question.trigger):
        answer["missing"].append(UNKEPT)
    return answer


def look(lake: Lake, question: Question) -> tuple[Facts, pl.DataFrame]:
    """The facts and what speaks against each service; looked at again from the onset when that
    lies well before the window of the first look."""
    stretch = window.first_look(question)
    window.require_telemetry(lake, stretch)
    source = facts.Source(lake, *window.reach(question), near=stretch)
    seen, found = _look(source, question, stretch)
    if question.onset is None:
        wide = window.wider(question, stretch)
        context = facts.load(source, wide, window.healthy(question, wide), pods=False)
        told = found if _loudest(found) >= HALF else max(found, suspects(context), key=_loudest)
        began = _onset(context, told, _ranked(seen, told, question))
        if began and began < stretch[0]:
            return _look(source, question, (began, stretch[1]))
    return seen, found


def _loudest(found: pl.DataFrame) -> float:
    return max(fuse.loudness(found)["part"].to_list(), default=0.0)


def _look(source: Source, question: Question, stretch: Stretch) -> tuple[Facts, pl.DataFrame]:
    seen = facts.load(source, stretch, window.healthy(question, stretch))
    return seen, suspects(seen)


def suspects(seen: Facts) -> pl.DataFrame:
    """What each modality says against each service (rca.suspects.SCHEMA)."""
    bare = network.bare(seen.spans)
    return pl.concat(
        [
            network.score(seen.spans, bare),
            latency.score(network.relieved(seen.spans, bare)),
            failures.score(seen.spans),
            logs.score(seen.logs, seen.spans),
            untraced.score(seen.logs, seen.spans),
            metrics.score(seen.samples),
            alone.score(seen),
        ]
    )


def _ranked(seen: Facts, found: pl.DataFrame, question: Question) -> pl.DataFrame:
    """Services by their blame. Of two faults at once the one `question.service` stands on: when it
    does not call one of the firsts, but something that is surely wrong too, it is about that."""
    ranked = fuse.fuse(found) if found.height else fuse.fuse(pl.DataFrame(schema=SCHEMA))
    if question.service is None or not ranked.height:
        return ranked
    below = graph.behind(seen.spans, question.service)
    mine = ranked.filter(pl.col("service").is_in(below))
    elsewhere = not below.issuperset(verdict.tied(ranked))
    return mine if elsewhere and mine.height and mine["total"][0] >= SURELY else ranked


def _onset(seen: Facts, found: pl.DataFrame, ranked: pl.DataFrame) -> datetime | None:
    """When the loudest finding against the first suspect began."""
    if not ranked.height:
        return None
    first = ranked.row(0, named=True)
    row = found.filter(
        pl.col("service") == first["service"], pl.col("modality") == first["modality"]
    ).row(0, named=True)
    began = window.onset_of(seen, row)
    return began if began and seen.window[0] <= began < seen.window[1] else None


def _answer(
    lake: Lake,
    ledger: Ledger,
    question: Question,
    seen: Facts,
    found: pl.DataFrame,
    ranked: pl.DataFrame,
    onset: datetime,
) -> Row:
    when = claims.Stretches(seen.window, seen.baselines, busy=seen.thinned)
    listed = _suspects(ledger, when, seen, found, ranked)
    trait = _trait(lake, ledger, when, seen, listed)
    asked = _asked(lake, seen, listed, trait)
    ordered = changes.rank(changes.candidates(lake, onset), asked, onset)
    culprit = ordered[0] if ordered and ordered[0]["score"] >= changes.EXPLAINS else None
    shown_changes = [
        _change(ledger, row, place) for place, row in enumerate(_worth_showing(ordered, onset), 1)
    ]
    other = without.other(lake, seen, asked[0], _pairs(trait)) if asked and not culprit else None
    edges = graph.hurt(seen)
    path = _propagation(lake, ledger, when, edges, listed)
    signals = verdict.signals(ranked, found)
    sure = min(verdict.confidence(signals, _healthy(seen)), verdict.most(seen, ranked))
    fault = listed[0]["fault"] if listed else "unknown"
    incident = question.incident_id or keep.incident_at(lake, question.at)
    incident = incident or keep.name_of(question.at)
    return {
        "incident_id": incident,
        "at": stamp(question.at),
        "onset": stamp(onset),
        "verdict": verdict.verdict(sure),
        "confidence": sure,
        "signals": {name: round(value, 4) for name, value in signals.items()},
        "summary": _summary(seen, listed, culprit, trait, other),
        "suspects": listed,
        "root_cause_change": shown_changes[0] if culprit and shown_changes else None,
        "other_cause": other._asdict() if other else None,
        "changes": shown_changes,
        "propagation": path,
        "blast_radius": list(dict.fromkeys(step["to"] for step in path)),
        "remediation": verdict.remediation(fault, culprit["kind"] if culprit else None),
        "ruled_out": _ruled_out(ledger, when, ranked, path),
        "missing": missing.missing(seen, question.service) + verdict.doubts(seen, ranked),
        "sampled": list(seen.sampled),
        "watermarks": missing.watermarks(lake),
        "window": [stamp(seen.window[0]), stamp(seen.window[1])],
        "baselines": [[stamp(start), stamp(end)] for start, end in seen.baselines],
        "evidence": ledger.entries,
        "similar_cases": keep.similar(lake, fault, listed, incident),
        "model": "offline",
    }


def _suspects(
    ledger: Ledger, when: claims.Stretches, seen: Facts, found: pl.DataFrame, ranked: pl.DataFrame
) -> list[Row]:
    """The first suspects with the evidence of each modality that speaks loudly enough."""
    if not ranked.height:
        return []
    texts = dict(seen.logs.select("template_id", "template").unique("template_id").rows())
    out = []
    worth = ranked.head(1).vstack(ranked.slice(1, SHOWN - 1).filter(pl.col("total") >= FAINT))
    for place, row in enumerate(worth.to_dicts(), 1):
        mine = found.filter(pl.col("service") == row["service"]).to_dicts()
        loud = [one for one in mine if _loudness(one) >= 0.2]
        best = next(one for one in mine if one["modality"] == row["modality"])
        chosen = [best, *(one for one in loud if one is not best)] if place <= 3 else [best]
        cited = [
            claims.finding(ledger, when, {**one, "text": texts.get(one["subject"])})
            for one in chosen[:4]
        ]
        if place == 1 and seen.errors.height:
            cited += [name for name in [claims.sentry(ledger, when, row["service"])] if name]
        out.append(
            {
                "rank": place,
                "service": row["service"],
                "pod": pod(seen, found, row["service"]),
                "fault": fault_of(seen, found, row["service"]),
                "score": round(row["total"], 6),
                "evidence": cited,
            }
        )
    return out


def fault_of(seen: Facts, found: pl.DataFrame, service: str) -> str:
    """The kind of fault that what speaks against a service tells of."""
    mine = fuse.loudness(found.filter(pl.col("service") == service))
    parts = dict(mine.select("modality", "part").rows())
    faults = dict(mine.select("modality", "fault").rows())
    gauged = metrics.gauged(seen.samples, service, "cpu")
    return kind.kind(parts, faults, words.fault(seen.logs, seen.errors, service), gauged=gauged)


def _loudness(row: Row) -> float:
    half = fuse.LOUD.get(row["modality"], 4.0)
    return float(row["score"] / (row["score"] + half))


def _trait(
    lake: Lake, ledger: Ledger, when: claims.Stretches, seen: Facts, listed: Sequence[Row]
) -> attributes.Trait | None:
    """What the first suspect's bad spans have in common, added to its evidence."""
    if not listed:
        return None
    service = listed[0]["service"]
    marked = latency.slow(seen.spans).filter(pl.col("service") == service, pl.col("bad"))
    bad = marked.filter(pl.col("slow") | pl.col("error")).select("span_id").unique()
    found = attributes.traits(lake, seen, service, bad)
    telling = [one for one in found if one.score >= 8.0 and one.bad - one.good >= 0.3]
    if not telling:
        return None
    listed[0]["evidence"].append(claims.trait(ledger, when, service, telling[0]))
    listed[0]["attribute"] = str(telling[0])
    return telling[0]


def _asked(
    lake: Lake, seen: Facts, listed: Sequence[Row], trait: attributes.Trait | None
) -> list[changes.Suspect]:
    """What the changes have to explain: the first suspects, with what is known of how they fail."""
    keyed = dict(zip(trait.names, trait.values, strict=True)) if trait else {}
    cluster = keyed.get("cluster") or keyed.get("k8s.cluster.name")
    return [
        failing.suspect(lake, seen, row, cluster if row["rank"] == 1 else None)
        for row in listed[: changes.ASKED]
    ]


def _worth_showing(ordered: Sequence[Row], onset: datetime) -> list[Row]:
    """The best explanations, and the deploy or flag nearest to the onset, which everybody would
    suspect first."""
    shown = list(ordered[:SHOWN])
    before = [
        row
        for row in ordered
        if (row["kind"] in {"deploy", "flag", "config"} or row["shipped"])
        and row["effect"] <= onset
    ]
    nearest = max(before, key=lambda row: row["effect"], default=None)
    return shown if nearest is None or nearest in shown else [*shown, nearest]


def _change(ledger: Ledger, row: Row, place: int) -> Row:
    why = f"{row['kind']} {changes.short(row['ref'])}: {'; '.join(row['reasons'])}"
    return {
        "rank": place,
        "kind": row["kind"],
        "ref": row["ref"],
        "service": row["service"],
        "ts": stamp(row["ts"]),
        "effect": stamp(row["effect"]),
        "also": row["also"],
        "score": row["score"],
        "message": (row["message"] or "").split("\n")[0][:200],
        "author": row["author"],
        "reasons": row["reasons"],
        "evidence": [claims.change(ledger, row, why)],
    }


def _propagation(
    lake: Lake, ledger: Ledger, when: claims.Stretches, edges: pl.DataFrame, listed: Sequence[Row]
) -> list[Row]:
    if not listed:
        return []
    root = listed[0]
    outside = str(root["fault"]).startswith("network")
    steps = graph.propagation(edges, root["service"], waits_outside=outside)
    known = graph.recorded(lake, when.window) if steps else set()
    out = []
    for start, end in steps[:12]:
        cited = claims.edge(ledger, when, (end, start), minutes=(end, start) in known)
        out.append({"from": start, "to": end, "evidence": [cited]})
    return out


def _ruled_out(
    ledger: Ledger,
    when: claims.Stretches,
    ranked: pl.DataFrame,
    path: Sequence[Mapping[str, Any]],
) -> list[Row]:
    """Services that look bad from outside but only wait for the root, or pass its errors on."""
    loud = set(ranked.filter(pl.col("total") >= 0.5)["service"])
    calm = {step["to"]: step["from"] for step in path[:3] if step["to"] not in loud}
    if not calm:
        return []
    cited = claims.quiet(ledger, when, list(calm))
    return [
        {
            "service": service,
            "why": f"{service} is slow or failing where it waits for {cause}, hardly by itself",
            "evidence": [cited],
        }
        for service, cause in calm.items()
    ]


def _healthy(seen: Facts) -> int:
    """How much healthy time was compared with, in requests; a hundred samples weigh as one."""
    traces = seen.spans.filter(~pl.col("bad"))["trace_id"].n_unique()
    return traces + seen.samples.filter(~pl.col("bad")).height // 100


def _pairs(trait: attributes.Trait | None) -> list[tuple[str, str]]:
    return list(zip(trait.names, trait.values, strict=True)) if trait else []


def _summary(
    seen: Facts,
    listed: Sequence[Row],
    culprit: Row | None,
    trait: attributes.Trait | None,
    other: without.Other | None,
) -> str:
    if not listed:
        return NOTHING if missing.comparable(seen) else UNCOMPARED
    first = listed[0]
    text = f"{first['service']}: {first['fault'].replace('_', ' ')}"
    text += f", where {trait}" if trait else ""
    if culprit:
        line = (culprit["message"] or "").split("\n")[0]
        return (
            f"{text}; explained by {culprit['kind']} {changes.short(culprit['ref'])} “{line[:80]}”"
        )
    return f"{text}; no change explains it" + (f", {other.kind}: {other.why}" if other else "")
