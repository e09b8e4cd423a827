"""The service graph around the incident: layers from caller to callee, as an SVG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from html import escape
from typing import Any

import polars as pl

from lake import Lake

BOX, TALL, GAP_X, GAP_Y = 128, 40, 74, 22
Row = Mapping[str, Any]


def svg(lake: Lake, answer: Row) -> str:
    """Boxes are services, the suspect red, those hurt by it tinted; a thick red arrow is a call
    that became slower or fails more than before."""
    edges = compared(lake, answer)
    if not edges.height:
        return ""
    layers = layered(edges.select("caller", "callee").rows())
    spots = _spots(layers)
    height = max(y for _, y in spots.values()) + TALL + 10
    width = max(x for x, _ in spots.values()) + BOX + 10
    arrows = "".join(_arrow(row, spots) for row in edges.to_dicts())
    boxes = "".join(_box(name, spot, answer) for name, spot in sorted(spots.items()))
    head = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse"'
        ' orient="auto"><path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    return (
        f'<div class="scroll"><svg class="graph" viewBox="0 0 {width} {height}" style="max-width:{width}px"'
        f' role="img" aria-label="service graph">{head}{arrows}{boxes}</svg></div>'
    )


def compared(lake: Lake, answer: Row) -> pl.DataFrame:
    """Edges of the window against the half hour before: (caller, callee, calls, before, after in
    ms, failing)."""
    start, end = (datetime.fromisoformat(text) for text in answer["window"])
    early = start - timedelta(minutes=30)
    bad = pl.col("minute") >= start.replace(second=0, microsecond=0)
    p95 = pl.col("duration_p95_ns") / 1e6
    return (
        lake.scan("edges")
        .filter(
            pl.col("date").is_between(early.date(), end.date()),
            pl.col("minute").is_between(early, end),
        )
        .group_by("caller", "callee")
        .agg(
            pl.col("calls").filter(bad).sum().alias("calls"),
            p95.filter(~bad).median().alias("before"),
            p95.filter(bad).median().alias("after"),
            (pl.col("errors").filter(bad).sum() / pl.col("calls").filter(bad).sum()).alias(
                "failing"
            ),
        )
        .sort("caller", "callee")
        .collect()
    )


def layered(edges: list[tuple[str, str]]) -> list[list[str]]:
    """Services in columns: each stands right of all its callers (loops broken by name)."""
    callees: dict[str, set[str]] = defaultdict(set)
    names = sorted({name for edge in edges for name in edge})
    for caller, callee in edges:
        callees[caller].add(callee)
    depth = dict.fromkeys(names, 0)
    for _ in names:
        moved = False
        for caller in names:
            for callee in sorted(callees[caller]):
                if depth[callee] <= depth[caller] < len(names):
                    depth[callee] = depth[caller] + 1
                    moved = True
        if not moved:
            break
    columns: dict[int, list[str]] = defaultdict(list)
    for name in names:
        columns[min(depth[name], 8)].append(name)
    return [columns[key] for key in sorted(columns)]


def _spots(layers: list[list[str]]) -> dict[str, tuple[int, int]]:
    tallest = max(len(layer) for layer in layers)
    out = {}
    for column, layer in enumerate(layers):
        top = (tallest - len(layer)) * (TALL + GAP_Y) // 2
        for row, name in enumerate(layer):
            out[name] = (5 + column * (BOX + GAP_X), 5 + top + row * (TALL + GAP_Y))
    return out


def _arrow(row: Row, spots: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = spots[row["caller"]], spots[row["callee"]]
    x1, y1, y2 = x1 + BOX, y1 + TALL // 2, y2 + TALL // 2
    before, after = row["before"] or 0.0, row["after"] or 0.0
    hurt = (before and after > 1.5 * before and after - before > 2) or (row["failing"] or 0) > 0.05
    bend = (x2 - x1) / 2
    tip = f"{before:,.0f} → {after:,.0f} ms p95, {(row['failing'] or 0):.0%} failing, {row['calls']:,.0f} calls"
    path = f"M{x1} {y1} C{x1 + bend:.0f} {y1} {x2 - bend:.0f} {y2} {x2 - 2} {y2}"
    return (
        f'<path class="edge{" hurt" if hurt else ""}" marker-end="url(#tip)" d="{path}">'
        f"<title>{escape(row['caller'])} → {escape(row['callee'])}: {tip}</title></path>"
    )


def _box(name: str, spot: tuple[int, int], answer: Row) -> str:
    root = answer["suspects"][0]["service"] if answer["suspects"] else None
    kind = "root" if name == root else "blast" if name in answer["blast_radius"] else ""
    x, y = spot
    return (
        f'<g class="box {kind}"><rect x="{x}" y="{y}" width="{BOX}" height="{TALL}" rx="8"/>'
        f'<text x="{x + BOX / 2:.0f}" y="{y + TALL / 2 + 4:.0f}">{escape(name[:20])}</text></g>'
    )
