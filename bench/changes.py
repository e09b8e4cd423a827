"""What the analysers see in labelled diffs, and whether the culprit is told from decoys.

    python -m bench.changes [--misses] [--part development]

bench/diffs/ holds small diffs over ten languages with what each does, by one hand: `development` and
`kept` were written before the analysers, each of the others after they were done with the one before.
What each gave when it was first looked at stands in docs/changes.md; what it showed
was then put right, so that this run shows how they read now. Beside them the patterns over single
lines that they replaced.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from rca import changes
from rca.changes.analysers import ANALYSERS, acts

PARTS = ("development", "kept", "fresh", "last", "unseen", "later", "further", "fourth", "fifth")
FOLDER = Path(__file__).parent / "diffs"
ONSET = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)


class Sample(NamedTuple):
    """A diff, what it does (no label: harmless), and the fault it led to."""

    labels: frozenset[str]
    kind: str
    fault: str
    path: str
    message: str
    diff: str


def samples(part: str) -> Iterator[Sample]:
    """The labelled diffs of one of PARTS."""
    text = (FOLDER / f"{part}.txt").read_text(encoding="utf-8")
    for block in re.split(r"^#### ", text, flags=re.MULTILINE)[1:]:
        head, body = block.split("\n", 1)
        about, message = head.split(" | ")
        kind, fault, path = about.split(" ", 2)
        labels = frozenset() if kind.startswith("harmless") else frozenset(kind.split(","))
        yield Sample(labels, kind, fault, path, message, _diff(path, body))


def _diff(path: str, body: str) -> str:
    """The text as `git log --patch` would have it."""
    out = list[str]()
    for piece in re.split(r"^## ", f"{path}\n{body}", flags=re.MULTILINE):
        name, lines = piece.rstrip("\n").split("\n", 1)
        rows = lines.split("\n")
        old, new = (sum(row[:1] in (" ", sign) or not row for row in rows) for sign in "-+")
        out.append(
            f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -10,{old} +10,{new} @@"
        )
        out += [row or " " for row in rows]
    return "\n".join(out)


OLD = (  # the patterns over single lines of before, as the alternative
    (
        "pool",
        "±",
        r"(?i)(pool|max)[_-]?(size|conn|connections|open|workers|idle)\w*\s*[:=]|limits?:",
    ),
    ("timeout", "±", r"(?i)timeout|deadline"),
    ("loop", "+", r"(?i)^\s+.*\b(query|execute|fetch|select|find|get)\w*\("),
    ("index", "+", r"(?i)drop\s+index"),
    ("index", "-", r"(?i)create\s+(unique\s+)?index"),
    ("retries", "±", r"(?i)retr(y|ies)|backoff|attempts"),
    ("cache", "±", r"(?i)\bttl\b|cache"),
    ("version", "±", r"(?i)^\s*[\w.-]+\s*(==|>=|~=|@|:)\s*v?\d+\.\d+|image:\s*\S+:\S+"),
    ("nil", "-", r"(?i)if .*(is None|== nil|!= nil|is not None|null)"),
    ("logic", "±", r"(?i)\braise\b|\bthrow\b|\bpanic\(|\breturn\b"),
    ("resources", "±", r"(?i)memory:|cpu:|-Xmx|GOMEMLIMIT|heap"),
)


def by_pattern(diff: str) -> set[str]:
    """What the patterns see."""
    if re.search(r"(?m)^diff --git.*(?:(?:^|/)(?:tests?|docs?)/|_test\.|test_|\.md\b)", diff):
        return set()
    lines = [
        (row[0], row[1:])
        for row in diff.split("\n")
        if row[:1] in "+-" and row[:3] not in ("+++", "---")
    ]
    lines = [(s, t) for s, t in lines if t.strip() and not t.strip().startswith(("#", "//", "*"))]
    found = {
        key
        for key, side, words in OLD
        if any(side in ("±", s) and re.search(words, t) for s, t in lines)
    }
    looped = any(s == "+" and re.search(r"\bfor\b|\bwhile\b", t) for s, t in lines)
    return found if looped else found - {"loop"}


def by_analyser(diff: str) -> set[str]:
    """What the analysers see."""
    return {act.analyser.key for act in acts(diff)}


def table(part: str, see: Callable[[str], set[str]], *, misses: bool) -> None:
    """Precision and recall of each analyser; harmless diffs in which anything is seen."""
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    harmless = alarmed = 0
    for one in samples(part):
        seen = see(one.diff)
        right.update(one.labels & seen)
        missed.update(one.labels - seen)
        wrong.update(seen - one.labels)
        harmless += not one.labels
        alarmed += bool(seen and not one.labels)
        if misses and (seen != one.labels):
            print(f"  {one.kind:<18} {one.path}: saw {sorted(seen)}")
    keys = [one.key for one in ANALYSERS]
    for key in keys:
        print(
            f"  {key:<10} {_share(right[key], right[key] + wrong[key]):>12} {_share(right[key], right[key] + missed[key]):>12}"
        )
    hits = right.total()
    print(
        f"  {'all':<10} {_share(hits, hits + wrong.total()):>12} {_share(hits, hits + missed.total()):>12}"
    )
    print(f"  harmless diffs in which something is seen: {alarmed} of {harmless}")


def _share(some: int, of: int) -> str:
    return f"{some / of:.0%} ({some}/{of})" if of else "–"


def incident(
    culprit: Sample | None, decoy: Sample, hours: float
) -> tuple[list[changes.Suspect], list[dict[str, object]]]:
    """A service's records: a culprit committed hours before and rolled out late, and a harmless
    deploy two minutes before the onset."""
    service = "basket"
    rows = []
    if culprit:
        rolled = ONSET - timedelta(minutes=35)
        rows += _shipped(service, culprit, "c", rolled - timedelta(hours=hours), rolled, "1.8.0")
    out = ONSET - timedelta(minutes=2)
    rows += _shipped(service, decoy, "d", out - timedelta(minutes=20), out, "1.8.1")
    fault = culprit.fault if culprit else decoy.fault
    return [changes.Suspect(service, fault, None, "")], rows


def _shipped(
    service: str, one: Sample, letter: str, made: datetime, out: datetime, version: str
) -> list[dict[str, object]]:
    sha = (letter + "0123456789abcdef" * 3)[:40]
    about = {
        "service": service,
        "author": "a",
        "cluster": None,
        "before": None,
        "files": None,
        "diff": None,
    }
    commit = {
        **about,
        "ts": made,
        "kind": "commit",
        "ref": sha,
        "message": one.message,
        "files": [one.path],
        "diff": one.diff,
        "after": None,
    }
    deploy = {
        **about,
        "ts": out,
        "kind": "deploy",
        "ref": f"{service}@{version}",
        "message": f"release {version}",
        "after": sha,
    }
    rollout = {
        **about,
        "ts": out + timedelta(seconds=20),
        "kind": "deploy",
        "ref": f"{service}@{version[-1]}7",
        "message": f"rollout of {service}",
        "before": f"shop/{service}:1.7.9",
        "after": f"shop/{service}:{version}",
    }
    scale = {
        **about,
        "ts": out + timedelta(seconds=25),
        "kind": "scale",
        "ref": f"Deployment/{service}",
        "message": "ScalingReplicaSet: Scaled up",
        "after": None,
    }
    return [commit, deploy, rollout, scale]


def verdicts(part: str) -> None:
    """How often the culprit is named, a decoy is, and one is named where nothing was done."""
    every = list(samples(part))
    bad, decoys = ([s for s in every if bool(s.labels) is harm] for harm in (True, False))
    named = blamed = alone = listed = 0
    for place, culprit in enumerate(bad):
        asked, rows = incident(culprit, decoys[place % len(decoys)], 2 + place % 40)
        ranked = changes.rank(rows, asked, ONSET)  # type: ignore[arg-type]
        first = ranked[0]
        named += first["score"] >= changes.EXPLAINS and str(first["ref"]).startswith("c")
        blamed += first["score"] >= changes.EXPLAINS and not str(first["ref"]).startswith("c")
        listed += len(ranked)
    faults = (
        "dependency",
        "exception",
        "capacity",
        "memory",
        "cpu",
        "wrong_return",
        "config",
        "unknown",
    )
    for decoy in decoys:
        for fault in faults:
            asked, rows = incident(None, decoy._replace(fault=fault), 0)
            alone += changes.rank(rows, asked, ONSET)[0]["score"] >= changes.EXPLAINS  # type: ignore[arg-type]
    print(
        f"  culprit hours before, rolled out late, decoy 2 min before: named {_share(named, len(bad))}, decoy named {_share(blamed, len(bad))}, {listed / len(bad):.1f} stories of 8 records"
    )
    print(
        f"  decoy alone, {len(faults)} faults each: named {_share(alone, len(decoys) * len(faults))}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--misses", action="store_true", help="show each diff read otherwise than labelled"
    )
    parser.add_argument("--part", choices=PARTS, help="one of them; all when not given")
    given = parser.parse_args()
    for part in [given.part] if given.part else PARTS:
        every = list(samples(part))
        print(
            f"{part}: {len(every)} diffs, {sum(not s.labels for s in every)} harmless   (precision, recall)"
        )
        print(" analysers")
        table(part, by_analyser, misses=given.misses)
        print(" patterns over single lines")
        table(part, by_pattern, misses=False)
        verdicts(part)


if __name__ == "__main__":
    main()
