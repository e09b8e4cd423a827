"""which metrics and labels cost most

Series and samples per metric, and the label with the most values. `max_series` of a Prometheus
source caps the series of a metric, `selectors` leave metrics out; what a cap left out is counted.

example:
  rootlake cardinality
  rootlake cardinality --top 50"""

from __future__ import annotations

import argparse

from lake.errors import UsageError
from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top", type=int, default=20, metavar="N", help="how many (default: 20)")


def run(context: Context) -> int:
    from ingest.cardinality import metrics

    if context.arguments.top < 1:
        raise UsageError(f"--top {context.arguments.top}: a number of metrics, 1 or more.")
    found = metrics(context.lake.require())
    if context.json:
        context.answer(found.head(context.arguments.top).to_dicts())
        return 0
    from rootlake.tables import rows

    shown = found.head(context.arguments.top)
    rows(context.out, shown.columns, [_line(row) for row in shown.iter_rows()])
    rest = found.height - shown.height
    context.out.print(
        f"{found.height:,} metrics, {found['series'].sum():,} series,"
        f" {found['samples'].sum():,} samples in the last days"
        + (f"; {rest:,} metrics not shown" if rest else "")
    )
    return 0


def _line(row: tuple[object, ...]) -> list[object]:
    return [
        f"{value:.1%}" if name == "share" and isinstance(value, float) else value
        for name, value in zip(
            ("metric", "type", "series", "samples", "share", "left_out", "label", "values"),
            row,
            strict=True,
        )
    ]
