"""Upkeep of the tables: days that have expired, small files made one, old files and logs removed.

Every step may be interrupted and run again, and runs beside writers and readers: a commit that
replaces files is made only while these files are still the table's, and nothing is deleted that a
version younger than the retention, or one that a kept incident's evidence cites, is made of.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError

from lake.errors import UserError
from lake.files import Placed, discard, exchange, placed, read, rewrite, values
from lake.schemas import TABLES, UNPLACED
from lake.stage import identity, merged, stage
from lake.store import LOGS_KEY, Lake

SMALL = 32 << 20  # bytes: smaller files are worth merging
ROWS = 2_000_000  # of a merged file's parts together, at most: memory
BYTES = 256 << 20
KEPT = "kept-from"  # app transaction: the first day that has not expired, as an ordinal
EXPIRED = "expired"  # app transaction: rows that expired so far
_COMMITS = 10  # since the last checkpoint that are worth a new one
_SAY = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is done. `keep`: table → days of rows; `hours`: age at which files that are no longer
    the table's are deleted; `log_days`: of history that can be read."""

    keep: Mapping[str, int] = field(default_factory=dict)
    hours: int = 168
    log_days: int = 30
    steps: Sequence[str] = ("retain", "compact", "vacuum")


@dataclass(frozen=True)
class Done:
    """One thing done, or to be done: rows, files and bytes that it concerned."""

    table: str
    step: str
    about: str
    rows: int = 0
    files: int = 0
    bytes: int = 0


def maintain(
    lake: Lake, plan: Plan, today: date, *, dry: bool = False, say: _SAY | None = None
) -> list[Done]:
    """Do what is planned, table after table; `dry`: only tell it."""
    done, tell = list[Done](), say or (lambda _text: None)
    with lake.lock("rootlake maintain"):
        if "retain" in plan.steps:
            tell("retention")
            done += retain(lake, plan.keep, today, dry=dry)
        held = cited(lake)
        for name in TABLES:
            if "compact" in plan.steps:
                tell(f"compact {name}")
                done += compact(lake, name, dry=dry)
            if "vacuum" in plan.steps:
                tell(f"vacuum {name}")
                done += vacuum(lake, name, plan.hours, held.get(name, ()), dry=dry)
                done += clean_log(lake, name, plan.log_days, held.get(name, ()), dry=dry)
    return done


# -- retention -----------------------------------------------------------------------------


def retain(lake: Lake, keep: Mapping[str, int], today: date, *, dry: bool = False) -> list[Done]:
    """Delete the days that have expired, one commit per table. Rows whose day is not known
    (1970-01-01) do not expire by it. The audit of a day stays as long as raw rows it speaks of, or
    exemplars, whose ids it alone holds as they were received."""
    done = []
    for name, days in keep.items():
        first = date.fromordinal(today.toordinal() - days)
        if name == "repairs":
            spoken = [*(raw for raw in TABLES if raw.startswith("raw_")), "exemplars"]
            first = min([first, *(_oldest(lake, one) for one in spoken)])
        done += expire(lake, name, first, dry=dry)
    return done


def _oldest(lake: Lake, name: str) -> date:
    held = [day for day in lake.days(name) if day != UNPLACED]
    return held[0] if held else date.max


def expire(lake: Lake, name: str, first: date, *, dry: bool = False) -> list[Done]:
    """Delete the days before `first`; how many rows ever expired, and the first day kept, stand in
    the same commit."""
    for _ in range(20):
        opened = lake.open(name)
        old = [one for one in placed(opened) if _expired(one, first)]
        if not old:
            return []
        rows = sum(one.rows for one in old)
        days = {one.partition["date"] for one in old}
        done = Done(name, "retain", f"{len(days)} days before {first}", rows, len(old), _bytes(old))
        if dry:
            return [done]
        held = lake.transactions(name, [EXPIRED, KEPT])
        marks = {
            EXPIRED: max(held[EXPIRED], 0) + rows,
            KEPT: max(held[KEPT], first.toordinal()),
        }
        try:
            opened.delete(
                f"date < '{first}' AND date <> '{UNPLACED}'",
                commit_properties=CommitProperties(
                    max_commit_retries=0,
                    app_transactions=[Transaction(app, version) for app, version in marks.items()],
                ),
            )
        except CommitFailedError:
            continue
        return [done]
    return [Done(name, "retain", "left: other writers kept changing the table; run it again")]


def _expired(one: Placed, first: date) -> bool:
    day = one.partition.get("date")
    return day is not None and str(UNPLACED) != day < str(first)


def kept_from(lake: Lake, name: str) -> date:
    """The first day of a table that has not expired."""
    held = lake.transactions(name, [KEPT])[KEPT]
    return date.fromordinal(held) if held > 0 else date.min


def expired(lake: Lake, name: str) -> int:
    """How many rows of a table ever expired."""
    return max(lake.transactions(name, [EXPIRED])[EXPIRED], 0)


# -- compaction ----------------------------------------------------------------------------


def compact(lake: Lake, name: str, *, dry: bool = False) -> list[Done]:
    """Small files of each partition made one sorted file, with statistics and bloom filters."""
    done = list[Done]()
    for group in _groups(placed(lake.open(name))):
        where = ", ".join(str(value) for value in group[0].partition.values()) or "whole table"
        about = where
        rows, size = sum(one.rows for one in group), _bytes(group)
        if not dry and not _merge(lake, name, group):
            about = f"{where}: left, another writer replaced its files"
        done.append(Done(name, "compact", about, rows, len(group), size))
    return done


