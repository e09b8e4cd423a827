"""Changes around an incident: the one that caused it, where a change did, and decoys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from bench.incidents import frames
from bench.incidents.faults import Fault
from bench.incidents.system import LANGUAGES, Rng, System

CAUSED = {  # how often a change stands behind a kind of fault
    "exception": 0.9, "wrong_return": 0.9, "config": 1.0, "dependency": 0.7, "capacity": 0.6,
    "memory": 0.5, "cpu": 0.4, "disk": 0.1, "network_delay": 0.0, "network_loss": 0.0, "external": 0.0,
}  # fmt: skip
ENDINGS = dict(zip(LANGUAGES, ("java", "py", "go", "ts"), strict=True))
DIFFS = {
    "exception": (
        ("simplify lookup", "-    if item is None:\n-        return default\n+    value = item.price"),
        ("use new client", "-  if (order == null) { return Optional.empty(); }\n+  return order.lines().get(0);"),
        ("tidy handler", "-\tif user == nil {\n-\t\treturn ErrMissing\n-\t}\n+\tname := user.Name"),
    ),
    "wrong_return": (
        ("return early for guests", "-    return matches\n+    return []"),
        ("fix rounding", "-  return total;\n+  return total * 0;"),
        ("change comparison", "-    if count > limit:\n+    if count < limit:\n+        return None"),
    ),
    "config": (
        ("move settings to the new format", "-DB_URL: postgres://db:5432/main\n+DATABASE: postgres://db:5432/main"),
        ("rotate credentials", "-  tokenRef: api-token-v1\n+  tokenRef: api-token-v2"),
        ("tune timeouts", "-timeout: 5s\n+timeout: 5"),
    ),
    "dependency": (
        ("load lines one by one", "-    rows = db.query(ALL, ids)\n+    for id in ids:\n+        rows.append(db.query(ONE, id))"),
        ("bump driver", "-driver==2.4.1\n+driver==3.0.0"),
        ("drop unused index", "+drop index idx_created_at;"),
    ),
    "capacity": (
        ("free connections", "-pool_size: 20\n+pool_size: 2"),
        ("fewer workers", "-max_workers = 32\n+max_workers = 2"),
    ),
    "memory": (
        ("cache everything", "-cache = LRU(max_size=1000)\n+cache = {}"),
        ("lower the limit", "-  memory: 1Gi\n+  memory: 256Mi"),
    ),
    "cpu": (
        ("validate harder", "-    check(row)\n+    for other in rows:\n+        if re.match(PATTERN, other.text * 50): check(row)"),
        ("log everything", "-log_level: info\n+log_level: debug"),
    ),
    "disk": (("keep debug dumps", "-log_level: info\n+log_level: trace"),),
}  # fmt: skip
DECOYS = (
    ("docs: describe the API", "docs/{s}.md", "+The list is sorted by name."),
    ("test: cover the empty case", "tests/test_{s}.py", "+    assert find(None) is None"),
    ("{s}: rename a variable", "{s}/names.{e}", "-    total = 0\n+    amount = 0"),
    ("{s}: new banner text", "{s}/banner.txt", "-Welcome\n+Welcome back"),
    ("{s}: reorder imports", "{s}/main.{e}", "-import b\n+import a"),
)


def around(
    rng: Rng, system: System, faults: Sequence[Fault], onset: float
) -> tuple[pl.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Rows of `changes`, the refs that explain the incident and those that do not."""
    rows: list[dict[str, Any]] = []
    culprits: list[str] = []
    for fault in faults:
        if rng.random() < CAUSED[fault.kind]:
            title, diff = DIFFS[fault.kind][int(rng.integers(len(DIFFS[fault.kind])))]
            path = f"{fault.service}/{_file(system, fault)}"
            made = _shipped(
                rng, fault.service, title, path, diff, onset - float(rng.uniform(5, 40))
            )
            rows += made
            culprits += [row["ref"] for row in made]
    decoys: list[str] = []
    names = list(system.services)
    for _ in range(int(rng.integers(3, 9))):
        service = str(rng.choice(names))
        text, path, diff = DECOYS[int(rng.integers(len(DECOYS)))]
        words = {"s": service, "e": ENDINGS[system.services[service].language]}
        ago = float(rng.choice([rng.uniform(10, 300), rng.uniform(600, 86400 * 3)]))
        made = _shipped(rng, service, text.format(**words), path.format(**words), diff, onset - ago)
        rows += made
        decoys += [row["ref"] for row in made]
    return frames.fitted("changes", pl.DataFrame(rows)), tuple(culprits), tuple(decoys)


def _file(system: System, fault: Fault) -> str:
    if fault.kind in {"config", "capacity"}:
        return "config.yaml"
    return f"handler.{ENDINGS[system.services[fault.service].language]}"


def _shipped(
    rng: Rng, service: str, title: str, path: str, diff: str, at: float
) -> list[dict[str, Any]]:
    """A commit and, some time later, the deploy that took it out at `at`."""
    sha = rng.bytes(20).hex()
    deployed = frames.utc(at)
    written = deployed - timedelta(minutes=float(rng.uniform(5, 600)))
    common = {"service": service, "author": "somebody", "message": title}
    text = f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -10,4 +10,4 @@\n{diff}"
    commit = {"ts": written, "kind": "commit", "ref": sha, "files": [path], "diff": text, **common}
    deploy = {
        "ts": deployed, "kind": "deploy", "ref": f"{service}@{sha[:7]}", "after": sha[:12],
        "files": None, "diff": None, **common, "message": f"deploy {service} {sha[:7]}",
    }  # fmt: skip
    return [{"after": None, **row, "date": row["ts"].date()} for row in (commit, deploy)]
