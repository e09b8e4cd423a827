"""The command line. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from lake.errors import UsageError, UserError
from rootlake import __version__
from rootlake.context import Context

COMMANDS = (
    "demo",
    "ingest",
    "repair",
    "quality",
    "maintain",
    "status",
    "detect",
    "diagnose",
    "evidence",
    "report",
    "fix",
    "ask",
    "cases",
    "sql",
    "sources",
    "init",
    "run",
    "cardinality",
)
LOOK = 3  # exit code with --strict: done, but something needs a look
_TOP = """An observability lakehouse that keeps its own data right, and finds the root cause.

example:
  rootlake demo
  rootlake ingest jaeger traces/ && rootlake repair && rootlake detect
  rootlake diagnose --at 2025-03-11T14:07Z"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 1 failed, 2 wrong usage, 3 needs a look."""
    arguments = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or pipe that knows few characters
            stream.reconfigure(errors="replace")
    context = Context(arguments)
    sys.unraisablehook = _again
    try:
        signal.signal(signal.SIGTERM, _stopped)
        return int(arguments.run(context))
    except UserError as error:
        print(f"rootlake: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("rootlake: interrupted; what landed stays, run it again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # polars panics where a file was cut
        if not _of_the_world(error):
            raise
        print(f"rootlake: {_told(error, context)}", file=sys.stderr)
        return 1


def _of_the_world(error: BaseException) -> bool:
    """Whether it tells of disks, files and networks rather than of a fault in this program."""
    home = type(error).__module__.partition(".")[0]
    made = {"deltalake", "_internal", "polars", "duckdb", "pyo3_runtime"}
    return isinstance(error, OSError) or home in made


def _told(error: BaseException, context: Context) -> str:
    """An error of the operating system or of a library that reads and writes, as one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; what landed stays."
    from lake.damage import damage
    from lake.schemas import TABLES

    lines = re.sub(r"\x1b\[[\d;]*m|↳", "", str(error)).split()
    return damage(context.lake, TABLES) or f"reading or writing failed: {' '.join(lines)}"


def _stopped(_number: int, _frame: object) -> NoReturn:
    """A request to end (systemd, Kubernetes) is handled as Ctrl-C is."""
    raise KeyboardInterrupt


def _again(lost: sys.UnraisableHookArgs) -> None:
    """Ctrl-C may strike within a finalizer, where Python prints it and goes on: it is sent anew."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    import _thread
    import threading

    later = threading.Timer(0.02, _thread.interrupt_main)
    later.daemon = True
    later.start()


class _Parser(argparse.ArgumentParser):
    """An error that shows the one line that matters, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"rootlake: {message}; `{self.prog} --help` shows how.\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line; global options stand before or after the command."""
    top = _Parser("rootlake", description=_TOP, formatter_class=argparse.RawTextHelpFormatter)
    top.add_argument("--version", action="version", version=f"rootlake {__version__}")
    _add_globals(top, default=None)
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name in COMMANDS:
        module = import_module(f"rootlake.commands.{name}")
        about = module.__doc__ or ""
        one = commands.add_parser(
            name,
            help=about.splitlines()[0],
            description=about,
            formatter_class=argparse.RawTextHelpFormatter,
        )
        _add_globals(one, default=argparse.SUPPRESS)
        module.add(one)
        one.set_defaults(run=module.run)
    return top


def _add_globals(one: argparse.ArgumentParser, default: object) -> None:
    group = one.add_argument_group("global options")
    flag = default is not None
    group.add_argument("--lake", metavar="PATH_OR_URL", default=default, help="where the lake is")
    group.add_argument(
        "--config", metavar="FILE", default=default, help="settings (default: rootlake.toml)"
    )
    for name, text in (
        ("--json", "JSON alone on standard output"),
        ("--strict", "exit 3 when something needs a look"),
    ):
        group.add_argument(name, action="store_true", default=default if flag else False, help=text)


if __name__ == "__main__":
    sys.exit(main())
