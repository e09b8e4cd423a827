"""One scheduled cycle: every configured source pulled, then repair, checks, detection, diagnosis.

Each source is pulled by a process of its own (`rootlake ingest NAME`), so that one that hangs,
fails or runs out of memory stops no other; what it landed stays, and the next cycle goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from lake import UNPLACED, Lake, UserError
from rootlake.config import Config, Source

_TABLES = {
    "jaeger": "raw_spans",
    "otlp": "raw_spans",
    "prometheus": "raw_samples",
    "sentry": "raw_errors",
    "logs": "raw_logs",
    "loki": "raw_logs",
}


@dataclass
class Pulled:
    """What became of one source in a cycle."""

    name: str
    kind: str
    error: str | None = None
    seconds: float = 0.0
    counts: dict[str, Any] = field(default_factory=dict)
    lag: float | None = None  # seconds between its newest row and now
    silent: bool = False


@dataclass
class Cycle:
    """What one cycle did; `failed` names what did not work."""

    sources: list[Pulled] = field(default_factory=list)
    steps: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def looks(self) -> bool:
        """Whether something needs a look though all worked: refused records, a silent source, rows
        in quarantine, a check that fails, a diagnosis that is inconclusive or missing."""
        of = self.steps.get
        return (
            any(one.silent or one.counts.get("quarantined") for one in self.sources)
            or bool(of("repair", {}).get("quarantined"))
            or bool(of("quality", {}).get("failed"))
            or any(of("diagnose", {}).get(name) for name in ("inconclusive", "left"))
        )


def cycle(
    config: Config,
    lake: Lake,
    flags: Sequence[str],
    say: Callable[[str], None] | None = None,
    *,
    pull: bool = True,
) -> Cycle:
    """Run once; without `pull` only what follows the sources. `flags` are the global options of
    the command line, for the processes."""
    done = Cycle()
    tell = say or (lambda _text: None)
    with lake.lock("rootlake run"):
        if pull:
            done.sources = _pull_all(config, flags, tell)
        done.failed += [f"ingest {one.name}" for one in done.sources if one.error]
        if lake.exists():
            _follow(config, lake, done, tell)
    return done


def _pull_all(config: Config, flags: Sequence[str], tell: Callable[[str], None]) -> list[Pulled]:
    """Every source, side by side; those of one server one after the other, to spare it.

    When this process is told to stop, so are the pulls; what they landed stays.
    """
    servers: dict[str, list[Source]] = {}
    for source in config.sources:
        servers.setdefault(_server(source), []).append(source)
    running, pulled = set[subprocess.Popen[str]](), dict[str, Pulled]()
    stopped = threading.Event()

    def pull(sources: Sequence[Source]) -> None:
        for source in sources:
            if not stopped.is_set():
                pulled[source.called] = _pull(source, config, flags, running)
                tell(f"{len(pulled)} of {len(config.sources)} sources, {source.called} last")

    with ThreadPoolExecutor(config.run.parallel) as threads:
        try:
            waiting = [threads.submit(pull, group) for group in servers.values()]
            for one in as_completed(waiting):
                one.result()
        except BaseException:
            stopped.set()
            for process in tuple(running):
                process.terminate()
            threads.shutdown(cancel_futures=True)
            raise
    return [pulled[source.called] for source in config.sources]


def _server(source: Source) -> str:
    """What names a source's server; a source of files is one of its own."""
    return _host(source.target).partition("/")[0] or f"source {source.called}"


