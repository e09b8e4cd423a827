"""Latency and errors around the onset, with the changes that came before: an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

import polars as pl

from lake import Lake

WIDTH, HEIGHT, LEFT, LANE = 960, 96, 130, 120
STEP = "20s"
Row = Mapping[str, Any]


def svg(lake: Lake, answer: Row) -> str:
    """One lane per affected service: p95 of its spans as a line, the share that fails as bars."""
    onset, at = (datetime.fromisoformat(answer[key]) for key in ("onset", "at"))
    start, end = onset - timedelta(minutes=15), max(at, onset) + timedelta(minutes=4)
    services = _services(answer)
    points = readings(lake, services, start, end)
    if not points.height:
        return ""
    lanes = "".join(
        _lane(place, service, points.filter(pl.col("service") == service), start, end)
        for place, service in enumerate(services)
    )
    height = LANE * len(services) + 46
    marks = _marks(answer, start, end, LANE * len(services))
    return (
        f'<div class="scroll"><svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="latency and errors around the onset">{lanes}{marks}'
        f"{_axis(start, end, LANE * len(services))}</svg></div>"
    )


def _services(answer: Row) -> list[str]:
    first = [one["service"] for one in answer["suspects"][:1]]
    return list(dict.fromkeys([*first, *answer["blast_radius"]]))[:4]


def readings(lake: Lake, services: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
    """(service, at, p95 in ms, share failing) of the spans a service answered, every 20 s."""
    return (
        lake.scan("spans")
        .filter(
            pl.col("date").is_between(start.date(), end.date()),
            pl.col("start").is_between(start, end),
            pl.col("service").is_in(list(services)),
            pl.col("kind").fill_null("server").is_in(["server", "consumer"]),
        )
        .group_by("service", pl.col("start").dt.truncate(STEP).alias("at"))
        .agg(
            (pl.col("duration_ns").quantile(0.95) / 1e6).fill_null(0.0).alias("p95"),
            (pl.col("status") == "error").mean().alias("failing"),
        )
        .sort("service", "at")
        .collect()
    )


def _x(at: datetime, start: datetime, end: datetime) -> float:
    return LEFT + (WIDTH - LEFT - 10) * ((at - start) / (end - start))


def _lane(place: int, service: str, points: pl.DataFrame, start: datetime, end: datetime) -> str:
    top = place * LANE + 14
    highest = max(float(points["p95"].max() or 1.0), 1e-3)  # type: ignore[arg-type]
    spots, bars = [], ""
    for at, p95, failing in points.select("at", "p95", "failing").rows():
        x = _x(at, start, end)
        spots.append(f"{x:.1f},{top + HEIGHT - 4 - (HEIGHT - 16) * p95 / highest:.1f}")
        if failing:
            tall = (HEIGHT - 16) * failing
            bars += f'<rect class="fail" x="{x:.1f}" y="{top + HEIGHT - 4 - tall:.1f}" width="8" height="{tall:.1f}"/>'
    return (
        f'<rect class="lane" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 10}" height="{HEIGHT}" rx="6"/>'
        f'<text class="name" x="0" y="{top + 22}">{escape(service)}</text>'
        f'<text class="unit" x="0" y="{top + 40}">p95, top {_duration(highest)}</text>'
        f'{bars}<polyline class="line" points="{" ".join(spots)}"/>'
    )


def _marks(answer: Row, start: datetime, end: datetime, bottom: int) -> str:
    """The onset, when it was noticed, and changes within the picture."""
    onset, at = (datetime.fromisoformat(answer[key]) for key in ("onset", "at"))
    out = _line("onset", "began", _x(onset, start, end), bottom)
    if at > onset:
        out += _line("at", "noticed", _x(at, start, end), bottom)
    culprit = answer["root_cause_change"]
    for one in answer["changes"]:
        when = datetime.fromisoformat(one["ts"])
        if start <= when <= end:
            mine = culprit and one["ref"] == culprit["ref"]
            kind = "culprit" if mine else "change"
            x = _x(when, start, end)
            out += (
                f'<path class="{kind}" d="M{x:.1f} {bottom + 2} l6 10 h-12 z">'
                f"<title>{escape(str(one['kind']))} {escape(str(one['ref'])[:24])}</title></path>"
            )
    return out


def _line(kind: str, text: str, x: float, bottom: int) -> str:
    anchor = ' text-anchor="end"' if kind == "onset" else ""
    shift = -4 if kind == "onset" else 4
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{bottom}"/>'
        f'<text class="mark" x="{x + shift:.1f}" y="10"{anchor}>{text}</text>'
    )


def _axis(start: datetime, end: datetime, bottom: int) -> str:
    out = ""
    at = (start + timedelta(minutes=1)).replace(second=0, microsecond=0)
    while at < end:
        if at.minute % 3 == 0:
            out += f'<text class="tick" x="{_x(at, start, end):.1f}" y="{bottom + 30}">{at:%H:%M}</text>'
        at += timedelta(minutes=1)
    return out


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"
