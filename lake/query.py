"""Read-only SQL over the lake through a locked DuckDB connection.

The text may come from anyone: one SELECT, on a connection of its own, that can read the data
files of the tables the text names and nothing else, and can write nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

import duckdb
import pyarrow as pa

from lake.errors import UserError
from lake.schemas import TABLES
from lake.store import Lake
from lake.wanted import predicates

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def sql(lake: Lake, query: str, versions: Mapping[str, int] | None = None) -> pa.Table:
    """The rows of one SELECT over the lake's tables, each at its newest or the given version.

    Raises UserError for anything that is not one SELECT, and for what DuckDB refuses.
    """
    _check_reading(query)
    named = [name for name in TABLES if re.search(rf"\b{name}\b", query)]
    with _connect() as connection:
        try:
            few = predicates(connection, query)
            _bind(connection, lake, named, versions or {}, few)
            return connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise _refused(lake, named, error) from error


def _refused(lake: Lake, names: Sequence[str], error: duckdb.Error) -> UserError:
    from lake.damage import damage

    return UserError(damage(lake, names) or f"DuckDB could not run the query: {error}")


def holds(name: str, rows: pa.Table, predicate: str) -> pa.ChunkedArray:
    """For each of some rows of a table whether a SQL predicate holds, in their order.

    The predicate sees these rows alone, under the table's name, on a locked connection. What is
    unknown (NULL) is no violation, as in SQL's CHECK. Raises UserError for what is no predicate.
    """
    query = f"SELECT coalesce((\n{predicate}\n)::BOOLEAN, true) AS holds FROM {name}"
    _check_reading(query)
    with _connect() as connection:
        try:
            connection.register(name, rows)
            connection.execute("SET enable_external_access=false")
            connection.execute("SET lock_configuration=true")
            found = connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise UserError(f"DuckDB could not judge the rows: {_line(error)}") from error
    if found.column_names != ["holds"] or found.num_rows != rows.num_rows:
        raise UserError("a predicate says true or false of each row; this one does not.")
    return found["holds"]


def _line(error: Exception) -> str:
    return " ".join(str(error).split("LINE")[0].split())


class Reading:
    """Many SELECTs over some tables at the same versions, on one locked connection.

    `versions` are what was read. Close it, or use it in a `with`.
    """

    def __init__(self, lake: Lake, names: Sequence[str]) -> None:
        self.versions = lake.versions(*names)
        self._lake = lake
        self._connection = _connect()
        _bind(self._connection, lake, list(names), self.versions)

    def sql(self, query: str) -> pa.Table:
        """The rows of one SELECT. Raises UserError as `sql` does."""
        _check_reading(query)
        try:
            return self._connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise _refused(self._lake, list(self.versions), error) from error

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect() -> duckdb.DuckDBPyConnection:
    """A connection in UTC that prints nothing: a query of more than two seconds would draw a bar
    on standard output, amid an answer in JSON."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone='UTC'")
    with suppress(duckdb.InvalidInputException):  # a notebook without ipywidgets: there is no bar
        connection.execute("SET enable_progress_bar=false")
    return connection


def _check_reading(query: str) -> None:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise UserError(f"DuckDB could not read the query: {error}") from error
    if len(statements) != 1 or statements[0].type not in _READING:
        raise UserError(
            "the lake answers one SELECT (or EXPLAIN) at a time and never writes; got"
            f" {', '.join(s.type.name for s in statements) or 'nothing'}."
        )


def _bind(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    names: list[str],
    versions: Mapping[str, int],
    few: Mapping[str, str] | None = None,
) -> None:
    """Make a view for each table, then lock the connection. Of `few` tables only the files that may
    hold rows of a predicate are opened."""
    local = "://" not in lake.root
    files: list[str] = []
    for name in names:
        opened = lake.open(name, versions.get(name))
        if not local:
            connection.register(name, opened.to_pyarrow_dataset())
            continue
        mine = opened.file_uris(file_pruning_predicate=(few or {}).get(name))
        files += mine
        connection.execute(_view(name, mine))
    connection.execute(f"SET allowed_paths={_literal(files)}")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")


def _view(name: str, files: list[str]) -> str:
    table = TABLES[name]
    columns = ", ".join(f'"{column}"' for column in table.schema.names)
    if not files:
        nothing = ", ".join(f'NULL::{_duckdb_type(f.type)} AS "{f.name}"' for f in table.schema)
        return f"CREATE VIEW {name} AS SELECT {nothing} WHERE false"
    kinds = {"date": "DATE"}
    types = ", ".join(f"'{key}': {kinds.get(key, 'VARCHAR')}" for key in table.partition_by)
    hive = f", hive_partitioning=true, hive_types={{{types}}}" if types else ""
    return f"CREATE VIEW {name} AS SELECT {columns} FROM read_parquet({_literal(files)}{hive})"


def _literal(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"MAP({_duckdb_type(kind.key_type)}, {_duckdb_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{_duckdb_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{field.name}" {_duckdb_type(field.type)}' for field in kind)
        return f"STRUCT({fields})"
    plain = {
        pa.string(): "VARCHAR",
        pa.int64(): "BIGINT",
        pa.int32(): "INTEGER",
        pa.float64(): "DOUBLE",
        pa.bool_(): "BOOLEAN",
        pa.date32(): "DATE",
        pa.binary(): "BLOB",
    }
    return "TIMESTAMPTZ" if pa.types.is_timestamp(kind) else plain[kind]
