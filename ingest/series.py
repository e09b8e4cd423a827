"""Series described once: the same labels come in window after window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ingest.batch import Place
from ingest.openmetrics import describe

_TEXTS = ("metric", "type", "unit", "help", "cluster", "namespace", "environment")
_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(_TEXTS, pl.String),
    "series": pl.Int64,
    "labels": pl.List(pl.Struct({"key": pl.String, "value": pl.String})),
}


class Catalog:
    """What a server's series are called and of which kind they are."""

    def __init__(self, about: Mapping[str, Mapping[str, str]]) -> None:
        self.about = {"TYPE": {}, "UNIT": {}, "HELP": {}, **about}
        self._known: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
        self._last: tuple[tuple[list[tuple[tuple[str, str], ...]], Place], pl.DataFrame] | None
        self._last = None

    def row(self, labels: tuple[tuple[str, str], ...], place: Place) -> dict[str, Any]:
        """One series as a row of `series`, with the place its samples get."""
        known = self._known.get(labels)
        if known is None:
            rest = {key: value for key, value in labels if key != "__name__"}
            name = dict(labels).get("__name__", "")
            known = describe(name, rest, self.about, place)
            self._known[labels] = known
        return known

    def frame(self, labels: Sequence[tuple[tuple[str, str], ...]], place: Place) -> pl.DataFrame:
        """A row per series, `row` its position. The last answer is kept: mostly the next window
        has the same series."""
        asked = (list(labels), place)
        if self._last is None or self._last[0] != asked:
            rows = [self.row(one, place) for one in labels]
            found = pl.DataFrame(rows, schema=_SCHEMA).with_row_index("row")
            found = found.with_columns(pl.col("labels").cast(pl.Map(pl.String, pl.String)))
            self._last = asked, found
        return self._last[1]
