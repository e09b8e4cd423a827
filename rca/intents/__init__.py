"""What log templates tell of: one intent per template, found once and kept in `templates`."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from lake import Lake


def label(lake: Lake) -> int:
    """Give every template that has none an intent, by the offline model; how many it named.

    Labels that are there stay, whoever gave them.
    """
    if not lake.scan("templates").filter(pl.col("labelled_by").is_null()).head(1).collect().height:
        return 0
    from rca.intents import model  # it brings scipy, which takes half a second

    named = 0

    def change(known: pl.DataFrame) -> pl.DataFrame:
        nonlocal named
        fresh = known.filter(pl.col("labelled_by").is_null())
        found = model.classify(fresh["template"].to_list()).select(
            fresh["template_id"], "intent", "intent_confidence", labelled_by=pl.lit(model.NAME)
        )
        named = found.height
        return with_labels(known, found)

    lake.update("templates", change)
    return named


def with_labels(known: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """`templates` with the labels found (template_id, intent, intent_confidence, labelled_by)."""
    return known.update(found, on="template_id", how="left", include_nulls=False)


def of(lake: Lake, template_ids: Collection[str] | None = None) -> pl.DataFrame:
    """template_id, template, intent, intent_confidence, labelled_by of some templates, or all."""
    columns = ("template_id", "template", "intent", "intent_confidence", "labelled_by")
    rows = lake.scan("templates").select(columns)
    if template_ids is not None:
        rows = rows.filter(pl.col("template_id").is_in(list(template_ids)))
    return rows.collect()
