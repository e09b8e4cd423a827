"""ask the lake in SQL, read-only

The query is one SELECT in DuckDB's dialect; it can reach the lake's tables and nothing else.

example:
  rootlake sql "select service, count(*) from spans group by 1 order by 2 desc"
  rootlake sql --json "select * from repairs limit 3" """

from __future__ import annotations

import argparse

from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", metavar="QUERY", help="one SELECT")
    parser.add_argument(
        "--rows", type=int, default=50, metavar="N", help="rows to print (default 50, 0: all)"
    )


def run(context: Context) -> int:
    from lake import sql

    result = sql(context.lake.require(), context.arguments.query)
    if context.json:
        context.answer(result.to_pylist())
        return 0
    from rootlake.tables import rows

    shown = result if context.arguments.rows == 0 else result.slice(0, context.arguments.rows)
    rows(context.out, shown.column_names, [list(row.values()) for row in shown.to_pylist()])
    if shown.num_rows < result.num_rows:
        context.out.print(
            f"[dim]{shown.num_rows:,} of {result.num_rows:,} rows; --rows 0 prints all[/dim]"
        )
    return 0
