"""The sample data is what its generator makes, and looks like what the sources serve."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

HERE = ROOT / "sample_data"


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sample_data.generator", "--seed", "7", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    made = (tmp_path / "MANIFEST.sha256").read_text()
    assert made == (HERE / "MANIFEST.sha256").read_text()


def test_the_recorded_files_are_those_of_the_manifest() -> None:
    for line in (HERE / "MANIFEST.sha256").read_text().splitlines():
        wanted, name = line.split("  ")
        assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == wanted, name


def test_it_stays_small() -> None:
    files = [file for file in HERE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files) < 10_000_000


def test_prometheus_takes_the_metrics(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    for file in sorted((HERE / "prometheus").glob("*.gz")):
        text = tmp_path / "metrics.om"
        text.write_bytes(gzip.decompress(file.read_bytes()))
        load = [
            "promtool",
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            str(text),
            str(tmp_path / "data"),
        ]
        done = subprocess.run(load, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_cluster_knows_the_pods_that_made_the_spans() -> None:
    pods = set()
    for cluster in ("eu-1", "us-1"):
        listed = json.loads((HERE / cluster / "k8s" / "pods.json").read_text())
        assert listed["kind"] == "PodList"
        pods |= {item["metadata"]["name"] for item in listed["items"]}
    for file in sorted((HERE / "jaeger").glob("*.gz")):
        reply = json.loads(gzip.decompress(file.read_bytes()))
        for trace in reply["data"]:
            for process in trace["processes"].values():
                tags = {tag["key"]: tag["value"] for tag in process["tags"]}
                assert tags["k8s.pod.name"] in pods


def test_the_truth_is_where_it_says() -> None:
    with gzip.open(HERE / "truth" / "spans.jsonl.gz", "rt") as lines:
        planted = [json.loads(line) for line in lines][::25]
    for one in planted:
        reply = json.loads(gzip.decompress((HERE / "jaeger" / one["file"]).read_bytes()))
        spans = [span for trace in reply["data"] for span in trace["spans"]]
        name = {"trace_id": "traceID", "start": "startTime"}.get(one["column"])
        if name:
            assert spans[one["place"]][name] == one["wrong"], one


def test_traces_are_mostly_whole() -> None:
    reply = json.loads(gzip.decompress((HERE / "jaeger" / "network-delay-00.json.gz").read_bytes()))
    sizes = [len(trace["spans"]) for trace in reply["data"]]
    assert sum(size > 3 for size in sizes) > 0.6 * len(sizes)
