"""Reads and writes of the lake's Delta tables: the only module that touches their files.

A lake is a folder or an object-store prefix with one Delta table per name in `schemas.TABLES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lake import frames, tombstones
from lake.errors import ConflictError, LakeVersionError, UserError, first_line
from lake.frames import Rows
from lake.lock import locked
from lake.schemas import FORMAT, TABLES, Table
from lake.stage import Staged, stage, writer
from lake.tombstones import Pending

FORMAT_KEY = "rootlake.format"
LOGS_KEY = "delta.enableExpiredLogCleanup"  # old versions go when nothing cites them: `maintain`
_ATTEMPTS = 20
_T = TypeVar("_T")

Partition = Mapping[str, str | date]
Transactions = Mapping[str, int]


class Lake:
    """The tables under one root.

    `root` is a local path or an object-store URL (s3://, gs://, az://…), `storage_options`
    what deltalake takes for it. Nothing is read or made until a method needs it.
    """

    def __init__(
        self, root: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None
    ) -> None:
        text = os.fspath(root).rstrip("/") or "/"
        self.root = text if "://" in text else os.path.abspath(os.path.expanduser(text))
        self.storage_options = dict(storage_options or {})

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    # -- existence -------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether every table is there."""
        return all(self._is_table(name) for name in TABLES)

    def writable(self, name: str = "") -> bool:
        """Whether this process may write here, or to a table; an object store tells when tried."""
        return self.folder is None or os.access(self.folder / name, os.W_OK)

    def create(self) -> Lake:
        """Make the tables that are not there yet, with their full schema; existing ones stay.

        Raises LakeVersionError when a table was written by a newer rootlake, UserError when
        the place cannot be written.
        """
        for table in TABLES.values():
            if self._is_table(table.name):
                self.open(table.name)
                continue
            self._make(table)
        return self

    def require(self) -> Lake:
        """Itself, or UserError where there is no lake yet."""
        if not self._is_table("raw_spans"):
            raise UserError(
                f"there is no lake at {self.root}; `rootlake demo` or `rootlake ingest` makes one,"
                " --lake names another place."
            )
        for name in TABLES:
            self.open(name)
        return self

    def _make(self, table: Table) -> None:
        try:
            DeltaTable.create(
                self.uri(table.name),
                table.schema,
                mode="ignore",
                partition_by=list(table.partition_by),
                configuration={FORMAT_KEY: str(FORMAT), LOGS_KEY: "false"},
                storage_options=self.storage_options,
                raise_if_key_not_exists=False,
            )
        except (OSError, DeltaError) as error:
            raise UserError(
                f"cannot make the table {self.uri(table.name)}: {first_line(error)}"
            ) from error

    def _is_table(self, name: str) -> bool:
        return DeltaTable.is_deltatable(self.uri(name), self.storage_options)

    def uri(self, name: str) -> str:
        """Where the table lies."""
        return f"{self.root}/{table_of(name).name}"

    # -- reading ---------------------------------------------------------------------------

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

    # -- one at a time -----------------------------------------------------------------------

    @contextmanager
    def lock(self, what: str, wait: float = 0.0) -> Iterator[None]:
        """Hold a name in this lake; a second holder waits, then UserError names the first.

        The lock is the operating system's and goes with the process, however it ends. A lake in
        an object store has none: there a second writer is refused at the commit.
        """
        if "://" in self.root:
            yield
            return
        with locked(Path(self.root), what, wait):
            yield

    # -- writing ---------------------------------------------------------------------------

    def append(
        self,
        name: str,
        rows: Rows,
        transactions: Transactions | None = None,
        after: Transactions | None = None,
        *,
        ordered: bool = False,
    ) -> bool:
        """Add rows in one commit; False, and nothing written, if that batch landed before.

        `transactions` maps app ids to versions; a batch counts as landed when every one of
        its app ids is at that version or beyond. `after` maps app ids to the version they must
        have now (-1: none), or ConflictError is raised. `ordered`: the rows are in the table's
        order already. Raises SchemaError before anything is
        written, ConflictError when other writers keep winning.
        """
        table = table_of(name)
        frame = frames.fit(table, rows, ordered=ordered)
        staged = None
        if self.folder is not None:
            files = stage(self.folder / name, table, frame)
            staged = Pending(self.folder / name, table, files)

        def commit(opened: DeltaTable) -> bool:
            if transactions and _landed(opened, transactions):
                return False
            self._unmoved(name, opened, after or {})
            if staged is None:
                hit = tombstones.of(opened).hit(frame)
                marks = {**(transactions or {}), **tombstones.marks(opened, int(hit.sum()))}
                self.write(name, opened, frame.filter(~hit), marks, mode="append")
            else:
                self._add(name, opened, staged, transactions)
            return True

        return self.retry(name, commit)

    def unmoved(self, name: str, after: Transactions) -> None:
        """ConflictError unless each app id is at the version given (-1: none)."""
        if after:
            self._unmoved(name, self.open(name), after)

    def _unmoved(self, name: str, opened: DeltaTable, after: Transactions) -> None:
        for app, version in after.items():
            held = opened.transaction_version(app)
            if (-1 if held is None else held) != version:
                raise ConflictError(
                    f"another run has moved the position of {app} in {self.uri(name)} since"
                    " this one began; nothing was written, run it again."
                )

    @property
    def folder(self) -> Path | None:
        """Where a local lake lies; None for an object store."""
        return None if "://" in self.root else Path(self.root)

    def commit(self, name: str, staged: Sequence[Staged], transactions: Transactions) -> bool:
        """Add staged files in one commit; False, and nothing added, if they landed before."""
        assert self.folder
        pending = Pending(self.folder / name, table_of(name), list(staged))

        def commit(opened: DeltaTable) -> bool:
            if _landed(opened, transactions):
                return False
            self._add(name, opened, pending, transactions)
            return True

        return self.retry(name, commit)

    def _add(
        self,
        name: str,
        opened: DeltaTable,
        staged: Pending,
        transactions: Transactions | None,
    ) -> None:
        """Commit files that lie there already, through the handle that was looked at."""
        staged.strip(tombstones.of(opened))
        known = {**(transactions or {}), **tombstones.marks(opened, staged.gone)}
        marks = [Transaction(app, version) for app, version in known.items()]
        opened.create_write_transaction(
            [one.action() for one in staged.files],
            mode="append",
            schema=opened.schema(),
            partition_by=list(table_of(name).partition_by),
            commit_properties=CommitProperties(app_transactions=marks or None),
        )

    def replace(
        self,
        name: str,
        partition: Partition,
        rows: Rows,
        transactions: Transactions | None = None,
    ) -> None:
        """Put `rows` in the place of everything a partition holds, in one commit.

        A reader sees all of the old or all of the new. Rows outside the partition raise
        SchemaError.
        """
        frame = frames.fit(table_of(name), rows)
        frames.check_inside(name, partition, frame)
        where = where_in(partition)

        def commit(opened: DeltaTable) -> None:
            self.write(name, opened, frame, transactions, mode="overwrite", predicate=where)

        self.retry(name, commit)

    def replace_day(
        self, name: str, day: date, rows: Rows, transactions: Transactions | None = None
    ) -> None:
        """Put `rows` in the place of one day of an event table, in one commit."""
        self.replace(name, {"date": day}, rows, transactions)

    def swap_day(
        self,
        name: str,
        day: date,
        staged: Sequence[Staged],
        transactions: Transactions | None = None,
    ) -> None:
        """Put staged files in the place of one day of an event table, in one commit.

        A reader sees all of the old or all of the new; a writer that came in between is noticed,
        and the day is planned again.
        """
        self.retry(name, lambda opened: self._swap(opened, day, staged, transactions))

    def _swap(
        self,
        opened: DeltaTable,
        day: date,
        staged: Sequence[Staged],
        transactions: Transactions | None,
    ) -> None:
        marks = [Transaction(app, version) for app, version in (transactions or {}).items()]
        opened.create_write_transaction(
            [one.action() for one in staged],
            mode="overwrite",
            schema=opened.schema(),
            partition_by=["date"],
            partition_filters=[("date", "=", str(day))],
            commit_properties=CommitProperties(
                app_transactions=marks or None, max_commit_retries=0
            ),
        )

    def update(self, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> bool:
        """Rewrite a small table by a pure function of its rows, in one commit.

        False, and no commit, when the function changes nothing. Run again from the newest
        rows when another writer came in between.
        """

        def commit(opened: DeltaTable) -> bool:
            columns = table_of(name).schema.names
            before = frames.fit(table_of(name), pl.scan_delta(opened).select(columns).collect())
            after = frames.fit(table_of(name), change(before))
            if after.equals(before):
                return False
            self.write(name, opened, after, None, mode="overwrite")
            return True

        return self.retry(name, commit)

    def write(
        self,
        name: str,
        opened: DeltaTable,
        frame: pl.DataFrame,
        transactions: Transactions | None,
        retries: int | None = None,
        **how: Any,
    ) -> None:
        """One commit through the handle that was looked at, so a racing writer is noticed; with no
        `retries` any other commit is one."""
        if not self.writable(name):
            raise UserError(
                f"{self.uri(name)} cannot be written to from here; nothing was changed."
            )
        marks = [Transaction(app, version) for app, version in (transactions or {}).items()]
        write_deltalake(
            opened,
            frames.plain(frame).to_arrow(),
            writer_properties=writer(table_of(name)),
            commit_properties=CommitProperties(
                max_commit_retries=retries, app_transactions=marks or None
            ),
            **how,
        )

    def retry(self, name: str, commit: Callable[[DeltaTable], _T]) -> _T:
        """What `commit` gives of the table as it is now, again as long as other writers are faster;
        ConflictError when they kept being."""
        for _ in range(_ATTEMPTS):
            try:
                return commit(self.open(name))
            except CommitFailedError:
                continue
        raise ConflictError(
            f"other writers kept changing {self.uri(name)}; nothing was written, try again."
        )


def table_of(name: str) -> Table:
    """The declaration of a table; UserError for a name there is none of."""
    try:
        return TABLES[name]
    except KeyError:
        raise UserError(f"there is no table {name!r}; there are {', '.join(TABLES)}.") from None


def _landed(opened: DeltaTable, transactions: Transactions) -> bool:
    found = {app: opened.transaction_version(app) for app in transactions}
    return all(have is not None and have >= transactions[app] for app, have in found.items())


def where_in(partition: Partition) -> str:
    """A partition as a predicate."""
    quoted = {key: str(value).replace("'", "''") for key, value in partition.items()}
    return " AND ".join(f"{key} = '{value}'" for key, value in quoted.items())
