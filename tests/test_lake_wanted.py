"""A query for one trace opens only files that may hold it, and has the rows that it would have."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest

from lake import TABLES, Lake, empty, query
from lake.wanted import predicates

ONE, BOTH = "trace_id = 'a'", "trace_id = 'a' OR trace_id = 'b'"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("select * from spans where trace_id = 'a'", ONE),
        ("select * from spans s where s.trace_id = 'a' and status = 'ok' limit 3", ONE),
        ("select count(*) from spans where 'a' = trace_id", ONE),
        ("from spans where trace_id = 'it''s'", "trace_id = 'it''s'"),
        ("with one as (select * from spans where trace_id = 'a') select * from one", ONE),
        ("from spans where trace_id = 'a' union all from spans where trace_id = 'b'", BOTH),
        ("select * from spans", None),
        ("select * from spans where trace_id = 'a' or status = 'ok'", None),
        ("select * from spans where not trace_id = 'a'", None),
        ("select * from spans where trace_id = 'a' and 1 < (select count(*) from spans)", None),
        ("select * from spans as s(trace_id) where trace_id = 'a'", None),
        ("select * from spans where lower(trace_id) = 'a'", None),
        ("select * from spans where trace_id = span_id", None),
        ("select * from spans where x.trace_id = 'a'", None),
        ("select * from spans join logs using (trace_id) where trace_id = 'a'", None),
        ("select * from (select * from spans) where trace_id = 'a'", None),
        ("select * from raw_spans where trace_id = 'a'", None),
        ("explain select * from spans where trace_id = 'a'", None),
        ("summarize spans", None),
    ],
)
def test_what_a_query_wants_at_most(text: str, wanted: str | None) -> None:
    with duckdb.connect(":memory:") as connection:
        assert predicates(connection, text).get("spans") == wanted


def test_rows_are_those_of_all_files(tmp_path: Path) -> None:
    table = TABLES["spans"]
    lake = Lake(tmp_path / "lake").create()
    for traces in (["a", "b"], ["a", "it's"], ["c", "d"]):
        rows = (
            empty(table)
            .clear(2)
            .with_columns(
                pl.Series("trace_id", traces),
                pl.lit("2025-03-11").str.to_date().alias("date"),
                pl.Series("span_id", traces),
            )
        )
        lake.append("spans", rows)
    ask = "select count(*) as n from spans where trace_id = '{}'"
    found = [query.sql(lake, ask.format(one))["n"][0].as_py() for one in ("a", "it''s", "d", "e")]
    assert found == [2, 1, 1, 0]
