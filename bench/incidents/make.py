"""Incidents by seed: a system, what goes wrong in it, the tables it leaves behind, the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from bench.incidents import changes, frames, gauges
from bench.incidents.faults import Fault, draw
from bench.incidents.play import Play
from bench.incidents.system import Rng, System, system
from lake import Lake

BEFORE = 36.0  # minutes recorded before the onset
EPOCH = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
HIDDEN = {"logs": 0.1, "samples": 0.12, "spans": 0.06, "errors": 0.0}  # how often there are none


@dataclass(frozen=True)
class Incident:
    """`answers`: of each fault the services that are right, the worst first; none when healthy.
    `hidden`: tables that stay empty."""

    seed: int
    system: System
    faults: tuple[Fault, ...]
    at: datetime
    onset: datetime
    tables: Mapping[str, pl.DataFrame]
    hidden: tuple[str, ...]
    culprits: tuple[str, ...]  # refs of the changes that explain it
    decoys: tuple[str, ...]

    @property
    def answers(self) -> list[tuple[str, ...]]:
        return [fault.services for fault in self.faults]

    def fill(self, lake: Lake) -> Lake:
        """Its tables added to a lake."""
        for name, rows in self.tables.items():
            if rows.height:
                lake.append(name, rows)
        return lake


def incident(seed: int, *, healthy: bool = False, double: bool = False) -> Incident:
    """The incident of a seed: `double` two faults at once, `healthy` none."""
    rng = np.random.default_rng([seed, 2 * healthy + double])
    made = system(rng)
    onset = EPOCH + 86400 * (seed % 300) + 3600 * 6 + float(rng.uniform(0, 3600 * 8))
    faults: list[Fault] = []
    if not healthy:
        faults.append(draw(rng, made, onset))
    if double and len(made.services) > 3:
        faults.append(draw(rng, made, onset + float(rng.uniform(-20, 40)), faults[0].services))
    after = float(rng.uniform(75, 260))
    start, minutes = onset - 60 * BEFORE, BEFORE + after / 60 + 1
    play = Play(made, faults, start, minutes, rng)
    play.run()
    hidden = _hidden(rng, made, faults)
    salt = int(rng.integers(2**62))
    tables = _tables(made, play, faults, start, minutes, salt, rng)
    told, culprits, decoys = changes.around(rng, made, faults, onset)
    tables["changes"] = told
    for name in hidden:
        for table in {"spans": ("spans", "red", "edges"), "samples": ("samples", "series")}.get(
            name, (name,)
        ):
            tables[table] = tables[table].clear()
    at = frames.utc(onset + after)
    return Incident(
        seed, made, tuple(faults), at, frames.utc(onset), tables, hidden, culprits, decoys
    )


def _tables(
    made: System, play: Play, faults: list[Fault], start: float, minutes: float, salt: int, rng: Rng
) -> dict[str, pl.DataFrame]:
    played = play.out
    spans = frames.spans(made, played, play.traits, salt)
    lines = frames.logs(made, played, salt, rng)
    texts = lines.group_by("template_id").agg(
        pl.col("template").first(),
        pl.col("ts").min().alias("first_seen"),
        pl.col("ts").max().alias("last_seen"),
        pl.len().cast(pl.Int64).alias("count"),
    )
    rows, series = gauges.samples(made, played, faults, start, 60 * minutes, rng)
    samples, named = frames.metrics(rows, series, salt)
    red, edges = frames.summaries(spans)
    return {
        "spans": spans,
        "logs": frames.fitted("logs", lines.drop("template")),
        "templates": frames.fitted("templates", texts),
        "samples": samples,
        "series": named,
        "errors": frames.errors(made, played, salt),
        "red": red,
        "edges": edges,
    }


def _hidden(rng: Rng, made: System, faults: list[Fault]) -> tuple[str, ...]:
    """Kinds of telemetry that are missing, though never what alone could show the fault."""
    out = [name for name, share in HIDDEN.items() if rng.random() < share]
    if len(out) > 1:
        out = out[:1]
    kinds = {fault.kind for fault in faults}
    quiet = any(made.services[fault.service].quiet for fault in faults)
    if "logs" in out and "wrong_return" in kinds:
        out = []
    if "spans" in out and (
        kinds - {"cpu", "memory", "disk", "exception", "config", "capacity"} or quiet
    ):
        out = []
    if "spans" in out and not made.traced_logs and kinds & {"exception", "config"}:
        out = []
    return tuple(out)
