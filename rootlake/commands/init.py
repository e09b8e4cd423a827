"""write a commented rootlake.toml, and try each source of it with a real call

What is there already is kept; with --add the named sources are added to it.

example:
  rootlake init
  rootlake init --add prometheus=http://prometheus:9090 --add jaeger=http://jaeger:16686"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from rootlake.context import Context

_SOURCE = """
[[sources]]
kind = "{kind}"
name = "{name}"
target = "{target}"
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="KIND=TARGET",
        help="a source to add; may be repeated",
    )


def run(context: Context) -> int:
    from rootlake.config import DEFAULT, load
    from rootlake.template import template

    file = Path(context.arguments.config or DEFAULT)
    added = [_parsed(pair) for pair in context.arguments.add]
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    names = [one.called for one in load(str(file)).sources] if old else []
    text = (old or template()) + "".join(_written(*one, names) for one in added)
    if text != old:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    context.out.print(f"{file} is {'kept' if text == old else 'written'}", markup=False)
    failed = [one for one in load(str(file)).sources if not _tried(context, one)]
    return 1 if failed else 0


def _parsed(pair: str) -> tuple[str, str]:
    from ingest.source import source_class
    from lake.errors import UsageError

    kind, sign, target = pair.partition("=")
    if not sign:
        raise UsageError(f"--add {pair} has no '='; write KIND=TARGET.")
    source_class(kind)
    return kind, target


def _written(kind: str, target: str, names: list[str]) -> str:
    """A source under a name of its own, which joins the names."""
    name = next(one for one in _numbered(kind) if one not in names)
    names.append(name)
    escaped = target.replace("\\", "\\\\").replace('"', '\\"')
    return _SOURCE.format(kind=kind, name=name, target=escaped)


def _numbered(kind: str) -> Iterator[str]:
    yield kind
    yield from (f"{kind}-{number}" for number in count(2))


def _tried(context: Context, one: object) -> bool:
    """A real call to a source; what it said."""
    from ingest.source import made
    from lake.errors import UserError
    from rootlake.config import Source

    assert isinstance(one, Source)
    try:
        text, good = made(one.kind, one.options).check(), True
    except UserError as error:
        text, good = str(error), False
    sign = "[green]ok[/green]     " if good else "[red]failed[/red] "
    context.out.print(sign, end="")
    context.out.print(f"{one.called}: {text}", markup=False)
    return good
