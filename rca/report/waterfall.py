"""One trace as a waterfall: spans nested under their parents, self-time dark, errors red."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

import polars as pl

from lake import Lake
from rca import facts, read
from rca.related import with_self_time

WIDTH, NAMES, ROW = 960, 330, 22
MOST = 60  # rows drawn; what is left out is said
Row = Mapping[str, Any]


def pick(lake: Lake, answer: Row) -> tuple[str | None, str | None]:
    """The trace of the window in which the first suspect lost most time or failed, and one of the
    same entry that was as good as any before."""
    if not answer["suspects"]:
        return None, None
    window, healthy = _stretch(answer["window"]), [_stretch(one) for one in answer["baselines"]]
    service = answer["suspects"][0]["service"]
    spans = facts.Source(lake, window, healthy[:1]).spans
    bad = (pl.col("start") >= window[0]) & (pl.col("start") < window[1])
    whole = spans.group_by("trace_id", "entry").agg(
        bad.any().alias("bad"),
        (pl.col("service") == service).any().alias("touched"),
        (pl.col("start_ns") + pl.col("duration_ns"))
        .max()
        .sub(pl.col("start_ns").min())
        .alias("took"),
        pl.col("error").any().alias("error"),
        pl.len().alias("spans"),
        pl.col("parent_span_id").is_null().any().alias("rooted"),
    )
    touched = whole.filter("touched", "rooted").sort("trace_id")
    worst = touched.filter("bad").sort("took", "trace_id", descending=[True, False]).head(1)
    if not worst.height:
        return None, None
    entry = worst["entry"][0]
    before = touched.filter(
        ~pl.col("bad"), ~pl.col("error"), pl.col("entry").eq_missing(pl.lit(entry, pl.String))
    )
    before = before.sort("took", "trace_id")
    usual = before["trace_id"][before.height // 2] if before.height else None
    return str(worst["trace_id"][0]), usual


def _stretch(pair: Any) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(pair[0]), datetime.fromisoformat(pair[1])


def svg(lake: Lake, answer: Row, trace: str) -> str:
    """The trace, drawn."""
    around = [_stretch(answer["window"]), *(_stretch(one) for one in answer["baselines"])]
    rows = (
        read.scan(lake, "spans", [read.within("start", one) for one in read.joined(around)])
        .filter(pl.col("trace_id") == trace)
        .sort("start_ns", "span_id")
        .collect()
    )
    if not rows.height:
        return ""
    spans = with_self_time(rows.with_columns(pl.col("duration_ns").fill_null(0))).to_dicts()
    order = _nested(spans)
    start = min(one["start_ns"] for one in spans)
    whole = max(max(one["start_ns"] + one["duration_ns"] for one in spans) - start, 1)
    root = answer["suspects"][0]["service"]
    drawn = "".join(
        _row(place, one, depth, start, whole, root)
        for place, (one, depth) in enumerate(order[:MOST])
    )
    more = (
        f"<p><small>{len(order) - MOST} more spans are not drawn</small></p>"
        if len(order) > MOST
        else ""
    )
    height = ROW * min(len(order), MOST) + 26
    return (
        f'<div class="scroll"><svg class="waterfall" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="waterfall of a trace">{_scale(whole, height)}{drawn}</svg></div>{more}{_logs(lake, around, trace)}'
    )


def _nested(spans: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Spans in the order of a tree, with their depth."""
    known = {one["span_id"] for one in spans}
    children: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for one in spans:
        parent = one["parent_span_id"] if one["parent_span_id"] in known else None
        children[parent].append(one)
    out: list[tuple[dict[str, Any], int]] = []
    stack = [(one, 0) for one in reversed(children[None])]
    while stack:
        one, depth = stack.pop()
        out.append((one, depth))
        stack += [(child, depth + 1) for child in reversed(children[one["span_id"]])]
    return out


def _row(place: int, one: Row, depth: int, start: int, whole: int, root: str) -> str:
    y = 20 + place * ROW
    scale = (WIDTH - NAMES - 70) / whole
    x, wide = NAMES + (one["start_ns"] - start) * scale, max(one["duration_ns"] * scale, 1.5)
    own = max(one["self_ns"] * scale, 0.0)
    kind = "fail" if one["status"] == "error" else "root" if one["service"] == root else "span"
    mended = " ◆" if one["repaired"] else ""
    name = f"{one['service']} · {one['operation']}"[: 46 - depth]
    tip = f"{one['service']} {one['operation']}: {one['duration_ns'] / 1e6:,.1f} ms, own {one['self_ns'] / 1e6:,.1f} ms"
    tip += f"; repaired: {', '.join(one['repaired'])}" if one["repaired"] else ""
    tip += (
        f"; clock moved by {one['clock_offset_ns'] / 1e6:,.2f} ms" if one["clock_offset_ns"] else ""
    )
    return (
        f'<g class="{kind}"><title>{escape(tip)}</title>'
        f'<text x="{6 + depth * 11}" y="{y + 12}">{escape(name)}{mended}</text>'
        f'<rect class="bar" x="{x:.1f}" y="{y + 3}" width="{wide:.1f}" height="{ROW - 9}" rx="2"/>'
        f'<rect class="own" x="{x:.1f}" y="{y + 3}" width="{min(own, wide):.1f}" height="{ROW - 9}" rx="2"/>'
        f'<text class="took" x="{x + wide + 4:.1f}" y="{y + 12}">{_took(one["duration_ns"])}</text></g>'
    )


def _scale(whole: int, height: int) -> str:
    out = ""
    for part in range(5):
        x = NAMES + (WIDTH - NAMES - 70) * part / 4
        out += (
            f'<line class="grid" x1="{x:.0f}" x2="{x:.0f}" y1="16" y2="{height}"/>'
            f'<text class="tick" x="{x:.0f}" y="11">{_took(whole * part // 4)}</text>'
        )
    return out


def _took(nanos: int) -> str:
    if nanos >= 1_000_000_000:
        return f"{nanos / 1e9:.2f} s"
    return f"{nanos / 1e6:.1f} ms" if nanos >= 100_000 else f"{nanos / 1e3:.0f} µs"


def _logs(lake: Lake, around: list[tuple[datetime, datetime]], trace: str) -> str:
    """What was logged under the trace."""
    lines = (
        read.scan(lake, "logs", [read.within("ts", one) for one in read.joined(around)])
        .filter(pl.col("trace_id") == trace)
        .sort("ts", "service", "body")
        .select("ts", "service", "severity", "body")
        .collect()
    )
    if not lines.height:
        return ""
    rows = "".join(
        f"<tr class='{escape((severity or '').lower())}'><td>{at:%H:%M:%S.%f}</td><td>{escape(service or '')}</td>"
        f"<td>{escape(severity or '')}</td><td>{escape(''.join(c if c.isprintable() else ' ' for c in body)[:300])}</td></tr>"
        for at, service, severity, body in lines.head(30).rows()
    )
    rest = f"<p><small>{lines.height - 30} more lines</small></p>" if lines.height > 30 else ""
    return f"<details><summary>{lines.height} log lines of this trace</summary><div class='scroll'><table class='result'>{rows}</table></div>{rest}</details>"
