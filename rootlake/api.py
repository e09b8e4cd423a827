"""The Python API: tables as lazy frames, SQL, diagnosis.

>>> lake = Lake("./lake")                              # doctest: +SKIP
>>> lake.spans.filter(pl.col("status") == "error")     # doctest: +SKIP
>>> lake.diagnose(at="2025-03-11T14:07Z").report()     # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from lake import TABLES
from lake import Lake as Tables
from lake import sql as query
from rootlake.scan import scanned
from rootlake.times import moment


class Diagnosis:
    """One diagnosis; `answer` is the object that `rootlake diagnose --json` prints."""

    def __init__(self, lake: Tables, answer: Mapping[str, Any]) -> None:
        self.answer = dict(answer)
        self._lake = lake

    def __getitem__(self, key: str) -> Any:
        return self.answer[key]

    def report(self) -> None:
        """Print it as the command line does."""
        from rich.console import Console

        from rca.report.terminal import render

        render(self.answer, Console(highlight=False))

    def html(self) -> str:
        """The self-contained page."""
        from rca.report.html import page

        return page(self._lake, self.answer)

    def _repr_html_(self) -> str:
        from html import escape

        frame = escape(self.html(), quote=True)
        return f'<iframe srcdoc="{frame}" style="width:100%;height:900px;border:0"></iframe>'


class Lake:
    """A lake for notebooks and scripts.

    Every table of the lake is an attribute: a polars LazyFrame of its newest version.
    """

    def __init__(
        self, root: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None
    ) -> None:
        self.tables = Tables(root, storage_options).require()

    def __repr__(self) -> str:
        return f"rootlake.{self.tables!r}"

    def __getattr__(self, name: str) -> pl.LazyFrame:
        if name in TABLES:
            return scanned(self.tables, name)
        raise AttributeError(f"a lake has no table {name!r}; it has {', '.join(TABLES)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *TABLES]

    def sql(self, text: str) -> pl.DataFrame:
        """The rows of one SELECT, in DuckDB's dialect."""
        return pl.DataFrame(pl.from_arrow(query(self.tables, text)))

    def diagnose(
        self,
        incident: str | None = None,
        *,
        at: str | datetime | None = None,
        service: str | None = None,
        baseline: Sequence[tuple[str | datetime, str | datetime]] = (),
    ) -> Diagnosis:
        """Find the root cause of an incident, by its id or by a time at which it hurt."""
        from lake import UserError
        from rca.diagnose import diagnose
        from rca.question import Question, of_incident

        healthy = tuple((_moment(start), _moment(end)) for start, end in baseline)
        if (incident is None) == (at is None):
            raise UserError("name one incident, or one time: diagnose(at=…).")
        if incident is not None:
            question = of_incident(self.tables, incident, healthy)
        else:
            assert at is not None
            question = Question(at=_moment(at), service=service, baselines=healthy)
        return Diagnosis(self.tables, diagnose(self.tables, question))


def _moment(value: str | datetime) -> datetime:
    return moment(value.isoformat() if isinstance(value, datetime) else value)
