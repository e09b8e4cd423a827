"""run the query of a piece of evidence again, at the table versions it cites

ID is e1, e2, … of the newest diagnosis, or INCIDENT/e1 of another one; without it the evidence of
the newest diagnosis is listed. The stored result stands beside the fresh one. Exit code 1 when the
cited versions were vacuumed away; with --strict 3 when the result is another one.

example:
  rootlake evidence
  rootlake evidence e1
  rootlake evidence INC-20250311-1405/e3 --json"""

from __future__ import annotations

import argparse
from typing import Any

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="ID", help="e1, or INCIDENT/e1")


def run(context: Context) -> int:
    from rca import evidence
    from rootlake.answers import newest, stored

    lake = context.lake.require()
    incident, _, name = (context.arguments.id or "").rpartition("/")
    answer = stored(lake, incident) if incident else newest(lake)
    if not name:
        return _listed(context, answer)
    entry = evidence.find(answer, name)
    found = evidence.again(lake, entry)
    if context.json:
        context.answer({"incident_id": answer["incident_id"], **entry, **found})
    else:
        _shown(context, answer, entry, found)
    if found["holds"] is None:
        return 1
    return 3 if context.strict and not found["holds"] else 0


def _listed(context: Context, answer: dict[str, Any]) -> int:
    """The evidence of a diagnosis, one line each."""
    from rootlake.tables import rows

    if context.json:
        context.answer(answer["evidence"])
    else:
        lines = [[one["id"], one["kind"], one["claim"]] for one in answer["evidence"]]
        rows(context.out, [answer["incident_id"], "kind", "claim"], lines)
    return 0


def _shown(
    context: Context, answer: dict[str, Any], entry: dict[str, Any], found: dict[str, Any]
) -> None:
    """The claim, its query, what it gave then and what it gives now."""
    from rich.text import Text

    from rootlake.tables import lines, rows

    tables = ", ".join(f"{name} at version {at}" for name, at in entry["tables"].items())
    out = context.out
    out.print(lines(f"{answer['incident_id']}/{entry['id']}: {entry['claim']}\n"), soft_wrap=True)
    out.print(lines(f"{entry['query']}\n\nstored, from {tables}:"), soft_wrap=True)
    rows(out, entry["columns"], entry["result"])
    if found["fresh"] is not None:
        out.print("fresh, from the same versions:")
        rows(out, entry["columns"], found["fresh"])
    if found["newest"] != (found["fresh"] or entry["result"]):
        out.print("from the newest versions:")
        rows(out, entry["columns"], found["newest"])
    if entry["rows"] > len(entry["result"]):
        out.print(f"{entry['rows'] - len(entry['result'])} more rows were not kept")
    out.print(Text(found["says"]))
