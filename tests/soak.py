"""Nothing lost, nothing doubled: live sources pulled again and again from servers that fail.

    python -m tests.soak [--runs 500] [--seed 0]

A run is one seed: a source, its records with the moments they became visible (some late), the
faults of its server, and a handful of pulls as a cron job makes them: some killed (SIGKILL) at a
random moment, some two at a time, some with a clock that went back, some backfills. After the
last pull the raw table must hold every record once, and `status` must balance.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingest.run import ingest
from lake import Lake, UserError
from quality.account import account
from tests import faulty

START = datetime(2025, 3, 11, 14, tzinfo=UTC)
MICROS = int(START.timestamp()) * 1_000_000
HOUR = 3_600_000_000
LATE = 200_000_000  # µs that a record may be late, within every source's overlap
Case = tuple[Any, Callable[[Lake], Counter[Any]], Counter[Any]]  # server, what is held, truth
OPTIONS: dict[str, Any] = {"timeout": 0.4, "attempts": 8, "backoff": 0.01, "overlap": 600}


def jaeger(rng: random.Random) -> Case:
    """Traces over several services, some growing for minutes."""
    spans = []
    for trace in range(rng.randrange(5, 60)):
        at = MICROS + rng.randrange(HOUR)
        for place in range(rng.randrange(1, 6)):
            start = at + place * rng.randrange(1, 5_000_000)
            spans.append(
                {
                    "traceID": f"{trace:032x}",
                    "spanID": f"{trace:08x}{place:08x}",
                    "service": rng.choice(["cart", "checkout", "frontend"]),
                    "startTime": start,
                    "visible": start + (rng.randrange(LATE) if rng.random() < 0.2 else 0),
                }
            )
    truth = Counter((one["traceID"], one["spanID"], one["startTime"]) for one in spans)
    held = ("trace_id", "span_id", "start")
    return faulty.Jaeger(spans), lambda lake: _rows(lake, "raw_spans", held), truth


def sentry(rng: random.Random) -> Case:
    """Events in pages."""
    events = []
    for place in range(rng.randrange(3, 80)):
        at = MICROS + rng.randrange(HOUR)
        late = rng.randrange(LATE) if rng.random() < 0.2 else 0
        events.append({"eventID": f"{place:032x}", "at": at, "visible": at + late})
    truth = Counter((one["eventID"],) for one in events)
    server = faulty.Sentry(events, page=rng.randrange(2, 20))
    server.repeat = rng.randrange(3)
    return server, lambda lake: _rows(lake, "raw_errors", ("event_id",)), truth


def loki(rng: random.Random) -> Case:
    """Lines, some of them equal to the letter."""
    lines = []
    for _ in range(rng.randrange(3, 150)):
        at = MICROS + rng.randrange(HOUR // 1000) * 1000
        late = rng.randrange(LATE) if rng.random() < 0.2 else 0
        text = rng.choice(["connection refused", "done", f"order {rng.randrange(9)}"])
        pod = rng.choice(["cart-7d9f8b6c5-abcde", "web-0"])
        for _ in range(2 if rng.random() < 0.1 else 1):
            lines += [{"pod": pod, "at": at, "text": text, "visible": at + late}]
    truth = Counter((one["pod"], one["text"]) for one in lines)
    return faulty.Loki(lines), lambda lake: _rows(lake, "raw_logs", ("pod", "body")), truth


SOURCES: dict[str, Callable[[random.Random], Any]] = {
    "jaeger": jaeger,
    "sentry": sentry,
    "loki": loki,
}


def _rows(lake: Lake, table: str, columns: tuple[str, ...]) -> Counter[Any]:
    return Counter(lake.scan(table).select(columns).collect().rows())


def once(seed: int) -> str:
    """One seeded run; what it was. Raises AssertionError where a row is lost or doubled."""
    rng = random.Random(seed)
    kind = rng.choice(sorted(SOURCES))
    server, held, truth = SOURCES[kind](rng)
    options = {**OPTIONS, "window": rng.choice([300, 900, 3600, 7200])}
    if kind == "sentry":
        options |= {"organization": "acme"}
    else:
        options |= {"limit": rng.choice([3, 20, 200]) if kind == "jaeger" else 60}
    faults = faulty.Faults(seed, rng.choice([0.0, 0.05, 0.2]))
    with tempfile.TemporaryDirectory() as folder, faulty.serving(server, faults) as url:
        lake = Lake(Path(folder) / "lake")
        ends = sorted(rng.randrange(HOUR) for _ in range(rng.randrange(1, 4)))
        told = [_pulled(rng, lake, kind, url, options, server, MICROS + end) for end in ends]
        last = MICROS + HOUR + LATE + 10_000_000
        server.clock = last
        faults.share = min(faults.share, 0.05)
        for patience in range(20, 0, -1):
            try:
                _pull(lake, kind, url, options, last)
                break
            except UserError:
                if patience == 1:
                    raise
        found = held(lake)
        assert found == truth, (seed, kind, found - truth, truth - found)
        lines = {line["table"]: line for line in account(lake).to_dicts()}
        for line in lines.values():
            assert line["delivered"] == line["raw"] + line["refused"], (seed, kind, line)
    return f"{kind}: {', '.join(told)}; {sum(faults.seen.values())} faults, {len(truth)} records"


def _pull(lake: Lake, kind: str, url: str, options: dict[str, Any], until: int) -> None:
    at = START + timedelta(microseconds=until - MICROS)
    ingest(lake, kind, url, until=at, **options)


def _pulled(
    rng: random.Random,
    lake: Lake,
    kind: str,
    url: str,
    options: dict[str, Any],
    server: Any,
    until: int,
) -> str:
    """One pull in the middle of things; how it was made."""
    server.clock = until
    how = rng.choice(["plain"] * 5 + ["killed", "two", "back", "backfill"])
    try:
        if how == "killed":
            process = _process(lake, kind, url, options, until)
            time.sleep(rng.uniform(0.3, 1.3))
            process.send_signal(signal.SIGKILL)
            process.wait()
        elif how == "two":
            both = [_process(lake, kind, url, options, until) for _ in range(2)]
            for process in both:
                process.wait()
        elif how == "back":
            _pull(lake, kind, url, options, until)
            _pull(lake, kind, url, options, until - rng.randrange(HOUR))
        elif how == "backfill":
            at = START + timedelta(microseconds=rng.randrange(HOUR))
            span = timedelta(microseconds=rng.randrange(1, HOUR))
            ingest(lake, kind, url, since=at, until=at + span, **options)
        else:
            _pull(lake, kind, url, options, until)
    except UserError as error:
        return f"{how} (failed: {str(error)[:40]})"
    return how


def _process(
    lake: Lake, kind: str, url: str, options: dict[str, Any], until: int
) -> subprocess.Popen[bytes]:
    at = START + timedelta(microseconds=until - MICROS)
    command = [sys.executable, "-m", "rootlake.cli", "--lake", lake.root, "ingest", kind, url]
    command += ["--until", at.isoformat()]
    for name, value in options.items():
        command += ["--set", f"{name}={value}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """As many runs as asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    for seed in range(given.seed, given.seed + given.runs):
        told = once(seed)
        if seed % 20 == 0 or not sys.stdout.isatty():
            print(f"{seed}  {time.monotonic() - began:.0f} s  {told}", flush=True)
    print(f"{given.runs} runs, no row lost or doubled, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
