"""Killed at any moment: maintain, erase, undo and redo die by SIGKILL beside a running ingest and a
reader that polls; nothing is lost, doubled or seen half done.

    python -m tests.crash_ops [--runs 200] [--seed 0]

A run is one seed: a lake of three days in many small files with faults planted, an ingest into a
fourth day that keeps appending, and an operation that is killed after a random time, once or
twice, then run to its end. The reader must find each finished day in one of its two states: as it
was before, or as a lake holds it on which the same was done without a kill.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import polars as pl

from ingest.run import ingest
from lake import UNPLACED, Lake
from lake.maintain import Plan, maintain
from quality.account import account
from quality.erase import erase
from quality.run import repair
from quality.slices import drive
from quality.undo import redo, undo
from tests import quality_traces as traces

DAY_US = 86_400_000_000
FIRST = date(2025, 3, 11)
SLICE = 300  # rows: small enough for a process per core
OPERATIONS = ("maintain", "undo", "redo", "undo run", "erase")
States = dict[date, set[str]]


def jaeger(rows: list[traces.Row]) -> str:
    """Rows as Jaeger's query API serves them."""
    spans: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        trace = str(row["trace_id"] or "")
        link = {"refType": "CHILD_OF", "traceID": trace, "spanID": row["parent_span_id"]}
        spans.setdefault(trace, []).append(
            {
                "traceID": trace,
                "spanID": row["span_id"],
                "operationName": row["operation"],
                "references": [link] if row["parent_span_id"] else [],
                "startTime": row["start"],
                "duration": row["duration"],
                "tags": json.loads(row["attributes"] or "[]"),
                "processID": row["service"],
            }
        )
    hosts = {str(row["service"]): str(row["host"]) for row in rows}
    processes = {
        name: {"serviceName": name, "tags": [{"key": "host.name", "type": "string", "value": host}]}
        for name, host in hosts.items()
    }
    found = [{"traceID": t, "spans": some, "processes": processes} for t, some in spans.items()]
    return json.dumps({"data": found})


