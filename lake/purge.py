"""Rows that were erased stay out, and files of older versions that hold them are removed.

Delta tables keep the files that older versions are made of, and the bounds of their columns in
the log. Both are searched, and nothing that holds an erased value stays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from deltalake import DeltaTable

from lake import tombstones
from lake.errors import UserError
from lake.files import Placed, placed, read
from lake.store import Lake

Hit = Callable[[str, pl.DataFrame], pl.Series]
_STAGED = 3600  # seconds: a younger file that no version knows may be about to be committed


@dataclass(frozen=True)
class Held:
    """A data file that holds hit rows; `current`: it is part of the table now."""

    table: str
    path: str
    rows: int
    current: bool


def remains(lake: Lake, tables: Sequence[str], hit: Hit) -> list[Held]:
    """Every data file, of whatever version, that holds hit rows."""
    return [one for table in tables for one in _held(lake, table, hit)]


def _held(lake: Lake, table: str, hit: Hit) -> Iterator[Held]:
    assert lake.folder
    folder = lake.folder / table
    now = {one.path for one in placed(lake.open(table))}
    for file in sorted(folder.rglob("*.parquet")):
        path = file.relative_to(folder).as_posix()
        if path.startswith("_delta_log"):
            continue
        part = dict(piece.split("=", 1) for piece in path.split("/")[:-1])
        try:
            rows = read(lake, table, [Placed(path, 0, 0, part)])
        except FileNotFoundError:
            continue  # another writer's, discarded meanwhile
        count = int(hit(table, rows).sum() or 0)
        if count:
            yield Held(table, path, count, path in now)


def bury(lake: Lake, table: str, values: Sequence[str]) -> None:
    """Remember values as erased, so that no commit brings them back; again is once."""

    def commit(opened: DeltaTable) -> None:
        held = tombstones.of(opened)
        more = held.with_more(values)
        if more.hashes != held.hashes:
            opened.alter.set_table_properties(
                {tombstones.KEY: str(more)}, raise_if_not_exists=False
            )

    lake.retry(table, commit)


def erased(lake: Lake, table: str) -> int:
    """How many rows of a raw table were ever erased, those that had been refused among them."""
    refused = f"{tombstones.ERASED}/{table}"
    held = lake.transactions(table, [tombstones.ERASED])[tombstones.ERASED]
    return max(held, 0) + max(lake.transactions("quarantine", [refused])[refused], 0)


def purge(
    lake: Lake, tables: Sequence[str], hit: Hit, values: Sequence[str]
) -> tuple[dict[str, set[int]], list[str]]:
    """Remove old files with hit rows, and the values from logs. Returns, per table, the versions
    that can no longer be read whole, and what still holds something."""
    assert lake.folder
    broken: dict[str, set[int]] = {}
    left = list[str]()
    for table in tables:
        known = _versions(lake, table)
        gone = set[str]()
        for one in _held(lake, table, hit):
            file = lake.folder / table / one.path
            young = time.time() - file.stat().st_mtime < _STAGED
            committed = any(one.path in paths for paths in known.values())
            if one.current or (young and not committed):
                left.append(f"{table}/{one.path}")
            else:
                file.unlink()
                gone.add(one.path)
        hurt = {version for version, paths in known.items() if paths & gone}
        if gone:
            broken[table] = hurt
        left += [f"{table}/_delta_log/{name}" for name in _cleaned(lake, table, values)]
    return broken, left


def _versions(lake: Lake, table: str) -> dict[int, set[str]]:
    """The data files of every version that can be read."""
    assert lake.folder
    found: dict[int, set[str]] = {}
    for file in (lake.folder / table / "_delta_log").glob("*.json"):
        if file.stem.isdigit():
            try:
                opened = lake.open(table, int(file.stem))
            except UserError:
                continue
            found[int(file.stem)] = {one.path for one in placed(opened)}
    return found


def _cleaned(lake: Lake, table: str, values: Sequence[str]) -> list[str]:
    """Logs whose statistics hold a value lose the statistics of that file; names of those that
    hold one still."""
    assert lake.folder
    log = lake.folder / table / "_delta_log"
    wanted = [value.encode() for value in values]
    for file in log.glob("*.json"):
        text = file.read_bytes()
        if any(value in text for value in wanted):
            lines = [_without(line, values) for line in text.decode().splitlines()]
            fresh = file.with_suffix(".new")
            fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
            fresh.replace(file)
    points = [file for file in log.glob("*.checkpoint*.parquet") if _in_checkpoint(file, values)]
    if points:
        lake.open(table).create_checkpoint()
        newest = max(file.name[:20] for file in log.glob("*.checkpoint*.parquet"))
        for file in points:
            if file.name[:20] < newest:
                file.unlink()
    hold = [file for file in log.glob("*.json") if any(v in file.read_bytes() for v in wanted)]
    hold += [file for file in log.glob("*.checkpoint*.parquet") if _in_checkpoint(file, values)]
    return [file.name for file in hold]


def _without(line: str, values: Sequence[str]) -> str:
    """An action of the log without the statistics that hold a value."""
    if not any(value in line for value in values):
        return line
    action = json.loads(line)
    stats = action.get("add", {}).get("stats")
    if stats and any(value in stats for value in values):
        count = json.loads(stats).get("numRecords")
        action["add"]["stats"] = json.dumps({"numRecords": count})
    return json.dumps(action)


def _in_checkpoint(file: Path, values: Sequence[str]) -> bool:
    adds = pq.read_table(file, columns=["add"])["add"].combine_chunks()
    if "stats" not in [adds.type.field(i).name for i in range(adds.type.num_fields)]:
        return False
    texts = pl.Series("stats", adds.field("stats").to_pylist(), dtype=pl.String)
    return bool(texts.str.contains_any(list(values)).any())
