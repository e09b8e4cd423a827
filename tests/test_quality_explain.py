"""A trace before and after its repair, with what the audit says of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from lake import Lake, UserError
from quality import stages
from quality.explain import explain, follow
from quality.run import repair
from rootlake.explained import Axis, explained, lasting, marked
from tests import quality_traces as traces
from tests.conftest import rootlake
from tests.test_quality_run import put


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(tmp_path_factory.mktemp("explain") / "lake").create()
    rows = [row for seed in range(8) for row in traces.spoiled(seed, faults=14)[0]]
    skewed = traces.rows(90, traces=12, offsets={"cart": 40_000})
    rows += [{**row, "host": f"far {row['host']}"} for row in skewed]
    put(made, rows)
    repair(made)
    return made


def every(lake: Lake) -> list[str]:
    return lake.read("spans")["trace_id"].drop_nulls().unique().sort().to_list()


def test_every_clean_row_is_led_back_to_the_row_it_was(lake: Lake) -> None:
    spans, lost = 0, list[str]()
    for trace in every(lake):
        found = explain(lake, trace)
        lost += [one["row_key"] for one in found["quarantined"]]
        for one in found["spans"]:
            assert one["before"], one
            spans += 1
            for name in ("trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns"):
                if one["before"][name] != one["after"][name]:
                    assert name in {reason["column"] for reason in one["reasons"]}, one
    assert spans == lake.read("spans").drop_nulls("trace_id").height
    held = lake.read("quarantine")["raw_row"].str.json_path_match("$.row_key")
    assert set(lost) <= set(held)


def test_every_rule_of_the_audit_is_told_of(lake: Lake) -> None:
    told = {
        reason["rule"]
        for trace in every(lake)
        for part in ("spans", "merged")
        for one in explain(lake, trace)[part]
        for reason in one["reasons"]
    }
    audited = lake.read("repairs").drop_nulls("trace_id")["rule"].unique()
    assert told >= set(audited) | {"clock_skew"}


def test_a_trace_is_found_by_an_id_it_had_before(lake: Lake) -> None:
    for rule in ("id_corrupt", "id_truncated", "id_format"):
        row = (
            lake.read("repairs")
            .filter(pl.col("rule") == rule, pl.col("column_name") == "trace_id")
            .drop_nulls(["before", "trace_id"])
            .row(0, named=True)
        )
        assert explain(lake, row["before"])["trace_id"] == row["trace_id"]


def test_an_id_nobody_had_is_one_sentence(lake: Lake) -> None:
    with pytest.raises(UserError, match="no row has or had"):
        explain(lake, "0" * 31 + "1' or true --")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_drawing_fits_its_width_and_shows_both_sides(lake: Lake, width: int) -> None:
    row = lake.read("repairs").filter(pl.col("rule") == "id_corrupt").row(0, named=True)
    out = io.StringIO()
    explained(Console(file=out, width=width, highlight=False), explain(lake, row["trace_id"]))
    text = out.getvalue()
    assert "BEFORE" in text
    assert "AFTER" in text
    assert "id_corrupt" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_the_command_explains_for_people_and_for_machines(lake: Lake) -> None:
    trace = every(lake)[0]
    told = rootlake("--lake", lake.root, "repair", "--explain", trace)
    assert told.returncode == 0, told.stderr
    assert f"trace {trace}" in told.stdout
    found: dict[str, Any] = json.loads(
        rootlake("--lake", lake.root, "--json", "repair", "--explain", trace).stdout
    )
    assert found["trace_id"] == trace
    assert rootlake("--lake", lake.root, "repair", "--explain", "zz").returncode == 1


def test_every_rule_and_table_writes_a_whole_audit(demo_folder: Path) -> None:
    audit = Lake(demo_folder / "lake").read("repairs")
    for stage in stages.STAGES:
        rows = audit.filter(pl.col("table_name") == stage.clean)
        assert set(rows["rule"]) <= set(stage.versions)
        held = rows.select("rule_version", "raw_version", "confidence", "run_id", "recorded_at")
        assert held.null_count().sum_horizontal().to_list() in ([0], [])
        assert (rows["rule_version"] == rows["rule"].replace_strict(stage.versions)).all()
        whole = rows.filter(pl.col("column_name") != "row")
        assert not whole.filter(pl.col("before").eq_missing(pl.col("after"))).height
    assert {"spans", "errors", "logs"} <= set(audit["table_name"])


def test_changes_are_followed_in_the_order_they_were_made() -> None:
    steps: list[dict[str, Any]] = [
        {"before": "b", "after": "c"},
        {"before": "a", "after": "b"},
        {"before": None, "after": "a"},
    ]
    assert follow(None, steps) == ("c", steps[::-1])
    assert follow("x", steps) == ("x", steps)


@pytest.mark.parametrize(
    ("start", "duration", "drawn"),
    [
        (0, 100, (0, "██████████")),
        (50, 25, (5, "██▌")),
        (95, 100, (9, "█")),
        (-300, 10, (0, "◀ 300 ns earlier")),
        (None, 1, (0, "no usable time")),
    ],
)
def test_a_bar_stands_where_its_time_is(
    start: int | None, duration: int, drawn: tuple[int, str]
) -> None:
    assert Axis(0, 100, 10).bar(start, duration) == drawn


def test_digits_that_differ_are_shown_and_times_are_read_easily() -> None:
    assert marked("a" * 16 + "b" + "a" * 15, "a" * 32, "red", cut=True).plain == "aaa…aba…aaa"
    assert lasting(-1_500_000) == "-1.5 ms"
