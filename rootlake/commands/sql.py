"""ask the lake in SQL, read-only

The query is one SELECT in DuckDB's dialect; it can reach the lake's tables and nothing else.

example:
  rootlake sql "select service, count(*) from spans group by 1 order by 2 desc"
  rootlake sql --json "select * from repairs limit 3" """

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import count

from lake.errors import UsageError
from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", metavar="QUERY", help="one SELECT")
    parser.add_argument(
        "--rows", type=int, default=50, metavar="N", help="rows to print (default 50, 0: all)"
    )


def run(context: Context) -> int:
    from lake import sql

    if context.arguments.rows < 0:
        raise UsageError(f"--rows {context.arguments.rows}: a number of rows, or 0 for all.")
    result = sql(context.lake.require(), context.arguments.query)
    result = result.rename_columns(_apart(result.column_names))
    if context.json:
        context.answer(result.to_pylist())
        return 0
    from rootlake.tables import answer

    shown = result if context.arguments.rows == 0 else result.slice(0, context.arguments.rows)
    answer(context.out, shown.column_names, [list(row.values()) for row in shown.to_pylist()])
    if shown.num_rows < result.num_rows:
        context.out.print(
            f"[dim]{shown.num_rows:,} of {result.num_rows:,} rows; --rows 0 prints all[/dim]"
        )
    return 0


def _apart(names: Sequence[str]) -> list[str]:
    """Names of which no two are the same: a, a → a, a_1."""
    out = list[str]()
    for name in names:
        free = (f"{name}_{number}" if number else name for number in count())
        out.append(next(one for one in free if one not in out))
    return out
