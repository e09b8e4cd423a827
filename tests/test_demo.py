"""The demo names each planted cause first, says where things are, and can be run again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl

from lake import Lake
from quality.account import account
from rootlake import Lake as Notebook

from .conftest import ROOT, rootlake

TRUTH = json.loads((ROOT / "sample_data" / "truth" / "incidents.json").read_text())


def test_each_planted_cause_is_named_first(demo_folder: Path) -> None:
    output = (demo_folder / "output.txt").read_text(encoding="utf-8")
    lines = re.sub(r"\n(?!\w+ {2,})", " ", output)
    for told in TRUTH:
        assert f"{told['service']}: {told['fault']}" in lines
    rows = Lake(demo_folder / "lake").read("diagnoses")["answer"].to_list()
    found = {one["at"][:10]: one for one in map(json.loads, rows)}
    for told in TRUTH:
        answer = found[told["at"][:10]]
        assert answer["suspects"][0]["service"] == told["service"]
        change = answer["root_cause_change"]
        wanted = told["change"] and {told["change"]["ref"], *told["change"]["also"]}
        assert (change and change["ref"]) in (wanted or {None})


def test_it_says_where_things_are_and_what_to_type_next(demo_folder: Path) -> None:
    output = (demo_folder / "output.txt").read_text(encoding="utf-8")
    assert str(demo_folder / "lake") in output
    for told in TRUTH:
        day = told["onset"][:16].replace("-", "").replace(":", "").replace("T", "-")
        report = demo_folder / f"INC-{day}.html"
        assert str(report) in output
        assert report.exists()
    assert 'ask "why did checkout fail at 14:05?"' in output


def test_every_record_is_accounted_for(demo_folder: Path) -> None:
    for line in account(Lake(demo_folder / "lake")).to_dicts():
        assert line["balanced"], line
        assert line["delivered"] > 0, line


def test_a_second_demo_changes_no_telemetry(demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder, tmp_path / "demo")
    lake = Lake(tmp_path / "demo" / "lake")
    tables = ("raw_spans", "spans", "samples", "logs", "changes", "repairs", "incidents", "red")
    before = lake.versions(*tables)
    done = rootlake("demo", "--out", tmp_path / "demo", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["diagnoses"]) == 3
    assert lake.versions(*tables) == before


def test_the_python_api(demo_folder: Path) -> None:
    lake = Notebook(demo_folder / "lake")
    assert lake.spans.select(pl.len()).collect().item() > 50_000
    assert lake.sql("select count(*) as n from incidents")["n"][0] == 3
    assert {"spans", "sql", "diagnose"} <= set(dir(lake))
