"""Nothing lost, nothing doubled: sources pulled again and again from servers that fail.

    python -m tests.soak [--runs 500] [--seed 0]

A run is one seed: a source, its records with the moments they became visible (some late), the
faults of its server, and a handful of pulls as a cron job makes them: some killed (SIGKILL) at a
random moment, some two at a time, some with a clock that went back or ahead, some backfills. After
the last pull the raw table must hold every record once, nothing may be refused, and `status` must
balance. Where a row is missing or doubled, the seed and the rows are told.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from ingest.run import pull
from ingest.source import made
from lake import Lake, UserError
from quality.account import account
from tests import faulty
from tests.servers import prometheus

START = datetime(2025, 3, 11, 14, tzinfo=UTC)
MICROS = int(START.timestamp()) * 1_000_000
HOUR = 3_600_000_000
LATE = 500_000_000  # µs that a record may be late, within every source's overlap
LAST = MICROS + HOUR + LATE + 10_000_000
OPTIONS: dict[str, Any] = {"timeout": 0.4, "attempts": 8, "backoff": 0.01, "overlap": 600}
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ingest.run", "ingest.jaeger", "ingest.prometheus", "lake"])


@dataclass
class Case:
    """A source that is pulled, what it holds in the end, and what the lake holds of it."""

    truth: Counter[Any]
    held: Callable[[Lake], Counter[Any]]
    serve: Callable[[faulty.Faults], AbstractContextManager[str]]
    options: dict[str, Any] = field(default_factory=dict)
    until: Callable[[int], None] = lambda _micros: None  # lets time pass at the source
    windows: bool = True  # whether it is read by windows of time


def _rows(table: str, *columns: str) -> Callable[[Lake], Counter[Any]]:
    return lambda lake: Counter(lake.scan(table).select(columns).collect().rows())


def _live(server: Any, truth: Counter[Any], held: Any, **options: Any) -> Case:
    def until(micros: int) -> None:
        server.clock = micros

    return Case(
        truth, held, lambda faults: faulty.serving(server, faults), {**OPTIONS, **options}, until
    )


def _late(rng: random.Random) -> int:
    return rng.randrange(LATE) if rng.random() < 0.5 else 0


def jaeger(rng: random.Random, version: str = "v1") -> Case:
    """Traces over several services, some growing for minutes; a server may give less than asked."""
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
                    "visible": start + _late(rng),
                }
            )
    factor = 1000 if version == "v3" else 1
    truth = Counter((one["traceID"], one["spanID"], one["startTime"] * factor) for one in spans)
    server = faulty.Jaeger(spans, version, cap=rng.choice([20, 1 << 30]))
    limit = rng.choice([3, 20, 200])
    return _live(server, truth, _rows("raw_spans", "trace_id", "span_id", "start"), limit=limit)


def jaeger_v3(rng: random.Random) -> Case:
    """The same by API v3."""
    return jaeger(rng, "v3")


def sentry(rng: random.Random) -> Case:
    """Events in pages that repeat some of the page before."""
    events = []
    for place in range(rng.randrange(3, 80)):
        at = MICROS + rng.randrange(HOUR)
        events.append({"eventID": f"{place:032x}", "at": at, "visible": at + _late(rng)})
    truth = Counter((one["eventID"],) for one in events)
    server = faulty.Sentry(events, page=rng.randrange(2, 20))
    server.repeat = rng.randrange(3)
    return _live(server, truth, _rows("raw_errors", "event_id"), organization="acme")


def loki(rng: random.Random) -> Case:
    """Lines, some of them equal to the letter."""
    lines = []
    for _ in range(rng.randrange(3, 150)):
        at = MICROS + rng.randrange(HOUR // 1000) * 1000
        late = _late(rng)
        text = rng.choice(["connection refused", "done", f"order {rng.randrange(9)}"])
        pod = rng.choice(["cart-7d9f8b6c5-abcde", "web-0"])
        for _ in range(2 if rng.random() < 0.1 else 1):
            lines += [{"pod": pod, "at": at, "text": text, "visible": at + late}]
    truth = Counter((one["pod"], one["text"], _moment(one["at"])) for one in lines)
    return _live(faulty.Loki(lines), truth, _rows("raw_logs", "pod", "body", "ts"), limit=60)


def kubernetes(rng: random.Random) -> Case:
    """Events of a cluster, several of one pod within one second."""
    events, truth = [], Counter[Any]()
    for _ in range(rng.randrange(2, 40)):
        at = MICROS // 1_000_000 + rng.randrange(3600)
        name = f"cart-7d9f8b6c5-{rng.choice(['abcde', 'fghjk'])}"
        for reason in rng.sample(["Pulled", "Created", "Started", "Killing"], rng.randrange(1, 4)):
            visible = at * 1_000_000 + _late(rng)
            events.append({"name": name, "reason": reason, "at": at, "visible": visible})
            truth[(f"Pod/{name}", f"{reason}: it did", _moment(at * 1_000_000))] = 1
    held = _rows("changes", "ref", "message", "ts")
    case = _live(faulty.Kubernetes(events), truth, held)
    case.options.pop("overlap")
    case.windows = False
    return case


@cache
def _samples() -> tuple[str, Counter[Any]]:
    """What the real Prometheus holds: counters with resets, gauges with gaps, NaN and infinity."""
    rng, lines, truth = random.Random(11), list[str](), Counter[Any]()
    for metric in ("a_total", "b"):
        lines.append(f"# TYPE {metric.removesuffix('_total')} unknown")
        for pod in range(3):
            value = 0.0
            for at in range(0, 3600, 15):
                if rng.random() < 0.05:
                    continue
                value = 0.0 if rng.random() < 0.02 else value + rng.randrange(9) / 3
                shown = rng.choice(["+Inf", "1e-300"]) if rng.random() < 0.01 else repr(value)
                ms = MICROS // 1000 + at * 1000 + 137 * pod
                lines.append(f'{metric}{{pod="{pod}"}} {shown} {ms / 1000:.3f}')
                truth[(metric, _moment(ms * 1000), float(shown))] += 1
    return "\n".join([*lines, "# EOF", ""]), truth


class _Shared:
    """The real Prometheus, started once."""

    stack = ExitStack()
    url: str | None = None

    @classmethod
    def prometheus(cls) -> str:
        if cls.url is None:
            folder = Path(cls.stack.enter_context(tempfile.TemporaryDirectory()))
            text = _samples()[0].encode()
            cls.url = cls.stack.enter_context(prometheus(folder, text))
        return cls.url


def remote_read(rng: random.Random, api: str = "remote-read") -> Case:
    """A real Prometheus behind a bad line."""
    route = faulty.proxy(_Shared.prometheus())
    held = _rows("raw_samples", "metric", "ts", "value")
    options = {**OPTIONS, "api": api, "timeout": 2.0, "selectors": ['{pod=~".+"}']}
    serve = lambda faults: faulty.serving(route, faults)  # noqa: E731
    return Case(_samples()[1], held, serve, options)


def range_api(rng: random.Random) -> Case:
    """The same by the query API."""
    return remote_read(rng, "range")


def pods(rng: random.Random) -> Case:
    """A node's pods/ tree: lines cut at any byte, files rotated, zipped, truncated."""
    folder = _folder()
    writer = _Writer(folder, rng)

    def serve(_faults: faulty.Faults) -> AbstractContextManager[str]:
        return nullcontext(str(folder / "pods"))

    held = _rows("raw_logs", "pod", "body", "ts")
    return Case(writer.truth, held, serve, {}, writer.until, windows=False)


