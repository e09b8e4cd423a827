"""Writes of the lake's Delta tables, each one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from deltalake.exceptions import CommitFailedError, DeltaError

from lake import frames, tombstones
from lake.errors import ConflictError, UserError, first_line
from lake.frames import Rows
from lake.lock import locked
from lake.schemas import FORMAT, TABLES, Table
from lake.stage import Staged, stage, writer
from lake.tables import FORMAT_KEY, Partition, Tables, table_of, where_in
from lake.tombstones import Pending

LOGS_KEY = "delta.enableExpiredLogCleanup"  # old versions go when nothing cites them: `maintain`
_ATTEMPTS = 20
_T = TypeVar("_T")

Transactions = Mapping[str, int]


class Lake(Tables):
    """The tables under one root, read and written; nothing is made until a method needs it."""

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


def _landed(opened: DeltaTable, transactions: Transactions) -> bool:
    found = {app: opened.transaction_version(app) for app in transactions}
    return all(have is not None and have >= transactions[app] for app, have in found.items())
