"""A busy site: whole traces are left out, it is said, and the answer is the same."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lake import Lake
from rca import evidence, facts
from rca.diagnose import diagnose
from rca.question import Question

from .conftest import ROOT

TRUTH = json.loads((ROOT / "sample_data" / "truth" / "incidents.json").read_text())


@pytest.fixture(scope="module")
def lake(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A copy of the demo's lake, to write diagnoses to."""
    copy = tmp_path_factory.mktemp("busy") / "lake"
    shutil.copytree(demo_folder / "lake", copy)
    return Lake(copy)


@pytest.fixture
def busy(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """As if the site were too busy to read all of it."""
    monkeypatch.setattr(facts, "MOST", (6_000, 4_000))
    monkeypatch.setattr(facts, "MOST_LINES", (6_000, 4_000))
    return lake


def asked(lake: Lake, told: dict[str, Any]) -> dict[str, Any]:
    return diagnose(lake, Question(datetime.fromisoformat(told["at"]), told["symptom"]))


@pytest.mark.parametrize("told", TRUTH, ids=lambda one: one["id"])
def test_of_a_busy_site_a_part_is_read_said_and_enough(told: dict[str, Any], busy: Lake) -> None:
    found = asked(busy, told)
    said = {one["table"]: one for one in found["sampled"]}
    assert 0 < said["spans"]["read"] < said["spans"]["rows"]
    assert said["spans"]["how"] == "whole traces, by the end of their ids"
    assert found["suspects"][0]["service"] == told["service"]
    change = (found["root_cause_change"] or {}).get("ref")
    assert change in (
        {told["change"]["ref"], *told["change"]["also"]} if told["change"] else {None}
    )
    for entry in found["evidence"]:
        assert evidence.again(busy, entry)["holds"]


def test_of_a_quiet_site_all_is_read(lake: Lake) -> None:
    assert asked(lake, TRUTH[0])["sampled"] == []
