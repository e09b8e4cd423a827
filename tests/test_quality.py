"""Repairs: idempotent, healthy rows untouched, none lost or invented, in whatever order."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality import frame, samples, tags
from quality.clock import skew
from quality.rules import id_format, partial_join
from quality.spans import RULES, WATCHED, repair
from tests.conftest import TIMES

NOW = datetime(2025, 3, 12, tzinfo=UTC)
START = 1741701600_000_000  # µs
TRACE = [
    f"{n:032x}" for n in (0xA1B2C3D4E5F60718293A4B5C6D7E8F90, 0xF0E1D2C3B4A5968778695A4B3C2D1E0F)
]


def raw_span(**changes: Any) -> dict[str, Any]:
    base = {
        "trace_id": TRACE[0],
        "span_id": "00000000000000aa",
        "parent_span_id": None,
        "service": "shop",
        "operation": "GET /",
        "kind": "server",
        "host": "n1",
        "start": START,
        "start_unit": "us",
        "duration": 1000,
        "status": None,
        "attributes": '[{"key":"a","type":"string","value":"b"}]',
        "resource": None,
        "events": None,
        "links": None,
        "cluster": None,
        "namespace": None,
        "environment": None,
        "batch": "b.1",
        "ingested_at": NOW,
    }
    return {**base, **changes}


def raw_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    kinds = dict.fromkeys(raw_span(), pl.String)
    kinds |= {"start": pl.Int64, "duration": pl.Int64, "ingested_at": pl.Datetime("us", "UTC")}
    made = [{"arrival": place, **row} for place, row in enumerate(rows)]
    return pl.DataFrame(made, schema={"arrival": pl.Int64, **kinds})


def trace(seed: int, trace_id: str) -> list[dict[str, Any]]:
    """A healthy trace: a root, two callees on other hosts, and their queries."""

    def name(place: int) -> str:
        return f"{seed + 1:08x}{place:08x}"

    def one(place: int, parent: int | None, early: int, host: str, kind: str) -> dict[str, Any]:
        return raw_span(
            trace_id=trace_id,
            span_id=name(place),
            parent_span_id=None if parent is None else name(parent),
            operation=f"op {place}",
            host=host,
            kind=kind,
            start=START + seed * 10_000 + early,
            duration=8000 - 2 * early,
        )

    return [
        one(1, None, 0, "n1", "server"),
        one(2, 1, 400, "n1", "client"),
        one(3, 2, 800, "n2", "server"),
        one(4, 3, 1200, "n2", "client"),
        one(5, 4, 1500, "n3", "server"),
        one(6, 3, 1700, "n2", "internal"),
    ]


def healthy(count: int) -> list[dict[str, Any]]:
    out = []
    for seed in range(count):
        out += trace(
            seed, f"{0x1F00 + seed:04x}{(seed + 7) * 0x9E3779B97F4A7C15 % (1 << 112):028x}"
        )
    return out


Spoil = Callable[[dict[str, Any], int], dict[str, Any]]
FORMS: list[Callable[[str], str]] = [
    str.upper,
    lambda t: f"0x{t}",
    lambda t: f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}",
    lambda t: base64.b64encode(bytes.fromhex(t)).decode(),
    lambda t: str(int(t, 16)),
]


def reformat(row: dict[str, Any], way: int) -> dict[str, Any]:
    return {**row, "trace_id": FORMS[way % len(FORMS)](row["trace_id"])}


def truncate(row: dict[str, Any], _way: int) -> dict[str, Any]:
    return {**row, "trace_id": row["trace_id"][16:]}


def forget(row: dict[str, Any], way: int) -> dict[str, Any]:
    return {**row, "trace_id": ["", "0" * 32, "not an id"][way % 3]}


def damage(row: dict[str, Any], way: int) -> dict[str, Any]:
    place = way % 32
    digit = "0123456789abcdef"[(int(row["trace_id"][place], 16) + 1 + way % 15) % 16]
    return {**row, "trace_id": row["trace_id"][:place] + digit + row["trace_id"][place + 1 :]}


def nanos(row: dict[str, Any], _way: int) -> dict[str, Any]:
    return {**row, "start": row["start"] * 1000, "duration": row["duration"] * 1000}


def unharmed(row: dict[str, Any], _way: int) -> dict[str, Any]:
    return row


SPOILS: list[Spoil] = [reformat, truncate, forget, damage, nanos, unharmed]
planted = st.lists(
    st.tuples(st.integers(0, 59), st.sampled_from(SPOILS), st.integers(0, 999)),
    max_size=6,
    unique_by=lambda one: one[0] // 6,  # one fault a trace, so that its evidence survives
)


def spoiled(faults: list[tuple[int, Spoil, int]]) -> list[dict[str, Any]]:
    rows = healthy(10)
    for place, spoil, way in faults:
        rows[place] = spoil(rows[place], way)
    return rows


def columns(spans: pl.DataFrame) -> pl.DataFrame:
    return spans.select("row_key", *WATCHED).sort("row_key")


@settings(max_examples=15 * TIMES, deadline=None)
@given(planted)
def test_what_was_spoiled_comes_back_as_it_was(faults: list[tuple[int, Spoil, int]]) -> None:
    truth = repair(frame.narrow(raw_frame(healthy(10)))).spans
    found = repair(frame.narrow(raw_frame(spoiled(faults)))).spans
    assert columns(found).equals(columns(truth))


@settings(max_examples=10 * TIMES, deadline=None)
@given(planted, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    faults: list[tuple[int, Spoil, int]], random: Any
) -> None:
    rows = [{"arrival": place, **row} for place, row in enumerate(spoiled(faults))]
    schema = raw_frame(healthy(1)).schema
    once = repair(frame.narrow(pl.DataFrame(rows, schema=schema))).spans
    random.shuffle(rows)
    again = repair(frame.narrow(pl.DataFrame(rows, schema=schema))).spans
    assert columns(once).equals(columns(again))


@pytest.mark.parametrize(("name", "rule"), RULES, ids=lambda one: getattr(one, "__module__", one))
@settings(max_examples=8 * TIMES, deadline=None)
@given(faults=planted)
def test_a_rule_run_twice_is_a_rule_run_once(name: str, rule: Any, faults: list[Any]) -> None:
    before = id_format.apply(frame.narrow(raw_frame(spoiled(faults))))
    once = rule(before)
    assert rule(once).equals(once), name


@pytest.mark.parametrize(("name", "rule"), RULES, ids=lambda one: getattr(one, "__module__", one))
def test_a_rule_leaves_healthy_rows_alone(name: str, rule: Any) -> None:
    before = frame.narrow(raw_frame(healthy(12)))
    assert rule(before).equals(before), name


def test_healthy_spans_come_out_unchanged_and_without_marks() -> None:
    found = repair(frame.narrow(raw_frame(healthy(30))))
    assert found.audit.height == found.quarantined.height == found.merged.height == 0
    assert found.spans["faults"].list.len().sum() == found.spans["repaired"].list.len().sum() == 0


@pytest.mark.parametrize(
    ("text", "size", "hexes"),
    [
        ("0AF7651916CD43DD8448EB211C80319C", 32, "0af7651916cd43dd8448eb211c80319c"),
        ("0x1f", 16, "000000000000001f"),
        ("CvdlGRbNQ92ESOshHIAxnA==", 32, "0af7651916cd43dd8448eb211c80319c"),
        ("13235353014750950193", 16, "b7ad6b7169203331"),
        ("0" * 32, 32, None),
        ("zz", 16, None),
        ("", 16, None),
        ("1234567890123456", 16, "1234567890123456"),
    ],
)
def test_canonical(text: str, size: int, hexes: str | None) -> None:
    assert id_format.canonical(text, size) == hexes


def test_a_partial_copy_gives_way_to_the_whole_span() -> None:
    rows = trace(0, TRACE[0])
    rows.insert(0, {**rows[2], "attributes": None})
    found = repair(frame.narrow(raw_frame(rows)))
    assert found.spans.height == 6
    assert found.merged["row_key"].to_list() == ["b.1:0"]
    assert found.audit.filter(pl.col("rule") == "span_duplicate")["before"].to_list() == ["b.1:0"]


def test_an_id_without_evidence_is_marked_not_guessed() -> None:
    rows = [
        *trace(0, TRACE[0]),
        raw_span(trace_id="", span_id="00000000000000ff", parent_span_id="00000000000000ee"),
    ]
    found = repair(frame.narrow(raw_frame(rows))).spans.row(6, named=True)
    assert found["trace_id"] is None
    assert set(found["faults"]) == {"id_missing", "parent_missing"}


def test_a_time_that_cannot_be_goes_to_quarantine_with_its_row() -> None:
    rows = trace(0, TRACE[0])
    rows[0]["start"] = 0
    found = repair(frame.narrow(raw_frame(rows)))
    assert found.quarantined["row_key"].to_list() == ["b.1:0"]
    assert found.spans.height == 5


def test_an_end_before_the_start_is_swapped_only_with_witnesses() -> None:
    rows = trace(0, TRACE[0])
    for place in (2, 4):  # the callee with children, and a leaf with room on both sides
        rows[place]["start"] += rows[place]["duration"]
        rows[place]["duration"] *= -1
    found = repair(frame.narrow(raw_frame(rows))).spans
    clean = repair(frame.narrow(raw_frame(trace(0, TRACE[0])))).spans
    assert found["start_ns"][2] == clean["start_ns"][2]
    assert found["faults"].to_list()[2] == []


def test_a_loop_of_parents_is_cut_at_its_earliest_span() -> None:
    rows = trace(0, TRACE[0])
    rows[0]["parent_span_id"] = rows[2]["span_id"]
    found = repair(frame.narrow(raw_frame(rows))).spans
    assert found["parent_span_id"][0] is None
    assert found["repaired"].to_list()[0] == ["parent_cycle"]


def test_client_and_server_of_one_id_are_told_apart() -> None:
    rows = [
        raw_span(span_id="00000000000000aa", kind="client", service="a"),
        raw_span(
            span_id="00000000000000aa", kind="server", service="b", start=START + 10, duration=500
        ),
        raw_span(
            span_id="00000000000000bb",
            parent_span_id="00000000000000aa",
            kind="internal",
            service="b",
            start=START + 20,
            duration=100,
        ),
    ]
    found = repair(frame.narrow(raw_frame(rows))).spans
    assert found["parent_span_id"][1] == "00000000000000aa"
    assert found["parent_span_id"][2] == found["span_id"][1] != "00000000000000aa"


def skewed(offset_us: int, drift: float, count: int = 240) -> list[dict[str, Any]]:
    """Traces over ten minutes; the clock of n2 shows `offset_us` more, growing by `drift`."""
    out = []
    for seed in range(count):
        for row in trace(seed, f"{seed + 1:032x}"):
            row["start"] += seed * 2_490_000
            if row["host"] == "n2":
                row["start"] += round(offset_us + drift * (row["start"] - START))
            out.append(row)
    return out


@pytest.mark.parametrize("offset", [30_000, -50_000])
def test_a_wrong_clock_is_found_with_its_drift_and_the_right_ones_stay(offset: int) -> None:
    found = repair(frame.narrow(raw_frame(skewed(offset, 5e-6))))
    assert {line.host for line in found.clocks} == {"n2"}
    moved = found.spans.filter(pl.col("clock_offset_ns") != 0)
    assert set(moved["host"]) == {"n2"}
    truth = repair(frame.narrow(raw_frame(skewed(0, 0.0)))).spans
    error = (found.spans["start_ns"] - truth["start_ns"]).abs()
    assert error.quantile(0.95) < 500_000
    assert (moved["clock_error_ns"] > 0).all()


def test_right_clocks_are_never_moved() -> None:
    assert skew.lines(frame.narrow(raw_frame(skewed(0, 0.0)))) == []


def test_asynchronous_calls_prove_no_wrong_clock() -> None:
    rows = []
    for seed in range(100):
        made = trace(seed, f"{seed + 1:032x}")[:3]
        made[1]["kind"], made[2]["kind"] = "producer", "consumer"
        made[2]["start"] += 500_000
        rows += made
    assert skew.lines(frame.narrow(raw_frame(rows))) == []


def test_tags_keep_repeated_keys_and_odd_values() -> None:
    text = (
        '[{"key":"a","value":1},{"key":"a","value":true},{"key":"b","value":{"stringValue":"x"}}]'
    )
    assert tags.pairs(text) == [
        {"key": "a", "value": "1"},
        {"key": "a#2", "value": "true"},
        {"key": "b", "value": "x"},
    ]
    assert tags.pairs("nonsense") == [{"key": "raw", "value": "nonsense"}]


def sample_frame(rows: list[tuple[int, float]]) -> pl.DataFrame:
    base = datetime(2025, 3, 11, tzinfo=UTC).timestamp()
    return pl.DataFrame(
        {
            "series": [1] * len(rows),
            "metric": ["hits_total"] * len(rows),
            "ts": pl.Series([round((base + at) * 1e6) for at, _ in rows]).cast(
                pl.Datetime("us", "UTC")
            ),
            "value": [value for _, value in rows],
            "date": [date(2025, 3, 11)] * len(rows),
            "ingested_at": [NOW] * len(rows),
            "batch": ["b"] * len(rows),
            "arrival": list(range(len(rows))),
        }
    )


SERIES = pl.DataFrame({"series": [1], "type": ["counter"]})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 9)), min_size=1, max_size=40))
def test_one_sample_an_instant_and_none_lost(rows: list[tuple[int, float]]) -> None:
    found = samples.repair(sample_frame(rows), SERIES)
    assert found.samples.height + found.merged.height == len(rows)
    assert found.samples["ts"].is_sorted()
    assert found.samples["ts"].n_unique() == found.samples.height == len({at for at, _ in rows})


def test_a_counter_that_falls_and_two_values_of_one_instant_are_marked() -> None:
    found = samples.repair(
        sample_frame([(0, 5.0), (30, 2.0), (60, 3.0), (60, 4.0)]), SERIES
    ).samples
    assert found["faults"].to_list() == [[], ["counter_reset"], ["sample_duplicate"]]
    assert found["value"][2] == 4.0


def log_frame(bodies: list[tuple[str, bool]]) -> pl.DataFrame:
    pairs = [{"key": "container", "value": "c"}, {"key": "stream", "value": "stdout"}]
    return pl.DataFrame(
        {
            "row": list(range(len(bodies))),
            "batch": ["b"] * len(bodies),
            "arrival": list(range(len(bodies))),
            "pod": ["p"] * len(bodies),
            "body": [body for body, _ in bodies],
            "partial": [partial for _, partial in bodies],
            "attributes": pl.Series([pairs] * len(bodies)).cast(pl.Map(pl.String, pl.String)),
            "faults": pl.Series([[]] * len(bodies), dtype=pl.List(pl.String)),
        }
    )


def test_a_cut_line_is_joined_with_its_rest_and_with_nothing_else() -> None:
    lines = [
        ("12:00:01 one", False),
        ("12:00:02 tw", True),
        ("o and more", False),
        ("12:00:03 thr", True),
        ("12:00:04 four", False),
        ("12:00:05 fi", True),
    ]
    found = partial_join.apply(log_frame(lines)).lines
    assert found["body"].to_list() == [
        "12:00:01 one",
        "12:00:02 two and more",
        "12:00:03 thr",
        "12:00:04 four",
        "12:00:05 fi",
    ]
    assert found["faults"].to_list() == [[], [], ["partial"], [], ["partial"]]
