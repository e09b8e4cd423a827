"""The repair of logs: cut lines joined, ids canonical and those of spans, clocks of their hosts
corrected, every line assigned to its template."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import polars as pl

from quality import audit, moves, stacks, templates
from quality.clock import skew
from quality.rules import id_format, id_reference, partial_join, stack_join
from quality.suppressions import NOTHING, Exempt

VERSIONS = {
    **dict.fromkeys(
        (partial_join.NAME, id_format.NAME, skew.NAME, id_reference.NAME, moves.NAME), 3
    ),
    stack_join.NAME: 1,
}
_IDS = {
    "trace_id": r"""(?i)trace[_.-]?id["']?\s*[:=]\s*["']?([0-9a-zA-Z+/=-]{8,40})""",
    "span_id": r"""(?i)span[_.-]?id["']?\s*[:=]\s*["']?([0-9a-zA-Z+/=-]{8,40})""",
}
_WHOLE = "^([0-9a-fA-F]{16}|[0-9a-fA-F]{32})$"


class Repaired(NamedTuple):
    """logs: clean rows, with `row`, `row_key`, `date` of the raw row and `before_ts` beside;
    joined: row_key and day (`before`) of lines that became part of another, and the `row` they
    went `into`."""

    logs: pl.DataFrame
    joined: pl.DataFrame
    audit: pl.DataFrame


def repair(
    raw: pl.DataFrame,
    clocks: list[skew.Line],
    nodes: pl.DataFrame,
    known: pl.Series | None = None,
    spans: pl.DataFrame | None = None,
    exempt: Exempt = NOTHING,
) -> Repaired:
    """Clean rows of `logs` from physical lines. `nodes` maps pod to host; `known` are the
    templates' texts that earlier runs found, `spans` those the lines may mean
    (`id_reference.SPANS`). `exempt` rows are left alone by the rules that are
    undone for them."""
    lines = raw.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        pl.lit([], pl.List(pl.String)).alias("faults"),
        pl.lit([], pl.List(pl.String)).alias("repaired"),
        pl.lit(None, pl.String).alias("parent_span_id"),
        pl.col("ts").alias("before_ts"),
    )
    whole, pieces = _joined(lines, exempt)
    named = exempt.apply(id_format.NAME, _canonical, _read_again(whole, pieces))
    events, stacked = _events(named, pieces, exempt)
    placed = _placed(events, nodes)
    shifted = exempt.apply(skew.NAME, partial(_shifted, clocks=clocks), placed)
    known_spans = pl.DataFrame(schema=id_reference.SPANS) if spans is None else spans
    mend = partial(id_reference.apply, spans=known_spans)
    mended = exempt.apply(id_reference.NAME, mend, shifted)
    gone = _gone(lines, pieces, stacked)
    return Repaired(
        templates.assign(mended, known),
        gone.select("row_key", "before", "into"),
        pl.concat(
            [
                *(_merged(rule, gone) for rule in (partial_join.NAME, stack_join.NAME)),
                audit.values(id_format.NAME, whole, named, ("trace_id", "span_id")),
                audit.values(id_reference.NAME, shifted, mended, ("trace_id",)),
            ]
        ),
    )


def _gone(lines: pl.DataFrame, pieces: pl.DataFrame, stacked: pl.DataFrame) -> pl.DataFrame:
    """Rows that are part of another: the `rule` that joined them, and the row that is left."""
    last = pieces.join(stacked.rename({"row": "into", "into": "end"}), on="into", how="left")
    every = pl.concat(
        [
            last.select("row", into=pl.coalesce("end", "into"), rule=pl.lit(partial_join.NAME)),
            stacked.select("row", "into", rule=pl.lit(stack_join.NAME)),
        ]
    )
    found = lines.select("row", "row_key", before="date").join(every, on="row")
    return found.join(lines.select(into="row", target="row_key"), on="into", how="left")


def _merged(rule: str, gone: pl.DataFrame) -> pl.DataFrame:
    mine = gone.filter(pl.col("rule") == rule)
    return audit.merged(rule, mine, mine["target"]).with_columns(row=mine["into"])


def _events(lines: pl.DataFrame, pieces: pl.DataFrame, exempt: Exempt) -> partial_join.Joined:
    """Stack traces as one event each, except where that is undone."""
    alone = lines["row"].is_in(exempt.rows.get(stack_join.NAME, pl.Series([], dtype=pl.Int64)))
    done = stack_join.apply(lines.filter(~alone), pieces)
    both = pl.concat([done.lines, lines.filter(alone)]).sort("row")
    return partial_join.Joined(stacks.described(both), done.parts)


def _joined(lines: pl.DataFrame, exempt: Exempt) -> partial_join.Joined:
    """Pieces joined, except where that is undone."""
    alone = lines["row"].is_in(exempt.rows.get(partial_join.NAME, pl.Series([], dtype=pl.Int64)))
    if not alone.any():
        return partial_join.apply(lines)
    done = partial_join.apply(lines.filter(~alone))
    rest = pl.concat([done.lines, lines.filter(alone).select(done.lines.columns)])
    return partial_join.Joined(rest.sort("row"), done.parts)


def _canonical(lines: pl.DataFrame) -> pl.DataFrame:
    return id_format.drop(id_format.apply(lines))


def _read_again(lines: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """Ids that stood where a line was cut: read from the joined line, or left out where the rest
    is missing."""
    if not parts.height and not lines["partial"].any():
        return lines
    joined = pl.col("row").is_in(parts["into"].unique().implode())
    return lines.with_columns(
        pl.when(joined)
        .then(pl.coalesce(pl.col("body").str.extract(pattern), column))
        .when(pl.col("partial") & ~pl.col(column).str.contains(_WHOLE))
        .then(None)
        .otherwise(column)
        .alias(column)
        for column, pattern in _IDS.items()
    )


def _placed(lines: pl.DataFrame, nodes: pl.DataFrame) -> pl.DataFrame:
    """The node a pod ran on, where spans told of it."""
    joined = lines.join(nodes, on="pod", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("node", "host").alias("node")).drop("host")


def _shifted(lines: pl.DataFrame, clocks: list[skew.Line]) -> pl.DataFrame:
    """The time by the host's corrected clock."""
    asked = lines.select("row", host="node", at=skew.nanos(pl.col("ts")))
    return skew.corrected(lines, clocks, asked.drop_nulls())
