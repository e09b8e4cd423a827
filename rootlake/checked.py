"""The checks of a day for a terminal: one line each, with the last weeks as a line of bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rootlake.explained import clean, lasting

_BARS = "▁▂▃▄▅▆▇█"
_DAYS = 28  # bars that are drawn; the newest


def checked(console: Console, found: Mapping[str, Any]) -> None:
    """Print what `rootlake quality` found."""
    days = found["days"]
    against = f"against {len(days) - 1} days since {days[0]}" if len(days) > 1 else "the first day"
    console.print(Text.assemble((f"quality of {days[-1]}", "bold"), (f"  {against}", "dim")))
    console.print(_table(found["checks"], console.width))
    _regressions(console, found["regressions"])
    _freshness(console, found["freshness"])
    failed = found["failed"]
    if failed:
        console.print(Text(f"\n{len(failed)} failed: {', '.join(failed)}", "bold red"))
    else:
        console.print(Text("\nall checks hold", "green"))


def _table(checks: Sequence[Mapping[str, Any]], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    wide = width >= 100
    table.add_column("")
    table.add_column("check", overflow="fold")
    for name in (*(("rows",) if wide else ()), "faulty", "share", "usual", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last days", no_wrap=True)
    if wide:
        table.add_column("most in")
    for one in checks:
        table.add_row(*_cells(one, width, wide=wide))
    return table


def _cells(one: Mapping[str, Any], width: int, *, wide: bool) -> list[Text]:
    bad = one["failed"]
    name = Text.assemble((f"{one['table']}.", "dim"), (clean(one["check"]), "red" if bad else ""))
    if one["own"]:
        name.append(f" ({one['action']})", "dim")
    usual = "–" if one["usual"] is None else percent(one["usual"])
    return [
        Text("✗", "red") if bad else Text("✓", "green"),
        name,
        *([Text(f"{one['rows']:,}")] if wide else []),
        Text(f"{one['faulty']:,}", "" if one["faulty"] else "dim"),
        Text(percent(one["share"]), "bold red" if bad else ""),
        Text(usual, "dim"),
        Text("–" if one["limit"] >= 1 else percent(one["limit"]), "dim"),
        sparkline(one["shares"][-_DAYS if width >= 110 else -14 :], one["limit"]),
        *([Text(clean(one["worst"] or ""), "dim")] if wide else []),
    ]


def sparkline(shares: Sequence[float | None], limit: float) -> Text:
    """A bar per day, as high as its share beside the highest; a point where there are no rows."""
    top = max([share for share in shares if share is not None] + [min(limit, 0.01)])
    out = Text()
    for share in shares:
        if share is None:
            out.append("·", "dim")
            continue
        height = 0 if not share else max(round(share / top * (len(_BARS) - 1)), 1) if top else 0
        out.append(_BARS[height], "red" if share > limit else "cyan" if share else "dim")
    return out


def percent(share: float) -> str:
    """A share as people read it: never 0 % for something, never 100 % for not all."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    if share < 0.0001:
        return "<0.01%"
    text = f"{share:.2%}" if share < 0.1 else f"{share:.1%}"
    return ">99.9%" if text == "100.0%" else text


def _regressions(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    for one in found:
        console.print()
        console.print(
            Text.assemble(
                (clean(one["service"]), "bold red"),
                f" sends worse {one['table']}: ",
                (one["check"], "bold"),
                f" fails in {percent(one['share'])} of {one['rows']:,} rows, usually"
                f" {percent(one['usual'])}",
            )
        )
        where = f"release {clean(one['release'])}" if one["release"] else "no release is named"
        lines = [f"{where}; first seen {one['since']:%Y-%m-%d %H:%M:%S} UTC"]
        change = one["deploy"]
        if change:
            before = lasting(int((one["since"] - change["ts"]).total_seconds() * 1e9))
            who = f" by {clean(change['author'])}" if change["author"] else ""
            lines.append(f"{change['kind']} {clean(change['ref'] or '')}{who}, {before} before")
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, 2)))


def _freshness(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    parts = [
        (f"{one['table']} {lasting(int(one['age'] * 1e9))}", "red" if one["failed"] else "dim")
        for one in found
    ]
    if parts:
        line = Text("\nnewest event: ", "dim")
        for place, (text, style) in enumerate(parts):
            line.append(", " if place else "", "dim").append(f"{text} old", style)
        console.print(line)
