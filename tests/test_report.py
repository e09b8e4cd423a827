"""The report: one page that needs nothing else, and a terminal text for everywhere."""

from __future__ import annotations

import io
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from lake import Lake
from rca.report import graph
from rca.report.html import page
from rca.report.terminal import render

from .conftest import rootlake

EVIL = "<script>alert(1)</script>\x1b[31m[red]"


@pytest.fixture(scope="module")
def lake(demo_folder: Path) -> Lake:
    return Lake(demo_folder / "lake")


@pytest.fixture(scope="module")
def answer(lake: Lake) -> dict[str, Any]:
    rows = lake.scan("diagnoses").filter(pl.col("incident_id") == "INC-20250311-1405")
    found: dict[str, Any] = json.loads(rows.sort("recorded_at").collect()["answer"][0])
    return found


class Tags(HTMLParser):
    """Counts tags, and finds what is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.fetched += [
            v or "" for k, v in attrs if k in {"src", "href"} and not (v or "").startswith("#")
        ]


def read(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


def test_the_page_stands_alone(lake: Lake, answer: dict[str, Any]) -> None:
    text = page(lake, answer)
    tags = read(text)
    assert tags.fetched == []
    assert "url(http" not in text
    assert len(text) < 1_000_000
    assert tags.found.count("svg") == 4  # timeline, graph, a bad trace, a good one


def test_the_page_shows_what_was_found(lake: Lake, answer: dict[str, Any]) -> None:
    text = page(lake, answer)
    for wanted in ("inventory", "POOL_SIZE = 1", "began", "noticed", "rollback", "A bad request"):
        assert wanted in text
    for entry in answer["evidence"]:
        assert f'id="{entry["id"]}"' in text


def test_telemetry_cannot_put_markup_into_the_page(lake: Lake, answer: dict[str, Any]) -> None:
    bad = json.loads(json.dumps(answer))
    bad["summary"] = bad["suspects"][0]["attribute"] = EVIL
    bad["changes"][0]["message"] = bad["evidence"][0]["claim"] = EVIL
    bad["evidence"][0]["result"] = [[EVIL]]
    assert read(page(lake, bad)).found.count("script") == 1  # our own


def printed(answer: dict[str, Any], width: int) -> str:
    out = io.StringIO()
    render(answer, Console(file=out, width=width, no_color=True))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_text_fits_its_terminal(answer: dict[str, Any], width: int) -> None:
    text = printed(answer, width)
    assert max(len(line) for line in text.splitlines()) <= width
    for wanted in ("inventory", "capacity", "Culprit change", "rootlake fix"):
        assert wanted in text


def test_telemetry_cannot_colour_or_control_the_terminal(answer: dict[str, Any]) -> None:
    bad = {**answer, "summary": EVIL}
    text = printed(bad, 100)
    assert "\x1b" not in text
    assert "[red]" in text


def test_layers_stand_right_of_their_callers_even_in_loops() -> None:
    assert graph.layered([("a", "b"), ("b", "c"), ("a", "c")]) == [["a"], ["b"], ["c"]]
    looped = graph.layered([("a", "b"), ("b", "a")])
    assert sorted(name for layer in looped for name in layer) == ["a", "b"]


def test_the_command_writes_the_page(demo_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    words = ["--lake", demo_folder / "lake", "report", "INC-20250312-0920", "--html", file]
    done = rootlake(*words)
    assert done.returncode == 0, done.stderr
    assert re.search("no change explains it", file.read_text(encoding="utf-8"))
    wrong = rootlake("--lake", demo_folder / "lake", "report", "INC-1")
    assert wrong.returncode == 1
    assert "there is no diagnosis of INC-1; there is one of INC-" in wrong.stderr


def test_what_is_to_be_typed_next_finds_the_same_lake(demo_folder: Path) -> None:
    shown = rootlake("--lake", demo_folder / "lake", "report", "INC-20250311-1405").stdout
    fix = shown.strip().splitlines()[-1]
    done = rootlake(*shlex.split(fix)[1:])
    assert done.stdout.startswith("#!/usr/bin/env bash"), done.stderr
