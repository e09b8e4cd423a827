"""write a commented rootlake.toml, and try each source of it with a real call

What is there already is kept; with --add the named sources are added to it.

example:
  rootlake init
  rootlake init --add prometheus=http://prometheus:9090 --add jaeger=http://jaeger:16686"""

from __future__ import annotations

import argparse
from pathlib import Path

from rootlake.context import Context

_HEAD = """# rootlake's settings; every line that begins with '#' shows a default or an example.
# Paths are relative to this file. All settings: docs/configuration.md; all options of a kind of
# source: `rootlake sources KIND`.

lake = "lake"                        # a folder, or an object store: "s3://bucket/lake"

# [storage_options]                  # for an object store, as deltalake takes them
# AWS_REGION = "eu-central-1"

[run]
# parallel = 4                       # sources pulled side by side
# timeout = 1800                     # seconds one source may take
# steps = ["repair", "quality", "detect", "diagnose"]
# metrics = "rootlake.om"            # rootlake's own metrics, as OpenMetrics text

# [workspace]                        # what `rootlake ask` may look at beside the lake
# repositories = ["src/shop"]
# prometheus = "http://prometheus:9090"

# [[sources]]
# kind = "sentry"
# target = "https://sentry.io"
# organization = "my-company"
# token_env = "SENTRY_TOKEN"         # secrets are named here, never written
#
# [[sources]]
# kind = "logs"
# target = "/var/log/pods"
# cluster = "eu-1"
# mask = ["password", "authorization"]
"""
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

    file = Path(context.arguments.config or DEFAULT)
    added = [_parsed(pair) for pair in context.arguments.add]
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    text = (old or _HEAD) + "".join(_written(*one, old) for one in added)
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


def _written(kind: str, target: str, old: str) -> str:
    count = old.count(f'kind = "{kind}"') - _HEAD.count(f'kind = "{kind}"')
    name = kind if count <= 0 else f"{kind}-{count + 1}"
    escaped = target.replace("\\", "\\\\").replace('"', '\\"')
    return _SOURCE.format(kind=kind, name=name, target=escaped)


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