def _folder() -> Path:
    return Path(_Shared.stack.enter_context(tempfile.TemporaryDirectory()))


class _Writer:
    """A node that writes two containers' logs."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.rng, self.truth, self.count = rng, Counter[Any](), 0
        self.rest: dict[str, bytes] = {}
        self.files = {
            pod: folder / "pods" / f"shop_{pod}_uid" / "app" / "0.log"
            for pod in ("cart-7d9f8b6c5-abcde", "web-0")
        }
        for file in self.files.values():
            file.parent.mkdir(parents=True)
            file.touch()

    def until(self, micros: int) -> None:
        """Some more lines; the last may be cut at any byte, unless it is the last time."""
        for pod, file in self.files.items():
            new = self.rest.pop(pod, b"")
            for _ in range(self.rng.randrange(8)):
                new += self._line(pod, docker=pod == "web-0")
            if micros < LAST and new and self.rng.random() < 0.5:
                cut = self.rng.randrange(len(new))
                new, self.rest[pod] = new[:cut], new[cut:]
            with file.open("ab") as out:
                out.write(new)
            if pod not in self.rest and self.rng.random() < 0.3:
                self._rotate(file)

    def _line(self, pod: str, *, docker: bool) -> bytes:
        self.count += 1
        at = MICROS + self.count * 1000
        body = self.rng.choice(["started", f"order {self.count}", 'wéird \\ "q" {', '{"a": 1}'])
        self.truth[(pod, body, _moment(at))] += 1
        stamp = f"{_moment(at):%Y-%m-%dT%H:%M:%S.%f}000Z"
        if docker:
            line = {"log": body + "\n", "stream": "stdout", "time": stamp}
            return json.dumps(line, ensure_ascii=False).encode() + b"\n"
        return f"{stamp} stdout F {body}\n".encode()

    def _rotate(self, file: Path) -> None:
        old = file.with_name(f"0.log.20250311-{self.count:06}")
        file.rename(old)
        file.touch()
        if self.rng.random() < 0.5:
            old.with_name(f"{old.name}.gz").write_bytes(gzip.compress(old.read_bytes()))
            old.unlink()


def git(rng: random.Random) -> Case:
    """A repository that grows; commits come late with old dates, and hold odd bytes."""
    folder = _folder()
    truth = Counter[Any]()

    def words(*more: str, at: int = 0) -> str:
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
        for who in ("AUTHOR", "COMMITTER"):
            env |= {
                f"GIT_{who}_NAME": "a",
                f"GIT_{who}_EMAIL": "a@b",
                f"GIT_{who}_DATE": f"{at} +0",
            }
        done = subprocess.run(["git", "-C", str(folder), *more], capture_output=True, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    words("init", "-q")

    def until(_micros: int) -> None:
        for _ in range(rng.randrange(1, 4)):
            at = MICROS // 1_000_000 + rng.randrange(3600)
            (folder / f"f{rng.randrange(5)}").write_bytes(f"{rng.random()}\x1e\x1f\r\n".encode())
            words("add", ".")
            words("commit", "-q", "-m", rng.choice(["fix \x1e", "more\n\nbody\x1f"]), at=at)
            truth[(words("rev-parse", "HEAD"),)] = 1

    serve = lambda _faults: nullcontext(str(folder))  # noqa: E731
    return Case(truth, _rows("changes", "ref"), serve, {}, until, windows=False)


SOURCES: dict[str, tuple[str, Callable[[random.Random], Case]]] = {
    "jaeger": ("jaeger", jaeger),
    "jaeger v3": ("jaeger", jaeger_v3),
    "sentry": ("sentry", sentry),
    "loki": ("loki", loki),
    "kubernetes": ("k8s", kubernetes),
    "remote-read": ("prometheus", remote_read),
    "range API": ("prometheus", range_api),
    "pods": ("logs", pods),
    "git": ("git", git),
}


def once(seed: int, tally: Counter[str] | None = None) -> str:
    """One seeded run; what it was. Raises AssertionError where a row is lost, doubled or refused.

    `tally` counts the runs by source, the pulls by their kind and the faults.
    """
    rng = random.Random(seed)
    name = sorted(SOURCES)[seed % len(SOURCES)]
    kind, make = SOURCES[name]
    case = make(rng)
    if case.windows:
        case.options["window"] = rng.choice([300, 900, 3600, 7200])
    faults = faulty.Faults(seed, rng.choice([0.0, 0.05, 0.2]))
    with tempfile.TemporaryDirectory() as folder, case.serve(faults) as url:
        run = _Run(rng, case, kind, url, Lake(Path(folder) / "lake"))
        ends = sorted(rng.randrange(HOUR) for _ in range(rng.randrange(1, 4)))
        told = [run.pulled(MICROS + end) for end in ends]
        case.until(LAST)
        faults.share = min(faults.share, 0.05)
        _finally(run)
        found = case.held(run.lake)
        assert found == case.truth, (seed, name, told, found - case.truth, case.truth - found)
        assert not run.lake.read("quarantine").height, (seed, name, "refused")
        for line in account(run.lake).to_dicts():
            assert line["delivered"] == line["raw"] + line["refused"], (seed, name, line)
    if tally is not None:
        tally.update(f"source: {one}" for one in [name])
        tally.update(f"pull: {one.split(' (')[0]}" for one in told)
        tally.update({f"fault: {one}": count for one, count in faults.seen.items()})
    return f"{name}: {', '.join(told)}; {sum(faults.seen.values())} faults"


def _finally(run: _Run) -> None:
    """The last pull, as often as it takes."""
    for patience in range(20, 0, -1):
        try:
            run.pull(LAST)
            return
        except UserError:
            if patience == 1:
                raise


@dataclass
class _Run:
    """A source being pulled into a lake."""

    rng: random.Random
    case: Case
    kind: str
    url: str
    lake: Lake

    def pull(self, now: int, **window: Any) -> None:
        """A pull at a moment, in this process."""
        source = made(self.kind, {"target": self.url, **self.case.options})
        pull(self.lake, source, now=_moment(now), **window)

    def pulled(self, until: int) -> str:
        """One pull in the middle of things; how it was made."""
        self.case.until(until)
        ways = ["plain"] * 4 + ["killed"] * 2 + ["two"]
        how = self.rng.choice(ways + ["back", "ahead", "backfill"] * self.case.windows)
        try:
            getattr(self, how)(until)
        except UserError as error:
            return f"{how} (failed: {str(error)[:60]})"
        return how

    def plain(self, until: int) -> None:
        self.pull(until)

    def back(self, until: int) -> None:
        """A clock that goes back after a pull."""
        self.pull(until)
        self.pull(until - self.rng.randrange(HOUR))

    def ahead(self, until: int) -> None:
        """A clock that is ahead by hours."""
        self.pull(until + self.rng.randrange(1, 5) * HOUR)

    def backfill(self, _until: int) -> None:
        """Any window, beside the position."""
        at = START + timedelta(microseconds=self.rng.randrange(HOUR))
        span = timedelta(microseconds=self.rng.randrange(1, HOUR))
        self.pull(LAST, since=at, until=at + span)

    def killed(self, until: int) -> None:
        """SIGKILL at a random moment."""
        process = self._process(until)
        process.join(self.rng.uniform(0.0, 0.7))
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGKILL)
        process.join()

    def two(self, until: int) -> None:
        """Two at the same time."""
        both = [self._process(until) for _ in range(2)]
        for process in both:
            process.join()

    def _process(self, until: int) -> Any:
        work = (self.lake.root, self.kind, {"target": self.url, **self.case.options}, until)
        process = PROCESSES.Process(target=_alone, args=work)
        process.start()
        return process


def _alone(root: str, kind: str, options: dict[str, Any], now: int) -> None:
    """A pull in a process of its own; what goes wrong is told to nobody."""
    try:
        pull(Lake(root), made(kind, options), now=_moment(now))
    except UserError:
        sys.exit(1)


def _moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


@contextmanager
def shared() -> Iterator[None]:
    """What all runs share, cleared away at the end."""
    try:
        yield
    finally:
        _Shared.stack.close()
        _Shared.stack, _Shared.url = ExitStack(), None


def main() -> None:
    """As many runs as asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began, tally = time.monotonic(), Counter[str]()
    with shared():
        for seed in range(given.seed, given.seed + given.runs):
            told = once(seed, tally)
            if seed % 10 == 9:
                print(f"{seed}  {time.monotonic() - began:.0f} s  {told}", flush=True)
    for name, count in sorted(tally.items()):
        print(f"{name:<24}{count:>8,}")
    print(f"{given.runs} runs, no row lost or doubled, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