def _groups(files: Sequence[Placed]) -> Iterator[list[Placed]]:
    """Small files of one partition that fit into one, in the order of their names."""
    parts: dict[tuple[str | None, ...], list[Placed]] = {}
    for one in sorted(files, key=lambda one: one.path):
        if one.size < SMALL:
            parts.setdefault(tuple(one.partition.values()), []).append(one)
    for part in parts.values():
        group, rows, size = list[Placed](), 0, 0
        for one in part:
            if group and (rows + one.rows > ROWS or size + one.size > BYTES):
                yield from [group] if len(group) > 1 else []
                group, rows, size = [], 0, 0
            group.append(one)
            rows, size = rows + one.rows, size + one.size
        yield from [group] if len(group) > 1 else []


def _merge(lake: Lake, name: str, group: Sequence[Placed]) -> bool:
    """One group's files made one; False when another writer was faster."""
    if lake.folder is None:
        return _merge_remote(lake, name, group)
    folder, rows = lake.folder / name, read(lake, name, group)
    new = merged(folder, stage(folder, TABLES[name], rows), identity(one.path for one in group))
    if exchange(lake, name, group, new, changes=False):
        return True
    discard(folder, new)
    return False


def _merge_remote(lake: Lake, name: str, group: Sequence[Placed]) -> bool:
    """In an object store the whole partition is rewritten, in order."""
    part = {key: value for key, value in values(group[0]).items() if value is not None}
    return rewrite(lake, name, part, lambda rows: rows, force=True)


# -- old files and logs --------------------------------------------------------------------


def cited(lake: Lake) -> dict[str, list[int]]:
    """The table versions that the evidence of kept incidents cites."""
    kept = lake.scan("incidents").select("incident_id").unique()
    found: dict[str, set[int]] = {}
    texts = lake.scan("diagnoses").join(kept, on="incident_id", how="semi").select("evidence")
    for text in texts.collect()["evidence"].drop_nulls():
        for entry in json.loads(text):
            for table, version in (entry.get("tables") or {}).items():
                if table in TABLES:
                    found.setdefault(table, set()).add(int(version))
    return {table: sorted(versions) for table, versions in found.items()}


def vacuum(
    lake: Lake, name: str, hours: int, keep: Sequence[int], *, dry: bool = False
) -> list[Done]:
    """Delete files that are no longer the table's, and staged ones that never were, once they are
    `hours` old; those of the versions to `keep` stay."""
    opened = lake.open(name)
    versions = [one for one in keep if one < opened.version() and _readable(lake, name, one)]
    files = opened.vacuum(
        retention_hours=hours,
        dry_run=True,
        enforce_retention_duration=False,
        full=True,
        keep_versions=versions or None,
    )
    size = 0
    if lake.folder is not None:
        files = [file for file in files if (lake.folder / name / file).exists()]
        size = sum(_size(lake.folder / name / file) for file in files)
    if not files:
        return []
    if not dry:
        opened.vacuum(
            retention_hours=hours,
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            keep_versions=versions or None,
        )
    return [Done(name, "vacuum", f"unused for {hours} h", 0, len(files), size)]


def _readable(lake: Lake, name: str, version: int) -> bool:
    try:
        lake.open(name, version)
    except UserError:
        return False
    return True


def clean_log(
    lake: Lake, name: str, days: int, keep: Sequence[int], *, dry: bool = False
) -> list[Done]:
    """A checkpoint where many commits lie since the last; log files of versions that are older
    than `days` and that nothing to `keep` needs are deleted. Of an object store the checkpoint
    alone."""
    opened = lake.open(name)
    if opened.metadata().configuration.get(LOGS_KEY) != "false" and not dry:
        opened.alter.set_table_properties({LOGS_KEY: "false"}, raise_if_not_exists=False)
        opened = lake.open(name)
    if lake.folder is None:
        if not dry:
            opened.create_checkpoint()
        return []
    log = lake.folder / name / "_delta_log"
    held = [(version, file) for file in log.iterdir() if (version := _version(file)) is not None]
    points = sorted({int(file.name[:20]) for file in log.glob("*.checkpoint*.parquet")})
    done = list[Done]()
    since = opened.version() - (points[-1] if points else -1)
    if since >= _COMMITS:
        done.append(Done(name, "checkpoint", f"{since} commits since the last", 0, 1))
        if not dry:
            opened.create_checkpoint()
    young = time.time() - days * 86_400
    recent = [int(f.name[:20]) for f in log.glob("*.json") if f.stat().st_mtime >= young]
    first = min([*keep, *recent, opened.version()])
    base = max((one for one in points if one <= first), default=0)
    old = [file for version, file in held if version < base]
    if old:
        size = sum(_size(file) for file in old)
        done.append(Done(name, "log", f"versions before {base}", 0, len(old), size))
        if not dry:
            for file in sorted(old):
                file.unlink(missing_ok=True)
    return done


def _version(file: Path) -> int | None:
    found = re.match(r"(\d{20})\.(json|checkpoint|crc)", file.name)
    return int(found[1]) if found else None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _bytes(files: Sequence[Placed]) -> int:
    return sum(one.size for one in files)
