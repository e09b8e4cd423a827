"""What a change does, by its diff and by what its record says of itself: an upgrade, a switch, other
values of a configuration, fewer pods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rca.changes import versions
from rca.changes.analysers import ANALYSERS, Act, acts
from rca.changes.diff import parse
from rca.changes.stories import spelt

Row = Mapping[str, Any]
_BY = {one.key: one for one in ANALYSERS}
_FEWER = re.compile(r"(?i)scaled down .* to (?P<now>\d+) from (?P<was>\d+)")


def does(row: Row, service: str | None = None) -> list[Act]:
    """Everything a change does; to one service, where it is named."""
    return [*acts(_part(row["diff"], service)), *told(row)]


def told(row: Row) -> list[Act]:
    """What a change does by its own word, without a diff."""
    found = upgrade(row)
    if found:
        return [Act(_BY["runtime"], found)]
    if row["before"] == row["after"]:
        return []
    if row["kind"] == "flag":
        return [Act(_BY["flag"], f"{row['ref']} {row['before']} → {row['after']}")]
    if row["kind"] == "config" and row["before"]:
        return list(acts(_edited(row))) or [Act(_BY["config"], str(row["ref"]))]
    return []


def fewer(rows: Sequence[Row]) -> list[Act]:
    """Pods taken away by a scaling that belongs to no rollout."""
    if any(row["kind"] != "scale" or "Scaled up" in (row["message"] or "") for row in rows):
        return []
    for row in rows:
        found = _FEWER.search(row["message"] or "")
        counts = (found["was"], found["now"]) if found else (row["before"], row["after"])
        if all(re.fullmatch(r"\d+", str(one)) for one in counts) and 0 < int(counts[1]) < int(
            counts[0]
        ):
            return [Act(_BY["pool"], f"pods {counts[0]} → {counts[1]}")]
    return []


def upgrade(row: Row) -> str | None:
    """The runtime or image a rollout says it changed."""
    if row["kind"] not in {"deploy", "config"}:
        return None
    return versions.told(
        *(str(row[key] or "") for key in ("message", "before", "after", "service"))
    )


def _edited(row: Row) -> str:
    """What a configuration was and is, as a diff of its settings."""
    old, new = (dict(_settings(row, str(row[key] or ""))) for key in ("before", "after"))
    lines = [f"-{key}: {value}" for key, value in old.items() if new.get(key) != value]
    lines += [f"+{key}: {value}" for key, value in new.items() if old.get(key) != value]
    return "\n".join(["diff --git a/configmap.yaml b/configmap.yaml", "@@ -1 +1 @@", *lines])


def _settings(row: Row, text: str) -> Iterator[tuple[str, str]]:
    """Keys and values of a configuration's data; of one value, its name is the key."""
    try:
        held = json.loads(text)
    except ValueError:
        held = None
    if not isinstance(held, dict):
        yield str(row["ref"]).rsplit("/", 1)[-1], text
        return
    for key, value in held.items():
        lines = str(value).strip().split("\n")
        inner = [re.match(r"\s*([\w.-]+)\s*[:=]\s*(.+)", line) for line in lines]
        if len(lines) > 1:
            yield from ((one[1], one[2]) for one in inner if one)
        else:
            yield str(key), lines[0]


def _part(diff: str | None, service: str | None) -> str | None:
    """A diff without the files of other services: those that lie in a folder beside its own."""
    if not diff or not service:
        return diff
    own = next((found for one in parse(diff) if (found := _folder(one.path, service))), None)
    if own is None:
        return diff
    pieces = re.split(r"(?m)^(?=diff --git )", diff)
    return "".join(one for one in pieces if not _beside(one, own))


def _folder(path: str, service: str) -> tuple[str, str] | None:
    """The folder that services lie in and the service's own name there."""
    found = re.match(rf"(?P<root>(?:[^/]+/)*)(?P<own>{spelt(service)})/", path)
    return (found["root"], found["own"]) if found else None


def _beside(piece: str, own: tuple[str, str]) -> bool:
    found = re.match(r"diff --git .* b/(.+)", piece)
    if not found or not own[0] or not found[1].startswith(own[0]):
        return False
    rest = found[1][len(own[0]) :].split("/")
    return len(rest) > 1 and rest[0] != own[1]
