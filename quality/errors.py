"""The repair of errors: one row per event, ids canonical and those of spans, clocks corrected."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import polars as pl

from quality import audit, moves
from quality.clock import skew
from quality.rules import error_clock, error_duplicate, id_format, id_reference
from quality.rules.time_unit import plausible
from quality.suppressions import NOTHING, Exempt

Rule = Callable[[pl.DataFrame], pl.DataFrame]

RULES: tuple[tuple[str, Rule], ...] = (
    ("error_clock", error_clock.apply),  # before the day is judged
    ("error_duplicate", error_duplicate.apply),
    ("id_format", id_format.apply),
    ("id_format", id_format.drop),
)
_HOST = ("host", "host.name", "server_name", "node")  # tags that name the host; then the pod's
_POD = ("pod", "k8s.pod.name", "server_name")
VERSIONS = dict.fromkeys(
    (*(name for name, _ in RULES), skew.NAME, id_reference.NAME, moves.NAME), 3
)
WATCHED = ("trace_id", "span_id", "ts")


class Repaired(NamedTuple):
    """errors: clean rows; moved: host and time shown (`at`, ns) of rows their host's clock moved;
    merged: rows left out as doubles; quarantined: rows without a time."""

    errors: pl.DataFrame
    moved: pl.DataFrame
    merged: pl.DataFrame
    quarantined: pl.DataFrame
    audit: pl.DataFrame


def repair(
    raw: pl.DataFrame,
    clocks: list[skew.Line] | None = None,
    pods: pl.DataFrame | None = None,
    spans: pl.DataFrame | None = None,
    exempt: Exempt = NOTHING,
) -> Repaired:
    """Clean rows of `errors`, with `row` (position in `raw`), `row_key` and `repaired` beside.
    `clocks` are the lines of hosts, `pods` maps pod to host, `spans` are those the rows may mean
    (`id_reference.SPANS`); `exempt` rows are left alone by the rules that are undone for them."""
    rows = raw.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        pl.lit([], pl.List(pl.String)).alias("faults"),
        pl.lit([], pl.List(pl.String)).alias("repaired"),
        pl.lit(None, pl.String).alias("parent_span_id"),
    )
    audits, merged = list[pl.DataFrame](), [rows.clear()]
    lost = rows.clear()
    for name, rule in RULES:
        after = exempt.apply(name, rule, rows)
        gone = rows.join(after.select("row"), on="row", how="anti")
        rows = rows.filter(pl.col("row").is_in(after["row"].implode()))
        merged.append(gone)
        audits += [audit.merged(name, gone), audit.values(name, rows, after, WATCHED)]
        rows = after
        if name == error_clock.NAME:
            fine = plausible(skew.nanos(pl.col("ts"))).fill_null(value=False)
            lost, rows = rows.filter(~fine), rows.filter(fine)
    hosts = rows.with_columns(_host(pods).alias("host"))
    timed = exempt.apply(skew.NAME, partial(_shifted, clocks=clocks or []), hosts)
    moved = hosts.filter(hosts["ts"] != timed["ts"])
    mend = partial(id_reference.apply, spans=_none(spans, id_reference.SPANS))
    mended = exempt.apply(id_reference.NAME, mend, timed)
    audits.append(audit.values(id_reference.NAME, timed, mended, ("trace_id",)))
    return Repaired(
        mended,
        moved.select("host", at=skew.nanos(pl.col("ts"))),
        pl.concat(merged),
        lost,
        pl.concat(audits),
    )


def _host(pods: pl.DataFrame | None) -> pl.Expr:
    """The host a tag names, else that of the pod a tag names."""
    known = _none(pods, pl.Schema({"pod": pl.String, "host": pl.String}))
    told, pod = ([pl.col("tags").map.get(name) for name in names] for names in (_HOST, _POD))
    of = [one.replace_strict(known["pod"], known["host"], default=None) for one in pod]
    return pl.coalesce(*(of if known.height else ()), *told)


def _none(given: pl.DataFrame | None, schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame(schema=schema) if given is None else given


def _shifted(rows: pl.DataFrame, clocks: list[skew.Line]) -> pl.DataFrame:
    """The time by the host's corrected clock, where it is not by the server's already."""
    own = rows.filter(~pl.col("repaired").list.contains(error_clock.NAME))
    asked = own.select("row", "host", at=skew.nanos(pl.col("ts"))).drop_nulls()
    return skew.corrected(rows, clocks, asked)
