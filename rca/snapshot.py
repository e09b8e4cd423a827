"""A lake as it is at one moment: every table at the version it had when it was first looked at."""

from __future__ import annotations

from threading import Lock

import polars as pl
from deltalake import DeltaTable

from lake import Lake


class Snapshot(Lake):
    """A lake to read only, each of its tables opened once: what is scored and what is cited as
    evidence are the same rows, though others write meanwhile."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.root, lake.storage_options)
        self._opened: dict[str, DeltaTable] = {}
        self._scans: dict[str, pl.LazyFrame] = {}
        self._lock = Lock()

    def open(self, name: str, version: int | None = None) -> DeltaTable:
        """The table as it was when first opened here, or at the version given."""
        if version is not None and version != self.versions(name)[name]:
            return super().open(name, version)
        with self._lock:
            if name not in self._opened:
                self._opened[name] = super().open(name)
            return self._opened[name]

    def scan(self, name: str, version: int | None = None) -> pl.LazyFrame:
        """As of a lake, of the same rows each time."""
        if version is not None:
            return super().scan(name, version)
        if name not in self._scans:
            self._scans[name] = super().scan(name)
        return self._scans[name]
