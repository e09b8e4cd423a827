"""A diagnosis on a terminal, for somebody who was woken by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rca.changes import short

Row = Mapping[str, Any]
COLOUR = {"confirmed": "green", "likely": "yellow", "inconclusive": "red"}
BAR = 12


def render(answer: Row, console: Console, command: str = "rootlake") -> None:
    """Print the whole diagnosis; narrow, colourless and piped output stay readable.

    `command` begins what to type next.
    """
    console.print(_head(answer))
    for title, body in _sections(answer):
        console.print(Text(title, style="bold"))
        console.print(Padding(body, (0, 0, 1, 2)))
    console.print(_next(answer, command), soft_wrap=True)  # whole, to be copied


def clean(value: Any) -> str:
    """Text from telemetry without control characters."""
    return "".join(char if char.isprintable() else " " for char in str(value))


def _head(answer: Row) -> Panel:
    colour = COLOUR.get(answer["verdict"], "white")
    line = Text()
    line.append(f"{answer['verdict'].upper()} ", style=f"bold {colour}")
    line.append(f"{answer['confidence']:.0%}  ", style=colour)
    line.append(clean(answer.get("summary", "")))
    times = Text(f"began {_time(answer['onset'])}   noticed {_time(answer['at'])}", style="dim")
    title = Text(answer["incident_id"], style="bold")
    return Panel(
        Group(line, times), title=title, title_align="left", border_style=colour, box=box.ROUNDED
    )


def _sections(answer: Row) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [("Suspects", _suspects(answer["suspects"]))]
    parts.append(("Culprit change", _culprit(answer)))
    if answer["propagation"]:
        parts.append(("How it spread", _path(answer)))
    parts.append(("Evidence", _evidence(answer)))
    if answer["ruled_out"]:
        lines = [
            f"{one['service']}: {one['why']} [{', '.join(one['evidence'])}]"
            for one in answer["ruled_out"]
        ]
        parts.append(("Ruled out", _lines(lines)))
    if answer["missing"]:
        parts.append(("Not known", _lines(answer["missing"])))
    if answer["similar_cases"]:
        lines = [
            f"{one['case_id']}  {one.get('title', '')}  ({one['score']:.0%} alike)"
            for one in answer["similar_cases"]
        ]
        parts.append(("Seen before", _lines(lines)))
    return parts


def _suspects(suspects: Sequence[Row]) -> Any:
    if not suspects:
        return Text("nothing differs from healthy time", style="dim")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for _ in range(5):
        table.add_column(overflow="fold")
    for one in suspects:
        full = round(one["score"] * BAR)
        bar = Text("█" * full, style="red" if one["rank"] == 1 else "dim")
        bar.append("░" * (BAR - full), style="dim")
        name = Text(clean(one["service"]), style="bold" if one["rank"] == 1 else "")
        if one.get("attribute"):
            name.append(f"\n{clean(one['attribute'])}", style="dim")
        table.add_row(
            str(one["rank"]),
            name,
            one["fault"].replace("_", " "),
            bar,
            Text(f"{one['score']:.2f}  {', '.join(one['evidence'])}", style="dim"),
        )
    return table


def _culprit(answer: Row) -> Any:
    change = answer["root_cause_change"]
    if not change:
        considered = len(answer["changes"])
        return Text(f"no change explains this ({considered} considered)", style="dim")
    out = Text()
    out.append(f"{change['kind']} {clean(short(change['ref']))}", style="bold")
    out.append(f"  {clean(change.get('message', ''))}\n")
    for reason in change["reasons"]:
        out.append(f"· {clean(reason)}\n", style="dim")
    out.append(f"→ {answer['remediation']}", style="bold cyan")
    return out


def _path(answer: Row) -> Text:
    out = Text()
    for place, step in enumerate(answer["propagation"]):
        cited = ", ".join(step["evidence"])
        out.append(f"{clean(step['from'])} → {clean(step['to'])}")
        out.append(f"  [{cited}]", style="dim")
        if place + 1 < len(answer["propagation"]):
            out.append("\n")
    return out


def _evidence(answer: Row) -> Any:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    wanted = {name for one in answer["suspects"][:1] for name in one["evidence"]}
    if answer["root_cause_change"]:
        wanted |= set(answer["root_cause_change"]["evidence"])
    for one in answer["evidence"]:
        if one["id"] in wanted:
            table.add_row(Text(one["id"], style="cyan"), Text(clean(one["claim"])))
    return table


def _lines(texts: Sequence[str]) -> Text:
    return Text("\n".join(clean(text) for text in texts))


def _next(answer: Row, command: str) -> Text:
    name = answer["incident_id"]
    return Text(
        f"next: {command} report {name} --html report.html\n      {command} fix {name}", style="dim"
    )


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"
