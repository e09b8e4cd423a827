"""write an incident's diagnosis as one self-contained HTML page, or print it

example:
  rootlake report INC-20250311-1405
  rootlake report INC-20250311-1405 --html report.html"""

from __future__ import annotations

import argparse

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("incident", metavar="INCIDENT", help="an incident's id")
    parser.add_argument("--html", metavar="FILE", help="write a page there")


def run(context: Context) -> int:
    from pathlib import Path

    from rootlake.answers import stored

    lake = context.lake.require()
    answer = stored(lake, context.arguments.incident)
    if context.arguments.html:
        from rca.report.html import page
        from rootlake.files import write_text

        file = Path(context.arguments.html)
        write_text(file, page(lake, answer))
        context.out.print(f"wrote {file}")
    elif context.json:
        context.answer(answer)
    else:
        from rca.report.terminal import render

        render(answer, context.out, context.called)
    return 0
