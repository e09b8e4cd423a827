"""The repair of spans: the rules in their order, and the audit of what they changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import polars as pl

from quality import audit, moves
from quality.clock import skew
from quality.rules import (
    duration_negative,
    id_corrupt,
    id_format,
    id_missing,
    id_truncated,
    parent_cycle,
    parent_missing,
    span_duplicate,
    span_id_missing,
    span_shared,
    time_implausible,
    time_unit,
    time_zone,
    trace_merged,
    trace_split,
)
from quality.rules.time_unit import plausible
from quality.suppressions import NOTHING, Exempt

Rule = Callable[[pl.DataFrame], pl.DataFrame]

LINKED: tuple[tuple[str, Rule], ...] = (
    ("id_corrupt", id_corrupt.apply),
    ("id_truncated", id_truncated.apply),  # a half is made whole by an id that is right
    ("id_format", id_format.drop_traces),  # damaged beyond likeness: as if missing
    ("id_missing", id_missing.apply),  # takes the parent's trace, whole by now
    ("parent_cycle", parent_cycle.apply),  # a root that loops makes its trace look like a piece
    ("trace_split", trace_split.apply),  # what is left: whole ids, but not the parent's
)
RULES: tuple[tuple[str, Rule], ...] = (
    ("id_format", id_format.apply),  # all others compare ids
    ("time_unit", time_unit.apply),  # links are believed only between rows close in time
    *LINKED,
    *LINKED,  # again: links run through rows mended just now
    *LINKED,
    ("span_duplicate", span_duplicate.apply),  # copies are alike once their trace ids are mended
    ("id_corrupt", id_corrupt.links),  # counts witnesses, so copies go first
    ("id_format", id_format.drop_spans),  # what nothing explains
    ("span_shared", span_shared.apply),
    ("parent_cycle", parent_cycle.apply),
    ("trace_merged", trace_merged.apply),  # requests are what whole links hold together
    ("clock_skew", skew.apply),  # and time_zone; needs right links; all below compare times
    ("parent_cycle", parent_cycle.finish),  # loops that only right clocks tell where to cut
    ("id_missing", span_id_missing.apply),  # a parent is known by the times of its children
    ("duration_negative", duration_negative.apply),
    ("time_implausible", time_implausible.apply),  # leaves the frame: rows go to quarantine
    ("id_missing", id_missing.mark),
    ("parent_missing", parent_missing.apply),  # last: what is marked is what stays wrong
)
WATCHED = ("trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns")
VERSIONS = dict.fromkeys((*(name for name, _ in RULES), time_zone.NAME, moves.NAME), 4)
CONFIDENCE = {"id_corrupt": 0.9999, "trace_split": 0.999, "duration_negative": 0.999}


class Repaired(NamedTuple):
    """spans        the rows that are placed, in the working frame
    quarantined  rows whose time cannot be placed
    merged       rows that became part of another
    audit        the changed values, columns of `quality.audit`
    clocks       the lines by which whole hosts were moved
    clock_audit  one audit row per line, with its `date`
    """

    spans: pl.DataFrame
    quarantined: pl.DataFrame
    merged: pl.DataFrame
    audit: pl.DataFrame
    clocks: list[skew.Line]
    clock_audit: pl.DataFrame


class Changed(NamedTuple):
    """What some of the rules made of a frame; as in `Repaired`."""

    spans: pl.DataFrame
    quarantined: pl.DataFrame
    merged: pl.DataFrame
    audit: pl.DataFrame


_CLOCKS = [name for name, _ in RULES].index(skew.NAME)


def repair(spans: pl.DataFrame, exempt: Exempt = NOTHING) -> Repaired:
    """All rules over one frame of spans; the order of its rows does not matter. `exempt` rows are
    left alone by the rules that are undone for them; what has no usable time leaves all the same.
    """
    linked = before_clocks(spans, exempt)
    clocks = [line for line in skew.lines(linked.spans) if skew.NAME not in exempt.on(line.origin)]
    timed, moved = after_clocks(linked.spans, clocks, exempt)
    return Repaired(
        timed.spans,
        timed.quarantined,
        pl.concat([linked.merged, timed.merged]),
        pl.concat([linked.audit, timed.audit]),
        clocks,
        skew.audit(clocks, moved),
    )


def before_clocks(spans: pl.DataFrame, exempt: Exempt = NOTHING) -> Changed:
    """The rules that need no clock. They look no further than a row's trace and what its links
    name, so rows may be divided by that; the order of the rows does not matter."""
    return _applied(spans.sort("row_key"), RULES[:_CLOCKS], exempt)


def after_clocks(
    spans: pl.DataFrame, clocks: list[skew.Line], exempt: Exempt = NOTHING
) -> tuple[Changed, pl.DataFrame]:
    """The rows with their clocks corrected, then the rules that compare times; and the rows that
    the clocks moved (`skew.moved`)."""
    shifted = exempt.apply(skew.NAME, partial(skew.shift, found=clocks), spans)
    return _applied(shifted, RULES[_CLOCKS + 1 :], exempt), skew.moved(shifted)


def _applied(spans: pl.DataFrame, rules: Sequence[tuple[str, Rule]], exempt: Exempt) -> Changed:
    audits = [pl.DataFrame(schema=audit.SCHEMA)]
    merged, quarantined = [spans.clear()], [spans.clear()]
    for name, rule in rules:
        after = exempt.apply(name, rule, spans)
        if name == time_implausible.NAME:
            after = after.filter(plausible(pl.col("start_ns")).fill_null(value=False))
        gone = spans.join(after.select("row"), on="row", how="anti")
        if gone.height:
            spans = spans.join(after.select("row"), on="row", how="semi", maintain_order="left")
        if name == time_implausible.NAME:
            quarantined.append(gone)
        else:
            merged.append(gone)
            audits.append(audit.merged(name, gone))
        audits.append(audit.values(name, spans, after, WATCHED, CONFIDENCE.get(name, 1.0)))
        spans = after
    return Changed(spans, pl.concat(quarantined), pl.concat(merged), pl.concat(audits))
