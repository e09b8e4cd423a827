"""tables, freshness, and an account of every row

Every record a source delivered is in a raw table or in quarantine; every raw row is clean,
merged, joined or in quarantine.

example:
  rootlake status
  rootlake status --json"""

from __future__ import annotations

import argparse

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    del parser  # no options of its own


def run(context: Context) -> int:
    from rootlake.status import status

    found = status(context.lake.require())
    if context.json:
        context.answer(found)
    else:
        from rootlake.tables import lake_status

        lake_status(context.out, found)
    unsettled = any(not row["balanced"] or row["quarantined"] for row in found["account"])
    return 3 if context.strict and unsettled else 0
