"""What was erased on request stays out: salted hashes in a property of each raw table, by which a
commit leaves the same rows out when a source delivers them again."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from lake.schemas import Table
from lake.stage import Staged, stage

KEY = "rootlake.erased"  # `SALT:HASH,HASH,…`
ERASED = "erased"  # app transaction: rows that were erased, or left out, so far
COLUMNS = ("trace_id", "user_hash")


@dataclass(frozen=True)
class Tombs:
    """The hashes of a table's erased values, and their salt."""

    salt: str = ""
    hashes: frozenset[str] = frozenset()

    def of(self, value: str) -> str:
        """A value's hash; case is no difference."""
        key = bytes.fromhex(self.salt)
        return hashlib.blake2b(value.lower().encode(), key=key, digest_size=16).hexdigest()

    def hit(self, rows: pl.DataFrame) -> pl.Series:
        """Which rows were erased before."""
        found = pl.repeat(value=False, n=rows.height, eager=True)
        for name in COLUMNS:
            if self.hashes and name in rows.columns:
                text = rows[name].cast(pl.String)
                known = text.unique().drop_nulls().to_list()
                gone = [value for value in known if self.of(value) in self.hashes]
                found |= text.is_in(gone).fill_null(value=False)
        return found

    def with_more(self, values: Iterable[str]) -> Tombs:
        """The same and some more."""
        salted = Tombs(self.salt or secrets.token_hex(16), self.hashes)
        return Tombs(salted.salt, self.hashes | {salted.of(value) for value in values})

    def __str__(self) -> str:
        return f"{self.salt}:{','.join(sorted(self.hashes))}"


def of(opened: DeltaTable) -> Tombs:
    """What was erased from a table, as it was opened."""
    salt, _, hashes = opened.metadata().configuration.get(KEY, ":").partition(":")
    return Tombs(salt, frozenset(hashes.split(",")) - {""})


def marks(opened: DeltaTable, gone: int) -> dict[str, int]:
    """The app transaction that counts rows erased from a table, with some more."""
    return {ERASED: (opened.transaction_version(ERASED) or 0) + gone} if gone else {}


@dataclass
class Pending:
    """Staged files on their way into a table; `gone` rows of them were erased before."""

    folder: Path
    table: Table
    files: list[Staged]
    gone: int = 0

    def strip(self, tombs: Tombs) -> None:
        """Leave out what was erased; the files that held it are removed."""
        for one in self.files[:] if tombs.hashes else ():
            rows = pl.read_parquet(self.folder / one.path, hive_partitioning=False)
            hit = tombs.hit(rows)
            if not hit.any():
                continue
            rest = rows.filter(~hit).with_columns(
                pl.lit(value, pl.String).alias(key) for key, value in one.partition.items()
            )
            self.files.remove(one)
            self.files += stage(self.folder, self.table, rest) if rest.height else []
            self.gone += int(hit.sum())
            (self.folder / one.path).unlink()
