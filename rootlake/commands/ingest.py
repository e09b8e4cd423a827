"""pull one source into the raw tables, every row exactly once

What is given again is left out. PLACE is a file, a folder (.gz files too) or a server's URL.

example:
  rootlake ingest jaeger traces/2025-03-11.json.gz
  rootlake ingest prometheus http://prometheus:9090 --since 2h
  rootlake ingest logs /var/log/pods --cluster eu-1
  rootlake ingest logs app.jsonl --map ts=timestamp --map body=msg"""

from __future__ import annotations

import argparse

from rootlake.context import Context

SOURCES = ("jaeger", "otlp", "prometheus", "sentry", "logs", "git", "k8s", "changes", "edges")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", choices=SOURCES, metavar="SOURCE", help=", ".join(SOURCES))
    parser.add_argument("place", metavar="PLACE", help="file, folder or URL")
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


def run(context: Context) -> int:
    from ingest.batch import Place, Request
    from ingest.run import ingest
    from rootlake.times import moment

    given = context.arguments
    request = Request(
        target=given.place,
        since=moment(given.since) if given.since else None,
        until=moment(given.until) if given.until else None,
        place=Place(given.cluster, given.namespace, given.environment),
        mapping=_mapping(given.map),
    )
    with context.progress(f"ingest {given.source}") as say:
        landed = ingest(
            context.lake,
            given.source,
            request,
            lambda so_far, origin: say(f"{so_far.records:,} records, {origin}"),
        )
    if context.json:
        context.answer({"source": given.source, **vars(landed)})
    else:
        context.out.print(_sentence(given.source, landed))
    return 3 if context.strict and landed.quarantined else 0


def _mapping(pairs: list[str]) -> dict[str, str]:
    from lake.errors import UserError

    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--map {pair} names no field; write COLUMN=FIELD, as ts=timestamp.")
    return dict(pair.split("=", 1) for pair in pairs)


def _sentence(source: str, landed: object) -> str:
    counts = vars(landed)
    text = f"{source}: {counts['records']:,} records in, {counts['rows']:,} rows"
    if counts["quarantined"]:
        text += f", [yellow]{counts['quarantined']:,} quarantined[/yellow]"
    if counts["skipped"]:
        text += f"; {counts['skipped']:,} pieces were in the lake before"
    return text
