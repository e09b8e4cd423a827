"""Deploys and flags as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from sample_data.generator.story import Scenario
from sample_data.generator.write.file import Row, put, stamp


def changes(folder: Path, scenarios: Iterable[Scenario], shas: dict[str, str]) -> None:
    """Deploys and flags as JSON lines."""
    deploys = sorted(_deploys(scenarios, shas), key=lambda row: row["ts"])
    put(folder / "deploys.jsonl", "".join(json.dumps(row) + "\n" for row in deploys))
    flags = [
        {
            "ts": stamp(at.timestamp()),
            "kind": "flag",
            "service": service,
            "ref": flag,
            "author": "noor",
            "message": f"{flag} {before} → {after}",
            "before": before,
            "after": after,
        }
        for scenario in scenarios
        for at, flag, service, before, after in scenario.flags
    ]
    put(
        folder / "flags.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in flags)
    )


def _deploys(scenarios: Iterable[Scenario], shas: dict[str, str]) -> Iterator[Row]:
    for scenario in scenarios:
        for deploy in scenario.deploys:
            yield {
                "ts": stamp(deploy.at.timestamp()),
                "kind": "deploy",
                "service": deploy.service,
                "ref": f"{deploy.service}@{deploy.version}",
                "author": deploy.author,
                "message": deploy.message or f"release {deploy.version}: {deploy.commit}",
                "after": shas[deploy.commit],
                "cluster": deploy.cluster,
                "environment": "production",
            }
