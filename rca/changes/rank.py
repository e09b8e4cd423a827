"""Changes ranked by whether they can explain what fails.

A story scores by what it touches, by what it does that can lead to the fault (and how readily),
by what the failure itself points at, and a little by when it took effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from rca.changes import records, signs
from rca.changes.analysers import Act, acts, readily
from rca.changes.signs import Frame
from rca.changes.stories import KINDS, Story, fold, touches

EXPLAINS = 0.5  # a change below this explains nothing
UNEXPLAINED = 0.45  # the most for a change of which nothing says how it could lead to the fault
SLACK = timedelta(
    minutes=2
)  # an onset is found to within a minute and a half; pipelines note a rollout at its end
ASKED = 3  # suspects that changes are held against
TIED = 0.95  # of the first suspect's score: as likely the cause as it
LATER = 0.4  # what a change of a later suspect counts, and one of a tied suspect:
BESIDE = 0.85
OLD = timedelta(days=1)  # what ran that long without harm counts less, unless it is SLOW or the
OUTLIVED = 0.6  # failure points at it: only what leads to just this fault is still named
_CODE = frozenset(["nil", "handling", "logic"])
SLOW = frozenset(["leak", "cache", "loglevel", "resources", "cert"])  # can take days to show
FANNED = 1.5  # times the calls to stores per span that count as fanning out
Row = dict[str, Any]


class Suspect(NamedTuple):
    """What a change must explain: a service, how it fails, and what is known of that."""

    service: str
    fault: str
    cluster: str | None  # on which alone, if so
    words: str = ""  # what its errors and loud log lines say
    frames: tuple[Frame, ...] = ()  # where its stack traces lead through
    fanout: float | None = None  # calls to stores per span, times the healthy ones; None: unknown
    score: float | None = None  # how loud it is; None: unknown


class Reading(NamedTuple):
    """What speaks for one story against one suspect."""

    acts: tuple[str, ...]
    strength: float
    pointed: tuple[str, ...]  # by the failure itself
    slow: bool = False  # what it does can take days to show


def rank(rows: Sequence[Row], suspects: Sequence[Suspect], onset: datetime) -> list[Row]:
    """One row per story, with `score`, `reasons`, `effect` and `also` (other records of it), best
    first. Changes after the onset serve to date the others and are not in the answer."""
    before = [story for story in fold(rows) if story.lead["ts"] <= onset + SLACK]
    scored = [_scored(story, suspects, onset) for story in before]
    return sorted(scored, key=lambda row: (-row["score"], _order(row), str(row["ref"])))


def _tied(suspect: Suspect, first: Suspect) -> bool:
    """Whether a later suspect is as loud as the first, but for little."""
    if suspect.score is None or first.score is None:
        return False
    return suspect.score >= TIED * first.score


def _order(row: Row) -> int:
    return KINDS.index(row["kind"]) if row["kind"] in KINDS else len(KINDS)


def _scored(story: Story, suspects: Sequence[Suspect], onset: datetime) -> Row:
    best, reasons, seen = 0.0, ["no suspect is touched by it"], story
    for place, suspect in enumerate(suspects[:ASKED]):
        if not any(touches(row, suspect.service) for row in story.rows):
            continue
        here = story.at(suspect.service, suspect.cluster)
        reading = _read(here, suspect)
        share = 1.0 if place == 0 else BESIDE if _tied(suspect, suspects[0]) else LATER
        score = _weigh(here, suspect, reading, onset) * share
        if score > best:
            best, reasons = score, _reasons(here, suspect, reading, onset)
            seen = here
    lead = _speaker(story)
    also = [str(row["ref"]) for row in story.rows if row is not lead]
    return {
        **lead,
        "score": round(min(max(best, 0.0), 0.99), 4),
        "reasons": reasons,
        "effect": seen.effect,
        "shipped": str(seen.shipped["ref"]) if seen.shipped else None,
        "also": list(dict.fromkeys(also)),
    }


def _speaker(story: Story) -> Mapping[str, Any]:
    """The commit, unless only the calendar ties it to a rollout that says more for itself."""
    if story.told or story.lead["kind"] != "commit" or list(acts(story.lead["diff"])):
        return story.lead
    telling = [row for row in story.others if records.upgrade(row)]
    return telling[0] if telling else story.lead


def _read(story: Story, suspect: Suspect) -> Reading:
    """What a story does that can lead to the suspect's fault, and what the fault points at."""
    strength, seen, slow = 0.0, list[str](), False
    done = records.does(story.lead, suspect.service)
    done += [act for row in story.others for act in records.told(row)]
    for act in (*done, *records.fewer(story.rows)):
        force = readily(act, suspect.fault) * _borne_out(act, suspect)
        if force:
            strength = max(strength, force)
            seen.append(str(act))
            slow = slow or act.analyser.key in SLOW
    pointed = list[str]()
    through = signs.crossed(story.lead["diff"], suspect.frames)
    if through:
        pointed.append(f"the stack trace leads through {through}, which it changed")
    word = signs.named(story.lead["diff"], suspect.words)
    if word:
        pointed.append(f"the errors name {word}, which it changed")
    if suspect.frames and not through and suspect.fault in {"exception", "wrong_return"}:
        strength *= 0.7 if any(act.analyser.key in _CODE for act in done) else 1.0
    return Reading(tuple(dict.fromkeys(seen)), strength, tuple(pointed), slow)


