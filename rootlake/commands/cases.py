"""remember solved incidents and find similar ones

example:
  rootlake cases list
  rootlake cases add INC-20250311-1405 --outcome "rolled back, recovered" --verified
  rootlake cases search "connection pool exhausted"
  rootlake cases show CASE"""

from __future__ import annotations

import argparse
from typing import Any

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("list", "show", "add", "search"),
        metavar="ACTION",
        help="list, show, add or search",
    )
    parser.add_argument("what", nargs="?", metavar="CASE|INCIDENT|TEXT", help="what it is about")
    parser.add_argument("--outcome", help="add: what was done and how it went")
    parser.add_argument("--verified", action="store_true", help="add: the fix was seen to work")


def run(context: Context) -> int:
    from rca import cases
    from rootlake.answers import stored
    from rootlake.tables import records

    given, lake = context.arguments, context.lake.require()
    if given.action != "list" and not given.what:
        from lake.errors import UserError

        raise UserError(f"`cases {given.action}` needs an argument; see rootlake cases --help.")
    found: list[dict[str, Any]]
    if given.action == "add":
        answer = stored(lake, given.what)
        found = [cases.remember(lake, answer, outcome=given.outcome, verified=given.verified)]
    elif given.action == "show":
        found = [cases.show(lake, given.what)]
    elif given.action == "search":
        found = cases.search(lake, given.what)
    else:
        found = cases.list_cases(lake)
    if context.json:
        context.answer(found if given.action in {"list", "search"} else found[0])
    else:
        records(context.out, found, whole=given.action in {"show", "add"})
    return 0
