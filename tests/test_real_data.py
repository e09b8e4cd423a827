"""All published recordings go in, and every record is accounted for.

These read `../shared/data` and skip where it is missing.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ingest.run import ingest
from lake import Lake, sql
from quality.account import account
from quality.run import repair

EARLY = """
select count(*) from spans child join spans parent
on child.trace_id = parent.trace_id and child.parent_span_id = parent.span_id
where child.start_ns < parent.start_ns"""


@pytest.fixture(scope="session")
def train_ticket(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The Train Ticket recordings, ingested and repaired."""
    lake = Lake(tmp_path_factory.mktemp("train-ticket") / "lake")
    folder = real_data / "train-ticket"
    for source, place in (("jaeger", "jaeger"), ("logs", "pods"), ("prometheus", "prometheus")):
        ingest(lake, source, folder / place)
    repair(lake)
    return lake


def hotel(real_data: Path, name: str, folder: Path) -> Lake:
    lake = Lake(folder / name)
    ingest(lake, "jaeger", real_data / "hotel-reservation" / f"{name}.json.gz")
    repair(lake)
    return lake


def test_every_record_of_train_ticket_is_counted(train_ticket: Lake) -> None:
    lines = {line["table"]: line for line in account(train_ticket).to_dicts()}
    assert lines["spans"]["raw"] == 251_257
    assert lines["samples"]["raw"] == 1_450_840
    assert lines["logs"]["delivered"] == 131_228
    assert lines["logs"]["refused"] == 2
    assert all(line["balanced"] for line in lines.values())
    assert lines["spans"]["merged"] == 1_141


def test_a_sample_that_is_not_a_number_stays_one(train_ticket: Lake) -> None:
    values = train_ticket.scan("samples").select(pl.col("value").is_nan().sum()).collect()
    assert values.item() == 83_218


def test_nothing_is_ingested_or_repaired_twice(train_ticket: Lake, real_data: Path) -> None:
    before = train_ticket.versions("raw_spans", "spans", "repairs", "red")
    again = ingest(train_ticket, "jaeger", real_data / "train-ticket" / "jaeger")
    assert again.rows == 0
    assert repair(train_ticket).as_dict()["days"] == []
    assert train_ticket.versions("raw_spans", "spans", "repairs", "red") == before


def test_hotel_load50_children_start_after_their_parents(real_data: Path, tmp_path: Path) -> None:
    lake = hotel(real_data, "load50", tmp_path)
    raw = EARLY.replace("spans", "raw_spans").replace("start_ns", "start")
    assert sql(lake, raw)[0][0].as_py() == 1_868
    assert sql(lake, EARLY)[0][0].as_py() < 20


def test_hotel_load150_keeps_every_time(real_data: Path, tmp_path: Path) -> None:
    lake = hotel(real_data, "load150", tmp_path)
    moved = "select count(*) from spans where clock_offset_ns <> 0"
    assert sql(lake, moved)[0][0].as_py() == 0
    raw = lake.read("raw_spans").select("start").sort("start")["start"] * 1000
    assert lake.read("spans").sort("start_ns")["start_ns"].to_list() == raw.to_list()