def _borne_out(act: Act, suspect: Suspect) -> float:
    """Less where the telemetry shows that what the change does has not come about."""
    if act.analyser.key == "loop" and suspect.fanout is not None:
        return 1.0 if suspect.fanout >= FANNED else 0.6
    return 1.0


def _weigh(story: Story, suspect: Suspect, reading: Reading, onset: datetime) -> float:
    if story.effect > onset + SLACK:
        return 0.0
    row = story.lead
    place = story.cluster
    score = 0.25 + 0.45 * reading.strength + 0.15 * near(story.effect, onset)
    if story.shipped and onset - story.effect > OLD and not reading.slow:
        score *= OUTLIVED
    score += 0.15 * min(len(reading.pointed), 2)
    score += 0.1 if story.shipped or row["kind"] in {"config", "flag"} else 0.0
    if suspect.cluster and place:
        score += 0.15 if place == suspect.cluster else -0.3
    return score if reading.acts or reading.pointed else min(score, UNEXPLAINED)


def near(effect: datetime, onset: datetime) -> float:
    """1 just before the onset, one half after six hours, towards 0; 0 after the onset."""
    if effect > onset + SLACK:
        return 0.0
    hours = max((onset - effect).total_seconds(), 0.0) / 3600
    return 1.0 / (1.0 + hours / 6)


def _reasons(story: Story, suspect: Suspect, reading: Reading, onset: datetime) -> list[str]:
    minutes = (onset - story.effect).total_seconds() / 60
    when = f"{minutes:,.0f} min before the onset" if minutes >= 0 else "after the onset"
    out = [f"touches {suspect.service}"]
    out += [f"it {act}, which can lead to {suspect.fault}" for act in reading.acts]
    out += reading.pointed
    if (
        suspect.fanout is not None
        and suspect.fanout >= FANNED
        and any("loop" in act for act in reading.acts)
    ):
        out.append(f"a request now makes {suspect.fanout:.1f} × its usual calls to stores")
    shipped = story.shipped
    how = (
        f"{'shipped by' if story.told else 'went out with the next deploy,'} {shipped['ref']}"
        if shipped
        else "took effect"
    )
    out.append(f"{how} {when}")
    if suspect.cluster and story.cluster == suspect.cluster:
        out.append(f"on {suspect.cluster}, where the fault is")
    if not reading.acts and not reading.pointed:
        out.append("nothing in it explains how the service fails")
    return out
