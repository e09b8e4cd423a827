"""keep the tables small and fast, and erase what must not be kept

Without options: days that [retention] lets expire are deleted, small files become one (in order),
files that no version of the last week needs are removed, and old logs. What the evidence of kept
incidents cites stays readable. Safe beside a running ingest, and again after it was interrupted.
--erase removes a trace or a user everywhere and keeps it out for good.

example:
  rootlake maintain --dry-run
  rootlake maintain
  rootlake maintain compact
  rootlake maintain --erase trace=7d2f0c41e5a94b6f8a3c5e1d9b7f2a60
  rootlake maintain --erase user=9c1185a5c5e9fc54612808977ee8f548"""

from __future__ import annotations

import argparse
from typing import Any

from rootlake.context import Context

STEPS = ("retain", "compact", "vacuum")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "step",
        nargs="?",
        choices=STEPS,
        metavar="STEP",
        help="retain, compact or vacuum alone (default: all three)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument(
        "--erase", metavar="user=HASH|trace=ID", help="erase it everywhere, and keep it out"
    )


def run(context: Context) -> int:
    given = context.arguments
    context.lake.require()
    if given.erase is not None:
        return _erase(context, given.erase, dry=given.dry_run)
    from datetime import UTC, datetime

    from lake.maintain import Plan, maintain

    settings = context.config.maintain
    steps = (given.step,) if given.step else STEPS
    plan = Plan(context.config.retention, settings.hours, settings.log_days, steps)
    with context.progress("maintain") as say:
        done = maintain(context.lake, plan, datetime.now(UTC).date(), dry=given.dry_run, say=say)
    if context.json:
        context.answer({"dry_run": given.dry_run, "done": [vars(one) for one in done]})
    else:
        from rootlake.tables import maintained

        maintained(context.out, [vars(one) for one in done], dry=given.dry_run)
    return 0


def _erase(context: Context, what: str, *, dry: bool) -> int:
    from lake.errors import UsageError
    from quality.erase import erase

    if context.arguments.step:
        raise UsageError(f"--erase does not go with {context.arguments.step}: it is done whole.")
    kind, _, value = what.partition("=")
    if kind not in {"user", "trace"} or not value:
        raise UsageError(f"--erase {what}: write user=HASH or trace=ID.")
    with context.progress("erase") as say:
        found: dict[str, Any] = erase(context.lake, kind, value, dry=dry, say=say)
    if context.json:
        context.answer(found)
    else:
        from rootlake.tables import erased

        erased(context.out, found)
    return 1 if found["left"] else 0
