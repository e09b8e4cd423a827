"""Results as tables for a terminal. Everything that comes from telemetry is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_SLIVER = 10  # characters: a column narrower than this and than its cells is hard to read
_LONGEST = 4_000  # characters of a cell that are shown to a person


def rows(console: Console, names: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
    """A plain table; numbers stand right."""
    table = _table()
    for index, name in enumerate(names):
        numeric = bool(values) and all(_is_number(row[index]) for row in values)
        table.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for row in values:
        table.add_row(*(Text(cell(value)) for value in row))
    console.print(table)


def answer(console: Console, names: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
    """A table of any width: where columns would be slivers, each row stands line by line."""
    widest = [
        max(len(cell(one)) for one in [name, *column])
        for name, *column in zip(names, *values, strict=True)
    ]
    if sum(min(width, _SLIVER) + 3 for width in widest) <= console.width:
        rows(console, names, values)
        return
    for row in values:
        rows(console, ["", ""], list(zip(names, map(cell, row), strict=True)))


def cell(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = str(value)
    more = f"… {len(text) - _LONGEST:,} more characters" if len(text) > _LONGEST else ""
    return "".join(char if char.isprintable() else " " for char in text[:_LONGEST]) + more


def lines(text: str) -> Text:
    """Lines of text, none of whose characters a terminal obeys."""
    return Text("".join(char if char.isprintable() or char == "\n" else " " for char in text))


def records(console: Console, found: Sequence[Mapping[str, Any]], *, whole: bool) -> None:
    """Cases: whole ones line by line, lists as a table."""
    if not found:
        console.print("[dim]nothing found[/dim]")
        return
    if whole:
        for record in found:
            rows(console, ["", ""], [[key, value] for key, value in record.items()])
        return
    shown = [
        key for key in ("case_id", "score", "title", "root_cause", "verified") if key in found[0]
    ]
    rows(console, shown, [[record[key] for key in shown] for record in found])


def incidents(console: Console, found: pl.DataFrame, command: str) -> None:
    """Incidents in the order they opened, and what to type next, which begins with `command`."""
    if not found.height:
        console.print("no incident found")
        return
    shown = ["incident_id", "onset", "service", "severity", "status", "trigger"]
    rows(console, shown, found.sort("opened_at").select(shown).rows())
    typed = f"{command} diagnose {found['incident_id'][0]}"
    console.print(f"\n[dim]next:[/dim] {escape(typed)}", soft_wrap=True)


def repair_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """What a repair did: days, rows, and the changes per rule."""
    days = summary["days"]
    for one in summary.get("refused", ()):
        console.print(
            f"[red]{one['date']} of {one['table']} was not published:[/red]"
            f" {escape(one['name'])} does not hold for {one['faulty']:,} of {one['rows']:,} rows;"
            " the day is as it was"
        )
    if not days:
        if not summary.get("refused"):
            console.print("nothing new to repair")
        return
    console.print(f"repaired {len(days)} day(s): {', '.join(str(day) for day in days)}")
    if summary.get("rules"):
        rows(console, ["rule", "rows changed"], list(summary["rules"].items()))


def lake_status(console: Console, found: Mapping[str, Any]) -> None:
    """Tables, the account of rows, faults."""
    console.print(f"[bold]{escape(found['lake'])}[/bold]\n")
    names = ["table", "rows", "files", "size", "days", "version", "newest"]
    held = [one for one in found["tables"] if one["rows"]]
    body = [
        [
            t["table"],
            f"{t['rows']:,}",
            t["files"],
            _size(t["bytes"]),
            t["days"],
            t["version"],
            t["newest"],
        ]
        for t in held
    ]
    rows(console, names, body)
    empty = [one["table"] for one in found["tables"] if not one["rows"]]
    if empty:
        console.print(f"[dim]empty: {', '.join(empty)}[/dim]")
    _account(console, found["account"])
    if found["scorecard"]:
        console.print("\n[bold]faults found[/bold]")
        names = ["table", "check", "rows", "faulty", "repaired", "quarantined"]
        rows(console, names, [list(one.values()) for one in found["scorecard"]])
    _undone(console, found["suppressed"])
    _rules(console, found["rules"])


def _undone(console: Console, held: Sequence[Mapping[str, Any]]) -> None:
    """What `repair --undo` keeps out."""
    if not held:
        return
    console.print("\n[bold]undone[/bold]  [dim]until `rootlake repair --redo RULE|RUN`[/dim]")
    body = [
        [one["rule"], one["date"] or "every day", one["run"], one["reason"], one["since"]]
        for one in held
    ]
    rows(console, ["rule", "day", "run", "reason", "since"], body)


def _rules(console: Console, stretches: Sequence[Mapping[str, Any]]) -> None:
    """Which versions of the rules made which days; those of today are not spelled out."""
    if not stretches:
        return
    console.print("\n[bold]rules[/bold]  [dim]that made the days[/dim]")
    body = []
    for one in stretches:
        have = [
            f"{rule} {one['versions'].get(rule, '–')} (today {new})"
            for rule, new in one["behind"].items()
        ]
        days = str(one["first"]) if one["days"] == 1 else f"{one['first']} … {one['last']}"
        body.append([one["table"], days, one["days"], ", ".join(have) or "as of today"])
    rows(console, ["table", "days", "", "versions"], body)
    if any(one["behind"] for one in stretches):
        console.print("[dim]`rootlake repair --upgrade` makes the days of older rules again[/dim]")


def _account(console: Console, lines: Sequence[Mapping[str, Any]]) -> None:
    """Every record accounted for: in = raw + quarantined, raw = clean + merged + joined + …"""
    if not lines:
        return
    console.print(
        "\n[bold]account[/bold]  [dim]delivered = raw + refused + expired + erased;"
        " raw = clean + merged + joined + quarantined[/dim]"
    )
    table = _table()
    table.add_column("")
    for line in lines:
        table.add_column(line["table"], justify="right", overflow="fold")
    for key in list(lines[0])[1:]:
        table.add_row(key.replace("_", " "), *(_counted(line[key]) for line in lines))
    console.print(table)


def maintained(console: Console, done: Sequence[Mapping[str, Any]], *, dry: bool) -> None:
    """What `maintain` did, or would do."""
    if not done:
        console.print("nothing to do")
        return
    body = [
        [
            one["step"],
            one["table"],
            one["about"],
            f"{one['rows']:,}" if one["rows"] else "",
            one["files"] or "",
            _size(one["bytes"]) if one["bytes"] else "",
        ]
        for one in done
    ]
    rows(console, ["", "table", "", "rows", "files", "size"], body)
    files, size = (sum(one[key] for one in done) for key in ("files", "bytes"))
    verb = "would be" if dry else "were"
    console.print(f"{len(done)} steps; {files:,} files of {_size(size)} {verb} concerned")


def erased(console: Console, found: Mapping[str, Any]) -> None:
    """What `maintain --erase` removed, and whether anything is left."""
    verb = "would be" if found["dry_run"] else "were"
    counts = [[name, f"{count:,}"] for name, count in found["rows"].items() if count]
    if counts:
        rows(console, ["table", "rows"], counts)
    total = sum(found["rows"].values())
    console.print(f"{total:,} rows {verb} erased; {found['files']:,} old files {verb} removed")
    for text in found["notes"]:
        console.print(escape(text), style="dim")
    for place in found["left"]:
        console.print(f"[red]still in[/red] {escape(place)}")


def answered(console: Console, answer: Mapping[str, Any]) -> None:
    """The agent's answer, and the steps it took."""
    for step in answer.get("steps", ()):
        console.print(Text(cell(f"· {step['tool']}  {step['summary']}")), style="dim")
    console.print()
    console.print(lines(str(answer["text"])))
    console.print(Text(f"\nmodel: {answer['model']}"), style="dim")


def _counted(value: Any) -> str:
    """A number of the account, or whether it adds up."""
    if isinstance(value, bool):
        return "[green]yes[/green]" if value else "[red]NO[/red]"
    return f"{value:,}" if isinstance(value, int) else escape(cell(value))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.1f} TB"
