"""The lake's Delta tables, as they are read.

A lake is a folder or an object-store prefix with one Delta table per name in `schemas.TABLES`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Self

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lake.errors import LakeVersionError, UserError, first_line
from lake.schemas import FORMAT, TABLES, Table

FORMAT_KEY = "rootlake.format"
Partition = Mapping[str, str | date]


class Tables:
    """The tables under one root, to be read.

    `root` is a local path or an object-store URL (s3://, gs://, az://…), `storage_options`
    what deltalake takes for it. Nothing is read until a method needs it.
    """

    def __init__(
        self, root: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None
    ) -> None:
        text = os.fspath(root).rstrip("/") or "/"
        self.root = text if "://" in text else os.path.abspath(os.path.expanduser(text))
        self.storage_options = dict(storage_options or {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r})"

    def exists(self) -> bool:
        """Whether every table is there."""
        return all(self._is_table(name) for name in TABLES)

    def writable(self, name: str = "") -> bool:
        """Whether this process may write here, or to a table; an object store tells when tried."""
        return self.folder is None or os.access(self.folder / name, os.W_OK)

    def require(self) -> Self:
        """Itself, or UserError where there is no lake yet."""
        if not self._is_table("raw_spans"):
            raise UserError(
                f"there is no lake at {self.root}; `rootlake demo` or `rootlake ingest` makes one,"
                " --lake names another place."
            )
        for name in TABLES:
            self.open(name)
        return self

    @property
    def folder(self) -> Path | None:
        """Where a local lake lies; None for an object store."""
        return None if "://" in self.root else Path(self.root)

    def _is_table(self, name: str) -> bool:
        return DeltaTable.is_deltatable(self.uri(name), self.storage_options)

    def uri(self, name: str) -> str:
        """Where the table lies."""
        return f"{self.root}/{table_of(name).name}"

    def open(self, name: str, version: int | None = None) -> DeltaTable:
        """The Delta table, at a version or at its newest."""
        try:
            opened = DeltaTable(
                self.uri(name), version=version, storage_options=self.storage_options
            )
        except TableNotFoundError as error:
            raise UserError(
                f"the lake at {self.root} has no table {name}; `rootlake ingest` makes it."
            ) from error
        except DeltaError as error:
            raise LakeVersionError(
                f"cannot read {self.uri(name)}: {first_line(error)};"
                " it may need a newer rootlake, or the version asked for is gone."
            ) from error
        found = opened.metadata().configuration.get(FORMAT_KEY, str(FORMAT))
        if not found.isdigit() or int(found) > FORMAT:
            raise LakeVersionError(
                f"the lake at {self.root} has format {found}, this rootlake reads up to {FORMAT};"
                " upgrade rootlake. Nothing was changed."
            )
        return opened

    def version(self, name: str) -> int:
        """The table's newest version."""
        return int(self.open(name).version())

    def versions(self, *names: str) -> dict[str, int]:
        """The newest version of each named table."""
        return {name: self.version(name) for name in names}

    def transactions(self, name: str, apps: Iterable[str]) -> dict[str, int]:
        """The version last committed under each app transaction; -1 where it never was."""
        opened = self.open(name)
        found = {app: opened.transaction_version(app) for app in apps}
        return {app: -1 if version is None else int(version) for app, version in found.items()}

    def scan(self, name: str, version: int | None = None) -> pl.LazyFrame:
        """The table as a polars LazyFrame in declared column order.

        Filters on `date` prune partitions, others prune files by their statistics.
        """
        opened = self.open(name, version)
        columns = table_of(name).schema.names
        return pl.scan_delta(opened).select(columns)

    def read(self, name: str) -> pl.DataFrame:
        """The whole table; for the small ones."""
        return self.scan(name).collect()

    def days(self, name: str) -> list[date]:
        """The days an event table holds rows of, in order."""
        parts = self.open(name).partitions()
        return sorted({date.fromisoformat(str(part["date"])) for part in parts})

    def files(self, name: str, partition: Partition | None = None) -> list[str]:
        """The data files that make up a table now, or one partition of it."""
        where = where_in(partition) if partition else None
        return sorted(self.open(name).file_uris(file_pruning_predicate=where))


def table_of(name: str) -> Table:
    """The declaration of a table; UserError for a name there is none of."""
    try:
        return TABLES[name]
    except KeyError:
        raise UserError(f"there is no table {name!r}; there are {', '.join(TABLES)}.") from None


def where_in(partition: Partition) -> str:
    """A partition as a predicate."""
    quoted = {key: str(value).replace("'", "''") for key, value in partition.items()}
    return " AND ".join(f"{key} = '{value}'" for key, value in quoted.items())
