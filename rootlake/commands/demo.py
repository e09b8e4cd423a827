"""the whole pipeline on the recorded sample incidents, in a minute

Makes a folder with a lake, a report for each incident and a configuration file. Run again,
it changes nothing.

example:
  rootlake demo
  rootlake demo --out /tmp/tour"""

from __future__ import annotations

import argparse

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", default="rootlake-demo", help="where to (default: rootlake-demo)"
    )


def run(context: Context) -> int:
    from pathlib import Path

    from rootlake.demo import demo

    return demo(context, Path(context.arguments.out))