def _pull(
    source: Source, config: Config, flags: Sequence[str], running: set[subprocess.Popen[str]]
) -> Pulled:
    """One source, in a process that is killed when its time is over."""
    command = [sys.executable, "-m", "rootlake.cli", *flags, "--json", "ingest", source.called]
    began = time.monotonic()
    out = Pulled(source.called, source.kind)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        running.add(process)
        try:
            answer, words = process.communicate(timeout=config.run.timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out.error = f"it took longer than {config.run.timeout:g} s; what had landed stays"
        else:
            if process.returncode:
                lines = words.strip().splitlines() or [f"exit code {process.returncode}"]
                out.error = lines[-1].removeprefix("rootlake: ")
            else:
                out.counts = json.loads(answer)
        finally:
            running.discard(process)
    out.seconds = time.monotonic() - began
    return out


def _follow(config: Config, lake: Lake, done: Cycle, tell: Callable[[str], None]) -> None:
    """What follows the pulls: how fresh each source is, then the steps asked for. One that fails
    stops no other: the tables they read are whole at any time."""
    now = datetime.now(UTC)
    for one, source in zip(done.sources, config.sources, strict=bool(done.sources)):
        newest = _newest(lake, source)
        one.lag = None if newest is None else (now - newest).total_seconds()
        one.silent = one.lag is not None and one.lag > source.silent * 3600
    for step in config.run.steps:
        tell(step)
        try:
            done.steps[step] = _STEPS[step](lake, config)
        except UserError as error:
            done.steps[step] = {"error": str(error)}
        if "error" in done.steps[step]:
            done.failed.append(step)


def _newest(lake: Lake, source: Source) -> datetime | None:
    """The newest event of a source; None where it has none, or has no table of events.

    A server is told by its host in the batches' names; files of one kind count together.
    """
    table = _TABLES.get(source.kind)
    if table is None:
        return None
    time_of = (
        pl.when(pl.col("start_unit") == "ns").then(pl.col("start") // 1000).otherwise("start")
        if table == "raw_spans"
        else pl.col("ts").dt.timestamp("us")
    )
    days = [day for day in lake.days(table) if day.year > 1970]
    found = (
        lake.scan(table)
        .filter(
            pl.col("source") == source.kind,
            pl.col("date").is_in(days[-3:]),
            pl.col("batch").str.starts_with(_host(source.target)),
        )
        .select(time_of.max())
        .collect()
        .item()
    )
    return None if found is None else datetime.fromtimestamp(found / 1e6, UTC)


def _host(target: str) -> str:
    """What the batches of a server's rows begin with; nothing for files."""
    from ingest.web import host_of, is_url

    return host_of(target) if is_url(target) else ""


def _repair(lake: Lake, config: Config) -> dict[str, Any]:
    from quality.run import repair
    from rca.intents import label

    found = repair(lake, expected=config.expected()).as_dict()
    label(lake)
    told: dict[str, Any] = {
        "days": len(found["days"]),
        "rows changed": sum(found["rules"].values()),
        "quarantined": found["quarantined"],
    }
    if found["refused"]:
        days = ", ".join(f"{one['date']} of {one['table']}" for one in found["refused"])
        told["error"] = f"an expectation refused {days}; `rootlake repair` says why."
    return told


def _quality(lake: Lake, config: Config) -> dict[str, Any]:
    """The checks of the newest day; a lake of changes alone has nothing to check."""
    from quality.expectations import CLEAN
    from rootlake.judged import judged

    if not any(set(lake.days(table)) - {UNPLACED} for table in CLEAN):
        return {"checks": 0, "failed": []}
    found = judged(lake, config, datetime.now(UTC))
    return {"date": found["date"], "checks": len(found["checks"]), "failed": found["failed"]}


def _detect(lake: Lake, _config: Config) -> dict[str, Any]:
    from rca.detect import detect

    found = detect(lake)
    return {"incidents": found.height, "open": int((found["status"] == "open").sum())}


def _diagnose(lake: Lake, _config: Config) -> dict[str, Any]:
    """Every incident that has no diagnosis yet; one whose telemetry is gone holds up no other."""
    from rca.diagnose import diagnose
    from rca.question import of_incident

    known = lake.scan("diagnoses").select("incident_id").unique().collect()
    names = (
        lake.scan("incidents")
        .select("incident_id")
        .collect()
        .join(known, on="incident_id", how="anti")["incident_id"]
        .to_list()
    )
    verdicts, left = list[str](), dict[str, str]()
    for name in names:
        try:
            verdicts.append(diagnose(lake, of_incident(lake, name))["verdict"])
        except UserError as error:
            left[name] = str(error)
    told = {"diagnosed": len(verdicts), "inconclusive": verdicts.count("inconclusive")}
    return {**told, "left": left} if left else told


_STEPS: dict[str, Callable[[Lake, Config], dict[str, Any]]] = {
    "repair": _repair,
    "quality": _quality,
    "detect": _detect,
    "diagnose": _diagnose,
}


def openmetrics(done: Cycle, now: datetime) -> str:
    """The cycle as OpenMetrics text, for a node exporter's textfile collector."""
    families = (
        ("rows", "gauge", "Rows the last cycle landed", lambda one: one.counts.get("rows", 0)),
        ("bytes", "gauge", "Bytes of these rows", lambda one: one.counts.get("bytes", 0)),
        ("refused", "gauge", "Records refused", lambda one: one.counts.get("quarantined", 0)),
        ("duration_seconds", "gauge", "Time the pull took", lambda one: round(one.seconds, 3)),
        ("lag_seconds", "gauge", "Age of the newest row", lambda one: one.lag),
        ("up", "gauge", "Whether the last pull worked", lambda one: int(one.error is None)),
    )
    lines = []
    for name, kind, text, value in families:
        lines += [f"# TYPE rootlake_source_{name} {kind}", f"# HELP rootlake_source_{name} {text}."]
        lines += [
            f'rootlake_source_{name}{{source="{_escaped(one.name)}",kind="{one.kind}"}} {found:g}'
            for one in done.sources
            if (found := value(one)) is not None
        ]
    if "failed" in done.steps.get("quality", {}):
        lines += [
            "# TYPE rootlake_checks_failed gauge",
            "# HELP rootlake_checks_failed Checks of the newest day that do not hold.",
            f"rootlake_checks_failed {len(done.steps['quality']['failed'])}",
        ]
    lines += [
        "# TYPE rootlake_cycle_end_time_seconds gauge",
        "# HELP rootlake_cycle_end_time_seconds When the last cycle ended.",
        f"rootlake_cycle_end_time_seconds {now.timestamp():.3f}",
    ]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
