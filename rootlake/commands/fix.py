"""draft a script that undoes the cause, with dry run and rollback

rootlake never runs it: read it, then run it yourself.

example:
  rootlake fix INC-20250311-1405 > fix.sh
  bash fix.sh            # a dry run
  bash fix.sh --apply"""

from __future__ import annotations

import argparse

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("incident", metavar="INCIDENT", help="an incident's id")
    parser.add_argument("--out", metavar="FILE", help="write the script there")


def run(context: Context) -> int:
    import sys
    from pathlib import Path

    from rca.fix import draft
    from rootlake.answers import stored

    answer = stored(context.lake.require(), context.arguments.incident)
    script = draft(answer)
    if context.json:
        context.answer({"incident_id": context.arguments.incident, "script": script})
    elif context.arguments.out:
        from rootlake.files import write_text

        write_text(Path(context.arguments.out), script)
        context.out.print(f"wrote {context.arguments.out}; read it, then `bash` it for a dry run")
    else:
        sys.stdout.write(script)
    return 0
