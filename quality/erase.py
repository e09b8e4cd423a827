"""A user's or a trace's rows erased everywhere, and kept out for good.

Order: a tombstone first, so that no ingest brings them back; then the raw rows; then everything
made of them; then evidence; then the files of older versions that held them. Each step finds what
is left to do, so a run that was killed is completed by the same command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from lake import TABLES, Lake, UsageError, UserError
from lake.files import Placed, discard, exchange, placed, read
from lake.purge import bury, purge, remains
from lake.stage import stage
from lake.tombstones import ERASED
from quality.explain import explain
from quality.rules import id_format
from quality.run import repair

_SAY = Callable[[str], None]
_RAW = ("raw_spans", "raw_logs", "raw_errors", "exemplars")
_MADE = ("spans", "logs", "errors", "repairs", "quarantine")
_GONE = "[erased]"
_LEAST = 8  # characters of a value: shorter ones stand in text by chance


@dataclass(frozen=True)
class Target:
    """What is erased: a column's `values` in any notation they were received in, raw spans by
    their `keys` (batch:arrival), and whatever text holds one of the values."""

    column: str
    values: frozenset[str]
    keys: frozenset[str] = frozenset()

    def hit(self, table: str, rows: pl.DataFrame) -> pl.Series:
        """Which rows of a table are of it."""
        found = pl.lit(value=False)
        if self.column in rows.columns:
            found |= pl.col(self.column).is_in(list(self.values))
        if table == "raw_spans":
            found |= pl.format("{}:{}", "batch", "arrival").is_in(list(self.keys))
        if table == "repairs":
            found |= pl.col("row_key").is_in(list(self.keys))
        for name, kind in rows.schema.items():
            if kind == pl.String and name not in {"batch", "source", "run_id", self.column}:
                found |= _holds(pl.col(name), self.values)
            if isinstance(kind, pl.Map):
                pairs = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
                texts = pl.col(name).cast(pairs).list.eval(pl.element().struct.field("value"))
                found |= _holds(texts.list.join("\n", ignore_nulls=True), self.values)
        return rows.select(found.fill_null(value=False).alias("hit")).to_series()


def _holds(text: pl.Expr, values: Iterable[str]) -> pl.Expr:
    return text.str.contains_any(sorted(values), ascii_case_insensitive=True)


def erase(
    lake: Lake, kind: str, value: str, *, dry: bool = False, say: _SAY | None = None
) -> dict[str, Any]:
    """Erase `kind` 'trace' or 'user' (by its user_hash): rows per table, `files` removed, `notes`,
    and what is `left`, by file. Raises UserError where nothing of it was ever in the lake."""
    tell = say or (lambda _text: None)
    if len(value.strip()) < _LEAST:
        raise UsageError(f"{value!r} is too short for a {kind}; give the whole id or hash.")
    if lake.folder is None:
        raise UserError("erasure reads every old file; it works on a local lake only so far.")
    with lake.lock("rootlake maintain"):
        target = _target(lake, kind, value)
        old = remains(lake, _every(), target.hit)
        if not old:
            raise UserError(f"there is no row of {kind} {value!r}; nothing was erased.")
        counts: dict[str, int] = {}
        for one in old:
            counts[one.table] = counts.get(one.table, 0) + one.rows * one.current
        out = {
            "erased": {kind: value},
            "dry_run": dry,
            "rows": {table: count for table, count in counts.items() if count},
            "files": len(old),
            "notes": _notes(lake, target),
            "left": [],
        }
        if dry:
            return out
        for table in _RAW:
            tell(f"tombstone {table}")
            bury(lake, table, sorted(target.values))
        for table in (*_RAW, *_MADE):
            tell(table)
            _rewrite(lake, table, target)
        tell("evidence")
        _evidence(lake, target)
    tell("repair")
    repair(lake)
    with lake.lock("rootlake maintain"):
        tell("old files")
        removed, left = purge(lake, _every(), target.hit, sorted(target.values))
        _cite_again(lake, removed)
        out["files"] = len(removed)
        out["left"] = left
    return out


def _every() -> tuple[str, ...]:
    return tuple(TABLES)


def _target(lake: Lake, kind: str, value: str) -> Target:
    if kind == "user":
        return Target("user_hash", frozenset([value]))
    names, keys = {value.strip()}, set[str]()
    canonical = id_format.canonical(value, 32)
    names |= {canonical} if canonical else set()
    try:
        found = explain(lake, value)
    except UserError:
        return Target("trace_id", frozenset(names))
    names.add(found["trace_id"])
    for one in (*found["spans"], *found["merged"], *found["quarantined"]):
        keys |= {one["row_key"]} - {None}
    return Target("trace_id", frozenset(names | _received(lake, keys)), frozenset(keys))


def _received(lake: Lake, keys: set[str]) -> set[str]:
    """The trace ids under which raw rows were received that no other row has."""
    key = pl.format("{}:{}", "batch", "arrival").is_in(list(keys))
    ids = lake.scan("raw_spans").filter(key).select("trace_id").unique()
    others = lake.scan("raw_spans").filter(~key).join(ids, on="trace_id", how="semi")
    found = ids.join(others.select("trace_id").unique(), on="trace_id", how="anti").collect()
    return {name for name in found["trace_id"].drop_nulls() if len(name.strip("0x-")) >= _LEAST}


def _rewrite(lake: Lake, table: str, target: Target) -> None:
    """The table without the target's rows: file after file, only files that hold some."""
    assert lake.folder
    for _ in range(20):
        again = False
        for one in placed(lake.open(table)):
            again |= not _rewritten(lake, table, one, target)
        if not again:
            return
    raise UserError(f"other writers kept replacing files of {table}; run it again to go on.")


