"""Evidence: a claim, the query that shows it, the table versions it ran against, its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from lake import Lake, sql
from rca.question import Stretch

ROWS = 20  # of a result that are kept; how many there were stands beside them


class UncitedClaim(Exception):
    """A claim that names no evidence, or evidence that is not there."""


class Ledger:
    """The evidence of one diagnosis, numbered e1, e2, … in the order it was gathered."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._versions: dict[str, int] = {}
        self.entries: list[dict[str, Any]] = []

    def add(self, kind: str, claim: str, query: str, tables: Sequence[str]) -> str:
        """Run a query and keep what it gave; the new entry's id."""
        versions = {name: self._version(name) for name in tables}
        result = sql(self._lake, query, versions)
        name = f"e{len(self.entries) + 1}"
        rows = [
            [plain(value) for value in row.values()] for row in result.slice(0, ROWS).to_pylist()
        ]
        self.entries.append(
            {
                "id": name,
                "kind": kind,
                "claim": claim,
                "query": query,
                "tables": versions,
                "columns": result.column_names,
                "result": rows,
                "rows": result.num_rows,
            }
        )
        return name

    def _version(self, name: str) -> int:
        if name not in self._versions:
            self._versions[name] = self._lake.version(name)
        return self._versions[name]


def rerun(lake: Lake, entry: Mapping[str, Any]) -> list[list[Any]]:
    """The entry's query again, against the table versions it cites."""
    result = sql(lake, entry["query"], entry["tables"])
    return [[plain(value) for value in row.values()] for row in result.slice(0, ROWS).to_pylist()]


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
