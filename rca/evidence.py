"""Evidence: a claim, the query that shows it, the table versions it ran against, its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from lake import Lake, Reading, UserError, sql
from rca.question import Stretch

if TYPE_CHECKING:
    import pyarrow as pa

CITED = ("spans", "edges", "samples", "series", "logs", "errors", "changes")
ROWS = 20  # of a result that are kept; how many there were stands beside them


class UncitedClaim(Exception):
    """A claim that names no evidence, or evidence that is not there."""


class Ledger:
    """The evidence of one diagnosis, numbered e1, e2, … in the order it was gathered.

    Queries are run one after the other beside what goes on meanwhile; `entries` waits for them.
    """

    def __init__(self, lake: Lake) -> None:
        self._worker = ThreadPoolExecutor(1)
        self._reading = self._worker.submit(Reading, lake, CITED)
        self._entries: list[dict[str, Any]] = []
        self._waiting: list[tuple[dict[str, Any], Future[pa.Table]]] = []

    def add(self, kind: str, claim: str, query: str, tables: Sequence[str]) -> str:
        """Have a query run and what it gives kept; the new entry's id."""
        name = f"e{len(self._entries) + 1}"
        entry = {"id": name, "kind": kind, "claim": claim, "query": query, "tables": tables}
        self._entries.append(entry)
        self._waiting.append((entry, self._worker.submit(self._run, query)))
        return name

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every entry with its result. Raises UserError where a query cannot be run."""
        versions = self._reading.result().versions
        for entry, found in self._waiting:
            result = found.result()
            entry["tables"] = {table: versions[table] for table in entry["tables"]}
            entry |= {"columns": result.column_names, "result": _rows(result)}
            entry["rows"] = result.num_rows
        self._waiting.clear()
        return self._entries

    def _run(self, query: str) -> pa.Table:
        return self._reading.result().sql(query)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown(cancel_futures=True)
        if not self._reading.cancelled() and not self._reading.exception():
            self._reading.result().close()


def _rows(result: pa.Table) -> list[list[Any]]:
    return [[plain(value) for value in row.values()] for row in result.slice(0, ROWS).to_pylist()]


def rerun(lake: Lake, entry: Mapping[str, Any]) -> list[list[Any]]:
    """The entry's query again, against the table versions it cites."""
    return _rows(sql(lake, entry["query"], entry["tables"]))


def find(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An entry of an answer by its id. UserError where there is none."""
    entries = {entry["id"]: entry for entry in answer["evidence"]}
    if name not in entries:
        raise UserError(
            f"the diagnosis of {answer['incident_id']} has no evidence {name!r}; it has"
            f" {', '.join(entries) or 'none'}."
        )
    return dict(entries[name])


def again(lake: Lake, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry's query run again: `fresh` at the versions it cites (None where vacuum removed
    them), `newest` at the versions of now (`versions` of `tables`), whether it `holds`, and what
    that comes to in a sentence (`says`).

    The cited versions are judged by; where they are gone nothing holds or fails.
    """
    lost = gone(lake, entry["tables"])
    versions = lake.versions(*entry["tables"])
    fresh = None if lost else rerun(lake, entry)
    newest = rerun(lake, {**entry, "tables": versions})
    holds = None if fresh is None else _same(fresh, entry["result"])
    moved = (
        "the newest versions give the same"
        if _same(newest, entry["result"])
        else ("the newest versions give something else")
    )
    if lost:
        said = f"{' and '.join(lost)} cannot be read any more: vacuum removed what it cited"
    else:
        said = (
            "it still holds" if holds else "it does not hold: the same versions give something else"
        )
    return {
        "holds": holds,
        "says": f"{said}; {moved}.",
        "fresh": fresh,
        "newest": newest,
        "versions": versions,
    }


def gone(lake: Lake, tables: Mapping[str, int]) -> list[str]:
    """The cited tables whose version is no more: its log, or files it is made of."""
    lost = []
    for name, version in tables.items():
        try:
            files = lake.open(name, version).file_uris()
        except UserError:
            lost.append(f"{name} at version {version}")
            continue
        if lake.folder is not None and not all(Path(unquote(file)).exists() for file in files):
            lost.append(f"{name} at version {version}")
    return lost


def _same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two results are the same rows, in any order."""
    return sorted(map(str, some)) == sorted(map(str, others))


def check(answer: Mapping[str, Any]) -> None:
    """Raise UncitedClaim when a suspect, a change, an edge or an exclusion cites nothing."""
    known = {entry["id"] for entry in answer["evidence"]}
    claims = [*answer["suspects"], *answer["propagation"], *answer["ruled_out"]]
    claims += [answer["root_cause_change"]] if answer["root_cause_change"] else []
    for claim in claims:
        if not claim["evidence"] or not set(claim["evidence"]) <= known:
            raise UncitedClaim(f"no evidence for {claim}")


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return None if value != value else float(f"{value:.6g}")
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return value


def stamp(moment: datetime) -> str:
    """A time as text, in UTC, to the millisecond where it has parts of a second."""
    text = moment.astimezone(UTC).isoformat(
        timespec="milliseconds" if moment.microsecond else "seconds"
    )
    return text.replace("+00:00", "Z")


def quoted(text: str) -> str:
    """A text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def between(column: str, stretch: Stretch) -> str:
    """A condition on a time column, with its days, so that other partitions are not read."""
    table = column.rsplit(".", 1)[0] + "." if "." in column else ""
    start, end = stretch
    return (
        f"({table}date between date '{start.date()}' and date '{end.date()}'"
        f" and {column} >= timestamptz '{stamp(start)}' and {column} < timestamptz '{stamp(end)}')"
    )
