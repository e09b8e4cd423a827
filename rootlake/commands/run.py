"""one scheduled cycle: pull every configured source, repair, check, detect, diagnose

Safe to run every few minutes: what is done already is left out, one source's failure stops no
other, and a second cycle beside this one stops with a message. Exit code 1 when something failed;
with --strict 3 when a check fails, a source is silent, rows are in quarantine or a diagnosis is
inconclusive.

example:
  rootlake run
  rootlake run --migrate"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootlake.context import Context

if TYPE_CHECKING:
    from rootlake.cycle import Cycle, Pulled


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--migrate", action="store_true", help="bring tables of an older rootlake up to date first"
    )
    parser.add_argument(
        "--no-ingest",
        action="store_true",
        help="pull nothing: only what follows (each source is a job of its own)",
    )


def run(context: Context) -> int:
    from datetime import UTC, datetime

    from lake.errors import UserError
    from lake.migrate import migrate, pending
    from rootlake.cycle import cycle, openmetrics

    config, given = context.config, context.arguments
    if not config.sources and not given.no_ingest:
        raise UserError("no source is configured; `rootlake init --add KIND=TARGET` adds one.")
    steps = pending(context.lake)
    for step in steps:
        context.err.print(f"migration {step.target}: {step.about}", markup=False)
    if steps and not given.migrate:
        raise UserError(
            "the lake was made by an older rootlake; `rootlake run --migrate` does this."
        )
    migrate(context.lake)
    flags = [
        word
        for name in ("config", "lake")
        if getattr(given, name, None)
        for word in (f"--{name}", getattr(given, name))
    ]
    with context.progress("run") as say:
        done = cycle(config, context.lake, flags, say, pull=not given.no_ingest)
    if config.run.metrics:
        _put(Path(config.run.metrics), openmetrics(done, datetime.now(UTC)))
    if context.json:
        context.answer({**vars(done), "sources": [vars(one) for one in done.sources]})
    else:
        _shown(context, done)
    return 1 if done.failed else 3 if context.strict and done.looks() else 0


def _put(file: Path, text: str) -> None:
    """Whole or not at all: a collector may read at any moment."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def _shown(context: Context, done: Cycle) -> None:
    for one in done.sources:
        context.out.print(_line(one), markup=False)
    for name, found in done.steps.items():
        context.out.print(f"{name:<10}{_told(found)}", markup=False, soft_wrap=True)


def _told(found: dict[str, Any]) -> str:
    """What a step found: an error first, what failed by its names."""
    parts = [f"FAILED  {found['error']}"] if "error" in found else []
    for key, value in found.items():
        if isinstance(value, list):
            parts.append(f"{len(value)} {key.upper()}: {', '.join(value)}" if value else "all hold")
        elif isinstance(value, dict):
            parts.append(f"{key} {'; '.join(f'{one}: {why}' for one, why in value.items())}")
        elif key != "error":
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def _line(one: Pulled) -> str:
    if one.error:
        return f"{one.name:<16} FAILED  {one.error}"
    counts = one.counts
    text = f"{one.name:<16} {counts['rows']:>10,} rows  {one.seconds:6.1f} s"
    if one.lag is not None:
        text += f"  newest {_age(one.lag)} ago"
    if one.silent:
        text += "  SILENT"
    if counts["quarantined"]:
        text += f"  {counts['quarantined']:,} refused"
    return text


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
