"""find incidents in the clean tables and keep them in `incidents`

example:
  rootlake detect
  rootlake detect --since 24h"""

from __future__ import annotations

import argparse

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="T", help="look at telemetry from this time on")


def run(context: Context) -> int:
    from rca.detect import detect
    from rootlake.times import moment

    given = context.arguments.since
    with context.progress("detect"):
        found = detect(context.lake.require(), moment(given) if given else None)
    if context.json:
        context.answer(found.to_dicts())
    else:
        from rootlake.tables import incidents

        incidents(context.out, found, context.called)
    return 0
