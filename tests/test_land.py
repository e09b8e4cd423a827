"""Every row lands once, however often it is sent and whenever it is interrupted."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from ingest.run import ingest
from lake import TABLES, Lake

from .conftest import ROOT

DELIVERY = ["ingested_at", "recorded_at"]


def traces(folder: Path, files: int = 12, spans: int = 400) -> Path:
    """Jaeger files with made-up spans."""
    folder.mkdir(exist_ok=True)
    for number in range(files):
        made = [
            {
                "traceID": f"{number:016x}{place // 4:016x}",
                "spanID": f"{number * spans + place + 1:016x}",
                "operationName": "work",
                "references": [],
                "startTime": 1741701600000000 + place,
                "duration": 5,
                "tags": [{"key": "n", "type": "int64", "value": place}],
                "logs": [],
                "processID": "p1",
            }
            for place in range(spans)
        ]
        data = [{"traceID": "x", "spans": made, "processes": {"p1": {"serviceName": "shop"}}}]
        (folder / f"{number:02}.json").write_text(json.dumps({"data": data}))
    return folder


def content(lake: Lake, *names: str) -> dict[str, pl.DataFrame]:
    """What tables hold, without the times at which it was written."""
    out = {}
    for name in names:
        frame = lake.read(name).drop(DELIVERY, strict=False)
        out[name] = frame.sort([c for c in frame.columns if c in {"batch", "arrival", "run_id"}])
    return out


def test_the_same_file_under_another_name_is_left_out(tmp_path: Path) -> None:
    folder = traces(tmp_path / "traces", files=1)
    lake = Lake(tmp_path / "lake")
    assert ingest(lake, "jaeger", folder).rows == 400
    (folder / "copy.json").write_bytes((folder / "00.json").read_bytes())
    again = ingest(lake, "jaeger", folder)
    assert (again.rows, again.skipped) == (0, 2)
    assert lake.read("raw_spans").height == 400


def test_a_batch_is_sorted_as_its_table_declares(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ingest(lake, "jaeger", traces(tmp_path / "traces", files=2))
    for file in lake.files("raw_spans"):
        rows = pl.read_parquet(file, hive_partitioning=False)
        assert rows.equals(rows.sort(TABLES["raw_spans"].sort_by, maintain_order=True))


def test_a_row_of_an_impossible_day_is_kept_apart(tmp_path: Path) -> None:
    folder = traces(tmp_path / "traces", files=1, spans=3)
    text = (folder / "00.json").read_text().replace("1741701600000001", "4102444800000000")
    (folder / "00.json").write_text(text)
    lake = Lake(tmp_path / "lake")
    ingest(lake, "jaeger", folder)
    assert sorted(map(str, lake.days("raw_spans"))) == ["1970-01-01", "2025-03-11"]


def test_killed_at_any_moment_and_run_again_the_tables_are_the_same(tmp_path: Path) -> None:
    folder = traces(tmp_path / "traces", files=16, spans=1500)
    tables = ("raw_spans", "scorecard", "quarantine")
    whole = Lake(tmp_path / "whole")
    command = [sys.executable, "-m", "rootlake.cli", "ingest", "jaeger", str(folder), "--lake"]
    began = time.monotonic()
    subprocess.run([*command, whole.root], cwd=ROOT, check=True, capture_output=True)
    lasted = time.monotonic() - began
    wanted = content(whole, *tables)
    moments = random.Random(5)
    lake = Lake(tmp_path / "killed")
    for _ in range(10):
        process = subprocess.Popen([*command, lake.root], cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.2, lasted))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, lake.root], cwd=ROOT, check=True, capture_output=True)
    for name, frame in content(lake, *tables).items():
        assert frame.equals(wanted[name]), name