def _rewritten(lake: Lake, table: str, one: Placed, target: Target) -> bool:
    """One file; False when it was replaced by another writer meanwhile."""
    assert lake.folder
    rows = read(lake, table, [one])
    hit = target.hit(table, rows)
    if not hit.any():
        return True
    rest = rows.filter(~hit)
    new = stage(lake.folder / table, TABLES[table], rest) if rest.height else []
    mark = f"{ERASED}/{one.partition['table_name']}" if table == "quarantine" else ERASED
    if exchange(lake, table, [one], new, {mark: int(hit.sum())}):
        return True
    discard(lake.folder / table, new)
    return False


# -- evidence ------------------------------------------------------------------------------


def _evidence(lake: Lake, target: Target) -> None:
    """Values replaced in what was concluded: diagnoses, incidents, cases, templates."""
    for table in ("diagnoses", "incidents", "cases", "templates"):
        lake.update(table, partial(_redacted, values=sorted(target.values)))


def _redacted(rows: pl.DataFrame, values: Sequence[str]) -> pl.DataFrame:
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    return rows.with_columns(
        pl.col(name).str.replace_many(
            list(values), [_GONE] * len(values), ascii_case_insensitive=True
        )
        for name in texts
    )


def _cite_again(lake: Lake, removed: Mapping[str, set[int]]) -> None:
    """Evidence that cites a version of which files were removed cites today's."""
    now = {table: lake.version(table) for table in removed}
    if not now:
        return

    def moved(entry: dict[str, Any]) -> dict[str, Any]:
        tables = {
            table: now[table] if version in removed.get(table, ()) else version
            for table, version in (entry.get("tables") or {}).items()
        }
        return {**entry, "tables": tables} if "tables" in entry else entry

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        out = []
        for row in rows.to_dicts():
            evidence = [moved(one) for one in json.loads(row["evidence"] or "[]")]
            answer = json.loads(row["answer"] or "null")
            if isinstance(answer, dict) and "evidence" in answer:
                answer["evidence"] = [moved(one) for one in answer["evidence"]]
            texts = {"evidence": evidence, "answer": answer}
            out.append(
                {
                    **row,
                    **{
                        name: row[name]
                        if json.loads(row[name] or "null") == value
                        else json.dumps(value, ensure_ascii=False)
                        for name, value in texts.items()
                    },
                }
            )
        return pl.DataFrame(out, schema=rows.schema)

    lake.update("diagnoses", change)


def _notes(lake: Lake, target: Target) -> list[str]:
    """What the user may want to erase besides."""
    if target.column != "user_hash":
        return []
    hit = pl.col("user_hash").is_in(list(target.values))
    traces = lake.scan("errors").filter(hit).select("trace_id").unique().collect()["trace_id"]
    names = sorted(traces.drop_nulls())
    if not names:
        return []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [
        f"the traces of these errors are not erased by it ({shown}); --erase trace=… erases one"
    ]
