"""pull one source into the raw tables, every row exactly once

What is given again is left out. PLACE is a file, a folder (.gz files too) or a server's URL, which
is read from where the last pull stopped, or from --since to --until.

example:
  rootlake ingest jaeger traces/2025-03-11.json.gz
  rootlake ingest prometheus http://prometheus:9090 --since 2h
  rootlake ingest logs /var/log/pods --cluster eu-1
  rootlake ingest logs app.jsonl --map ts=timestamp --map body=msg
  rootlake ingest prod-metrics --since 2d     (a source of rootlake.toml)"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from rootlake.context import Context

if TYPE_CHECKING:
    from ingest.land import Landed


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="`rootlake sources` lists them; or one of the settings'"
    )
    parser.add_argument(
        "place", metavar="PLACE", nargs="?", help="file, folder or URL (default: the settings')"
    )
    parser.add_argument("--since", metavar="T", help="from this time on (2025-03-11T14:00Z, 2h)")
    parser.add_argument("--until", metavar="T", help="up to this time")
    for name in ("cluster", "namespace", "environment"):
        parser.add_argument(f"--{name}", help="written where the source does not say it")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="COLUMN=FIELD",
        help="for JSON lines: which field fills a column; may be repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="any option of the source (`rootlake sources SOURCE`); may be repeated",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long to wait for another ingest of the same source",
    )


def run(context: Context) -> int:
    from ingest.run import pull
    from ingest.source import made
    from rootlake.times import moment

    given = context.arguments
    ready = made(*_asked(context))
    with context.progress(f"ingest {given.source}") as say:
        landed = pull(
            context.lake,
            ready,
            since=None if given.since is None else moment(given.since),
            until=None if given.until is None else moment(given.until),
            progress=rates(say),
            wait=given.wait,
        )
    if context.json:
        counts = {name: value for name, value in vars(landed).items() if name != "share"}
        context.answer({"source": given.source, **counts})
    else:
        context.out.print(_sentence(given.source, landed))
    return 3 if context.strict and landed.quarantined else 0


def rates(say: Callable[[str], None]) -> Callable[[Landed, str], None]:
    """Progress with how much has come, how fast, and how long it will take."""
    began = monotonic()

    def told(so_far: Landed, origin: str) -> None:
        took = max(monotonic() - began, 1e-3)
        text = f"{so_far.records:,} records, {so_far.records / took:,.0f} a second"
        if so_far.share:
            left = took / so_far.share - took
            text += f", {so_far.share:.0%} done, {_duration(left)} left"
        say(f"{text}, {origin}")

    return told


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 5400 else f"{whole / 3600:.1f} h"


def _asked(context: Context) -> tuple[str, dict[str, Any]]:
    """The kind of source and its options: of the settings where no place is given."""
    from lake.errors import UsageError
    from rootlake.config import source_of

    given = context.arguments
    if given.place is not None:
        return given.source, {"target": given.place, **_flags(given)}
    known = source_of(context.config, given.source)
    if known is None:
        names = ", ".join(one.called for one in context.config.sources) or "none"
        raise UsageError(
            f"give a PLACE, or the name of a source of the settings (there are: {names})."
        )
    return known.kind, {**known.options, **_flags(given)}


def _flags(given: argparse.Namespace) -> dict[str, Any]:
    """The source's options, from all the flags that set one."""
    found: dict[str, Any] = {}
    for name in ("cluster", "namespace", "environment"):
        if getattr(given, name):
            found[name] = getattr(given, name)
    for name, value in _pairs(given.set, "--set", "OPTION=VALUE, as limit=500").items():
        found[name] = value.split(",") if name in _LISTS else value
    if given.map:
        found["mapping"] = _pairs(given.map, "--map", "COLUMN=FIELD, as ts=timestamp")
    return found


_LISTS = {"services", "projects", "namespaces", "selectors", "mask"}


def _pairs(given: list[str], flag: str, form: str) -> dict[str, str]:
    from lake.errors import UserError

    for pair in given:
        if "=" not in pair:
            raise UserError(f"{flag} {pair} has no '='; write {form}.")
    return dict(pair.split("=", 1) for pair in given)


def _sentence(source: str, landed: object) -> str:
    counts = vars(landed)
    text = f"{source}: {counts['records']:,} records in, {counts['rows']:,} rows"
    if counts["quarantined"]:
        text += f", [yellow]{counts['quarantined']:,} quarantined[/yellow]"
    left_out = counts["left_out"]
    if left_out:
        most = ", ".join(f"{name} {count:,}" for name, count in list(left_out.items())[:3])
        text += f"; [yellow]{sum(left_out.values()):,} left out by max_series[/yellow] ({most})"
    if counts["skipped"]:
        text += f"; {counts['skipped']:,} pieces were in the lake before"
    return text