def shifted(rows: list[traces.Row], days: int, by: int = 0) -> list[traces.Row]:
    """The rows so many days, and `by` µs, later."""
    late = days * DAY_US + by
    return [{**row, "start": row["start"] + late * _day(row["start"]) // DAY_US} for row in rows]


def _day(start: int) -> int:
    """A day in the unit that a time is told in: s, ms, µs or ns, by its digits."""
    digits = len(str(start))
    return 86_400 * 10 ** (digits - 10) if digits in {10, 13, 19} else DAY_US


def filled(root: Path, seed: int) -> Lake:
    """Three days with faults in several files each, repaired."""
    lake = Lake(root / "lake").create()
    for day in range(3):
        for piece in range(3):
            rows, _ = traces.spoiled(seed * 100 + day * 10 + piece, faults=10)
            file = root / f"{day}-{piece}.json"
            file.write_text(jaeger(shifted(rows, -day)), encoding="utf-8")
            ingest(lake, "jaeger", file)
    repair(lake)
    return lake


def operate(lake: Lake, what: str) -> None:
    """One operation, to its end."""
    if what == "maintain":
        maintain(lake, Plan(hours=1), FIRST)
    elif what == "erase":
        erase(lake, "trace", trace_of(lake))
    elif what.startswith("repair"):
        if what == "repair sliced":
            drive.repaired.__defaults__ = (SLICE,)
        repair(lake)
    else:
        if what == "redo":
            redo(lake, "id_corrupt")
        else:
            undo(lake, "id_corrupt" if what == "undo" else first_run(lake))
        repair(lake)


def trace_of(lake: Lake) -> str:
    """A trace to erase: one that stays the same however often it is asked for."""
    file = Path(lake.root).parent / "erased"
    if not file.exists():
        file.write_text(str(lake.read("spans")["trace_id"].drop_nulls().sort()[0]))
    return file.read_text()


def first_run(lake: Lake) -> str:
    file = Path(lake.root).parent / "run"
    if not file.exists():
        file.write_text(str(lake.read("repairs")["run_id"].sort()[0]))
    return file.read_text()


def state(lake: Lake) -> dict[date, str]:
    """What each day of `spans` holds, in one number."""
    columns = ["trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns"]
    clocks = ["clock_offset_ns", "clock_error_ns"]
    marks = [pl.col(name).list.join(" ") for name in ("faults", "repaired")]
    rows = lake.scan("spans").select("date", *columns, *clocks, *marks).collect()
    assert rows.filter(pl.col("date") > FIRST).select(columns).is_duplicated().sum() == 0
    out = {}
    for (day,), part in rows.partition_by("date", as_dict=True).items():
        text = part.sort(part.columns).write_csv()
        out[day] = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return out


class Reader(threading.Thread):
    """Polls the lake and keeps what it saw amiss."""

    def __init__(self, lake: Lake, allowed: States) -> None:
        super().__init__(daemon=True)
        self.lake, self.allowed = lake, allowed
        self.done = threading.Event()
        self.amiss: list[str] = []
        self.polls = 0

    def run(self) -> None:
        raw = 0
        while not self.done.is_set():
            try:
                for day, held in state(self.lake).items():
                    if day in self.allowed and held not in self.allowed[day]:
                        self.amiss.append(f"{day} is in no state it can be in")
                rows = self.lake.scan("raw_spans").select("batch", "arrival").collect()
                if rows.height != rows.unique().height:
                    self.amiss.append("raw rows doubled")
                if rows.height < raw - 60:
                    self.amiss.append(f"raw rows fell from {raw} to {rows.height}")
                raw = rows.height
                self.polls += 1
            except AssertionError:
                self.amiss.append("a day with a row twice")
            time.sleep(0.02)


def worker(*words: str) -> subprocess.Popen[str]:
    """A process of this module that says when it begins."""
    command = [sys.executable, "-m", "tests.crash_ops", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    return process


@contextmanager
def ingesting(root: Path, seed: int, files: int) -> Iterator[None]:
    """An ingest of a fourth day, file after file, in a process of its own."""
    for number in range(files):
        rows = shifted(traces.rows(1_000_000 + seed * 100 + number), 1)
        (root / f"more-{number}.json").write_text(jaeger(rows), encoding="utf-8")
    process = worker("--ingest", str(root))
    try:
        yield
    finally:
        process.wait(timeout=120)
        assert process.returncode == 0, "the ingest failed"


def once(seed: int, what: str | None = None, files: int = 15) -> str:
    """One seeded run; what it was. Raises AssertionError where something is lost, doubled or half
    done."""
    rng = random.Random(seed)
    what = what or rng.choice(OPERATIONS)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lake = filled(root, seed)
        if what == "redo":
            undo(lake, "id_corrupt")
            repair(lake)
        return attacked(root, lake, seed, what, rng, files)


def attacked(root: Path, lake: Lake, seed: int, what: str, rng: random.Random, files: int) -> str:
    """The operation killed once or twice, then run to its end; what it was and when it died."""
    before = state(lake)
    seen = raw_rows(lake)
    other = root / "other"
    shutil.copytree(root / "lake", other / "lake")
    began = time.monotonic()
    operate(Lake(other / "lake"), what)
    took = time.monotonic() - began
    for name in ("erased", "run"):
        if (other / name).exists():
            shutil.copy(other / name, root / name)
    after = state(Lake(other / "lake"))
    states = {day: {before.get(day), after.get(day)} for day in {*before, *after}}
    reader = Reader(lake, {day: {one or "" for one in two} for day, two in states.items()})
    reader.start()
    with ingesting(root, seed, files):
        kills = [killed(root, what, rng.uniform(0, took * 1.5)) for _ in range(rng.choice([1, 2]))]
        finished(root, what)
    repair(lake)
    reader.done.set()
    reader.join()
    assert not reader.amiss, (seed, what, reader.amiss[:3])
    now = state(lake)
    assert {day: now[day] for day in after} == after, (seed, what)
    checked(lake, seed, what, seen, files)
    return f"{what}: killed after {', '.join(kills)}, {reader.polls} polls"


def raw_rows(lake: Lake) -> int:
    return int(lake.scan("raw_spans").select(pl.len()).collect().item())


def checked(lake: Lake, seed: int, what: str, seen: int, files: int) -> None:
    """Every row accounted for, nothing left to do, and what was ingested is all there."""
    (line,) = [one for one in account(lake).to_dicts() if one["table"] == "spans"]
    assert line["balanced"], (seed, what, line)
    assert line["delivered"] == seen + sum(
        len(traces.rows(1_000_000 + seed * 100 + number)) for number in range(files)
    ), (seed, what, line)
    assert repair(lake).days == set(), (seed, what)
    assert lake.days("spans")[-1] != UNPLACED


def killed(root: Path, what: str, after: float) -> str:
    """The operation begun, and killed after some seconds; when that was."""
    process = worker("--work", what, str(root))
    try:
        process.wait(timeout=after)
        return "its end"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return f"{after:.2f} s"


def finished(root: Path, what: str) -> None:
    """The operation again, to its end; what is done already refuses to be done twice."""
    process = worker("--work", what, str(root))
    process.wait(timeout=120)
    assert process.returncode in {0, 1}, what


def work(what: str, root: Path) -> int:
    from lake import UserError

    lake = Lake(root / "lake")
    try:
        operate(lake, what)
    except UserError as error:
        if what not in {"redo", "erase", "undo run"}:
            raise
        sys.stderr.write(f"{error}\n")
        repair(lake)
        return 1
    return 0


def main() -> int:
    """As many runs as asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=OPERATIONS)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--ingest", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work or given.ingest:
        print("begin", flush=True)
    if given.work:
        return work(given.work[0], Path(given.work[1]))
    if given.ingest:
        root = Path(given.ingest)
        for file in sorted(root.glob("more-*.json")):
            ingest(Lake(root / "lake"), "jaeger", file)
        return 0
    began = time.monotonic()
    for seed in range(given.seed, given.seed + given.runs):
        told = once(seed, given.only)
        print(f"{seed}  {time.monotonic() - began:.0f} s  {told}", flush=True)
    print(f"{given.runs} runs, nothing lost, doubled or half done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
