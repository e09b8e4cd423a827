"""A table of the Python API has the rows of the table, whatever it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rootlake
from lake import TABLES, Lake, empty
from rootlake.scan import equal

trace = pl.col("trace_id")
THIRD = f"{3:032x}"
START = datetime(2025, 3, 11, tzinfo=UTC)


def spans(traces: list[str]) -> pl.DataFrame:
    table = TABLES["spans"]
    rows = pl.DataFrame(
        {
            "date": [date(2025, 3, 11)] * len(traces),
            "start": pl.Series([START] * len(traces), dtype=pl.Datetime("us", "UTC")),
            "trace_id": traces,
            "span_id": [f"{number:016x}" for number in range(len(traces))],
            "service": ["cart", "checkout"] * (len(traces) // 2),
            "duration_ns": range(len(traces)),
            "faults": [["parent_missing"], []] * (len(traces) // 2),
        }
    )
    return pl.concat([empty(table), rows], how="diagonal").select(table.schema.names)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(tmp_path_factory.mktemp("api") / "lake").create()
    made.append("spans", spans([f"{number % 20:032x}" for number in range(100)]))
    made.append("spans", spans(["it's", THIRD]))
    return made


ASKED: list[Callable[[pl.LazyFrame], pl.LazyFrame]] = [
    lambda rows: rows.filter(trace == THIRD),
    lambda rows: rows.filter(trace == "it's"),
    lambda rows: rows.filter(trace == "nowhere"),
    lambda rows: rows.filter(trace == THIRD, pl.col("service") == "checkout"),
    lambda rows: rows.filter(trace == THIRD).select("duration_ns"),
    lambda rows: rows.filter((trace == THIRD) | (pl.col("duration_ns") == 4)),
    lambda rows: rows.filter(trace.is_in([THIRD, "it's"])),
    lambda rows: rows.filter(trace == THIRD, trace == "it's"),
    lambda rows: rows.filter(trace == THIRD).group_by("service").len(),
    lambda rows: rows.group_by("service").agg(pl.col("duration_ns").sum()),
    lambda rows: rows.select(pl.len()),
    lambda rows: rows,
]


@pytest.mark.parametrize("ask", ASKED)
def test_an_answer_is_that_of_a_plain_scan(
    lake: Lake, ask: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> None:
    found = ask(rootlake.Lake(lake.root).spans).collect()
    assert_frame_equal(found, ask(lake.scan("spans")).collect(), check_row_order=False)


def test_a_frame_stays_at_its_version(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    lake.append("spans", spans(["a", "b"]))
    before = rootlake.Lake(lake.root).spans
    lake.append("spans", spans(["a", "c"]))
    assert before.filter(trace == "a").collect().height == 1
    assert before.collect().height == 2
    assert rootlake.Lake(lake.root).spans.filter(trace == "a").collect().height == 2


@pytest.mark.parametrize(
    ("predicate", "value"),
    [
        (trace == "a", "a"),
        (pl.lit("a") == trace, "a"),
        ((pl.col("duration_ns") > 1) & (trace == "a"), "a"),
        ((pl.col("duration_ns") > 1) | (trace == "a"), None),
        (~(trace == "a"), None),
        (trace != "a", None),
        (pl.col("span_id") == "a", None),
        (pl.col("span_id") == trace, None),
        (trace.str.to_lowercase() == "a", None),
        (trace.is_in(["a"]), None),
    ],
)
def test_one_trace_is_told_from_other_wishes(predicate: pl.Expr, value: str | None) -> None:
    assert equal(predicate, ("trace_id",)) == (value and ("trace_id", value))
