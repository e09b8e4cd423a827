"""The repair of exemplars: ids canonical and those of spans.

Exemplars have no raw twin. They are mended where they lie, and the audit holds what they were, so a
rule starts from the ids as received however often it runs (docs/adr/0012-exemplars-in-place.md).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import polars as pl

from lake import TABLES
from quality import audit
from quality.rules import id_format, id_reference
from quality.suppressions import Suppressed

VERSIONS = {id_format.NAME: 1, id_reference.NAME: 1}
IDS = ("trace_id", "span_id")
_COLUMNS = TABLES["exemplars"].schema.names
_NAMES = (
    *("service", "service_name", "service.name", "app", "app_kubernetes_io_name"),
    *("container", "job"),
)  # labels that may name the service; of a job `namespace/name` the name


class Repaired(NamedTuple):
    """rows: those that can be told apart, with `row_key` and mended ids; audit: what changed."""

    rows: pl.DataFrame
    audit: pl.DataFrame


def keyed(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `row_key`: a series has one exemplar of a value at an instant."""
    instant = pl.col("ts").dt.timestamp("us")
    return rows.with_columns(pl.format("{}:{}:{}", "series", instant, "value").alias("row_key"))


def received(rows: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    """Keyed rows with the ids they had before the audited changes (row_key, rule, column_name,
    before)."""
    order = pl.col("rule").replace_strict({name: n for n, name in enumerate(VERSIONS)}, default=9)
    first = changes.sort(order).unique(["row_key", "column_name"], keep="first")
    for column in IDS:
        was = first.filter(pl.col("column_name") == column).select("row_key", "before")
        known = was.with_columns(pl.lit(value=True).alias("changed"))
        joined = rows.join(known, on="row_key", how="left", maintain_order="left")
        old = pl.when("changed").then("before").otherwise(column).alias(column)
        rows = joined.with_columns(old).drop("before", "changed")
    return rows


def repair(
    rows: pl.DataFrame, services: pl.DataFrame, spans: pl.DataFrame, undone: Suppressed
) -> Repaired:
    """Keyed rows as received, mended. `services` are those a series may be of (series, service),
    `spans` those the rows may mean (`id_reference.SPANS`). Rows of one key stay as they are."""
    none = pl.lit([], pl.List(pl.String))
    before = rows.filter(pl.len().over("row_key") == 1).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
        none.alias("faults"),
        none.alias("repaired"),
        pl.lit(None, pl.String).alias("parent_span_id"),
    )
    exempt = undone.exempt(before["date"])
    named = exempt.apply(id_format.NAME, _canonical, before)
    mend = partial(_mended, services=services, spans=spans)
    mended = exempt.apply(id_reference.NAME, mend, named)
    changes = [
        audit.values(id_format.NAME, before, named, IDS),
        audit.values(id_reference.NAME, named, mended, ("trace_id",)),
    ]
    return Repaired(mended, pl.concat(changes).drop("row"))


def _canonical(rows: pl.DataFrame) -> pl.DataFrame:
    return id_format.drop(id_format.apply(rows))


def _mended(rows: pl.DataFrame, services: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Every row once for each service it may be of, and once again."""
    told = rows.join(services, on="series", how="left", maintain_order="left")
    found = id_reference.apply(told, spans)
    return found.unique("row", keep="first", maintain_order=True).drop("service")


def replaced(rows: pl.DataFrame, mended: pl.DataFrame) -> pl.DataFrame:
    """Rows of the table with the ids of the mended ones; rows that came meanwhile as they are."""
    new = mended.select("row_key", *(pl.col(name).alias(f"new_{name}") for name in IDS))
    known = new.with_columns(pl.lit(value=True).alias("known"))
    joined = keyed(rows).join(known, on="row_key", how="left", maintain_order="left")
    ids = [pl.when("known").then(f"new_{name}").otherwise(name).alias(name) for name in IDS]
    return joined.with_columns(ids).select(_COLUMNS)


def services(series: pl.DataFrame) -> pl.DataFrame:
    """The services a series may be of, by its labels: series, service."""
    told = [pl.col("labels").map.get(name).str.replace("^.*/", "") for name in _NAMES]
    listed = series.select("series", pl.concat_list(told).list.unique().alias("service"))
    found = listed.explode("service", empty_as_null=True)
    return found.filter(pl.col("service").is_not_null()).unique()
