"""Which files a SELECT need not open, told from the query itself.

DuckDB opens every file of a table to see what it may hold; Delta's log says it of all at once. A
query whose every use of a table is for one value of a column with a bloom filter reads only the
files whose statistics allow that value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import msgspec

from lake.schemas import TABLES

Node = dict[str, Any]


def predicates(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """Table → a predicate that holds for every row of it that the query can use; tables of which it
    may use any row are left out."""
    tables = {name: one.bloom for name, one in TABLES.items() if one.bloom and name in query}
    if not tables:
        return {}
    text = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0][0]
    nodes = list(_nodes(msgspec.json.decode(text)))
    found = {name: _of_table(nodes, query, name, columns) for name, columns in tables.items()}
    return {name: predicate for name, predicate in found.items() if predicate}


def _nodes(tree: Any) -> Iterator[Node]:
    if isinstance(tree, dict):
        yield tree
    for one in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(one)


def _of_table(nodes: Sequence[Node], query: str, name: str, columns: Sequence[str]) -> str | None:
    """What all uses of a table ask for; None where one is not a plain SELECT FROM it, or asks for
    anything else."""
    told = len(re.findall(rf"\b{name}\b", query, re.IGNORECASE))
    asked = [
        _equal(node.get("where_clause"), _called(node["from_table"], name, columns))
        for node in nodes
        if node.get("type") == "SELECT_NODE" and _is(node.get("from_table"), name)
    ]
    if len(asked) != told:
        return None
    values = [one for one in asked if one is not None]
    return " OR ".join(values) if len(values) == told else None


def _is(source: Any, name: str) -> bool:
    match source:
        case {"type": "BASE_TABLE", "table_name": str(named), "column_name_alias": []}:
            return named.lower() == name
    return False


def _called(source: Node, name: str, columns: Sequence[str]) -> list[list[str]]:
    """How the columns may be written."""
    return [[*of, one] for one in columns for of in ([], [source["alias"] or name])]


def _equal(where: Any, columns: Sequence[list[str]]) -> str | None:
    """The column and value that a WHERE demands of all rows, as SQL."""
    match where:
        case {"type": "CONJUNCTION_AND", "children": [*children]}:
            return next((one for part in children if (one := _equal(part, columns))), None)
        case {"type": "COMPARE_EQUAL", "left": left, "right": right}:
            return _pair(left, right, columns) or _pair(right, left, columns)
    return None


def _pair(one: Any, other: Any, columns: Sequence[list[str]]) -> str | None:
    match one, other:
        case (
            {"type": "COLUMN_REF", "column_names": [*column]},
            {"type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": str(value)}},
        ) if column in columns:
            return f"{column[-1]} = '" + value.replace("'", "''") + "'"
    return None
