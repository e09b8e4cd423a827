"""What is known of how a suspect fails, for holding changes against it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from lake import Lake
from rca.changes.rank import Suspect
from rca.changes.signs import Frame, frames_in, frames_of
from rca.facts import Facts
from rca.read import within

LOUD = ("WARN", "ERROR", "FATAL")
LINES = 200  # loud lines that are read, one of each template first


def suspect(lake: Lake, seen: Facts, row: Mapping[str, Any], cluster: str | None) -> Suspect:
    """A suspect of the answer with what its errors, loud lines and calls to stores say.

    What was said as often in healthy time is left out.
    """
    service = row["service"]
    lines = loud_lines(lake, seen, service)
    frames = [frame for line in lines for frame in frames_in(line)] + _stacks(seen, service)
    return Suspect(
        service,
        row["fault"],
        cluster,
        "\n".join([*lines, *_messages(seen, service)]),
        tuple(dict.fromkeys(frames)),
        fanout(seen.spans, service),
        row.get("score"),
    )


def loud_lines(lake: Lake, seen: Facts, service: str) -> list[str]:
    """WARN and ERROR lines of a service in the window, of templates healthy time hardly has."""
    mine = seen.logs.filter(pl.col("service") == service, pl.col("severity").is_in(LOUD))
    counts = mine.group_by("template_id").agg(
        pl.col("bad").sum().alias("now"), (~pl.col("bad")).sum().alias("before")
    )
    new = counts.filter(pl.col("now") > 2 * pl.col("before"))["template_id"]
    if not len(new):
        return []
    rows = lake.scan("logs").filter(
        within("ts", seen.window),
        pl.col("service") == service,
        pl.col("severity").is_in(LOUD),
        pl.col("template_id").is_in(new.implode()),
    )
    texts = rows.group_by("template_id").agg(pl.col("body").min()).sort("template_id")
    return sorted(texts.head(LINES).collect()["body"].drop_nulls().to_list())


def _errors(seen: Facts, service: str) -> pl.DataFrame:
    """The service's errors in the window of groups that healthy time hardly has."""
    mine = seen.errors.filter(pl.col("service") == service)
    counts = mine.group_by("group_id", "type").agg(
        pl.col("bad").sum().alias("now"), (~pl.col("bad")).sum().alias("before")
    )
    new = counts.filter(pl.col("now") > 2 * pl.col("before"))
    return mine.filter("bad").join(new, on=["group_id", "type"], how="semi", nulls_equal=True)


def _messages(seen: Facts, service: str) -> list[str]:
    rows = _errors(seen, service).select("type", "message").unique().sort("type", "message")
    return [" ".join(part or "" for part in row) for row in rows.head(LINES).rows()]


def _stacks(seen: Facts, service: str) -> list[Frame]:
    rows = _errors(seen, service).unique(["group_id", "type"], keep="first", maintain_order=True)
    return [frame for stack in rows["stacktrace"].to_list() for frame in frames_of(stack)]


def fanout(spans: pl.DataFrame, service: str) -> float | None:
    """How many times the usual calls to stores a request to a service makes: leaf spans of its own
    below each span it was called with, in the window over healthy time. None where either has none."""
    mine = spans.filter(pl.col("service") == service)
    inner = (pl.col("caller") == service).fill_null(value=False)
    count = mine.group_by("bad").agg(
        leaves=(inner & pl.col("leaf")).sum(), asked=(~inner).sum().clip(lower_bound=1)
    )
    per = {row["bad"]: row["leaves"] / row["asked"] for row in count.to_dicts()}
    return per[True] / per[False] if per.get(True) and per.get(False) else None


def says(texts: str, pattern: str) -> str | None:
    """The first line that a pattern is in."""
    return next((line[:160] for line in texts.split("\n") if re.search(pattern, line)), None)
