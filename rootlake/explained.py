"""A trace before and after its repair, drawn for a terminal: two waterfalls over one axis of time,
and under every changed span why it was changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

Row = Mapping[str, Any]
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_RIGHT, _WRONG, _DIM = "green", "red", "dim"
_SAY = {
    "id_format": "written in another notation",
    "id_truncated": "half of the id had been cut off",
    "id_corrupt": "damaged digits mended by its relatives",
    "id_reference": "named no span; the span it was told in gives it",
    "id_missing": "had no id; its parent and children name it",
    "trace_split": "stood apart; its parent link leads here",
    "trace_merged": "shared its id with an unrelated request",
    "span_duplicate": "delivered more than once",
    "span_shared": "client and server shared one id",
    "parent_cycle": "was its own ancestor; the link is cut",
    "time_unit": "given in another unit than declared",
    "time_zone": "its source's clock is whole quarter hours off",
    "time_implausible": "placed between its parent's and children's times",
    "duration_negative": "ended before it began; swapped",
    "order": "put into the day it happened on",
}


class Axis(NamedTuple):
    """The stretch of time that is drawn, in ns, and how many characters it takes."""

    start: int
    end: int
    width: int

    def bar(self, start: int | None, duration: int | None) -> tuple[int, str]:
        """Where a bar begins and how it looks; a time off the axis is told in words."""
        if start is None:
            return 0, "no usable time"
        length = max(duration or 0, 0)
        if start + length < self.start:
            return 0, f"◀ {lasting(self.start - start)} earlier"
        if start > self.end:
            text = f"{lasting(start - self.start)} later ▶"
            return max(self.width - len(text), 0), text
        scale = self.width * 8 / max(self.end - self.start, 1)
        low = max(int((start - self.start) * scale), 0)
        high = min(max(int((start + length - self.start) * scale), low + 1), self.width * 8)
        first = min(low // 8, self.width - 1)
        full, rest = divmod(high - first * 8, 8)
        return first, "█" * full + (_EIGHTHS[rest] if rest or not full else "")


def explained(console: Console, found: Row) -> None:
    """Print what `quality.explain.explain` found."""
    spans = found["spans"]
    width = min(console.width, 140)
    console.print(_title(found))
    console.print(_counts(found))
    if not spans:
        _rest(console, found)
        return
    axis, names = _axis(spans, width)
    before = [one for one in [*spans, *found["merged"], *found["quarantined"]] if one["before"]]
    changed = any(one["reasons"] for one in before)
    if changed:
        console.print(Text.assemble(("\nBEFORE", "bold"), ("  as it was received", _DIM)))
        _ruler(console, axis, names)
        for name, rows in _pieces(before, found["trace_id"]):
            console.print(name)
            _waterfall(console, rows, "before", axis, names)
    console.print(Text.assemble(("\nAFTER", "bold"), ("  as it is in spans", _DIM)))
    _ruler(console, axis, names)
    _waterfall(console, spans, "after", axis, names, why=True)
    _rest(console, found)


def _title(found: Row) -> Text:
    title = Text.assemble((f"trace {found['trace_id']}", "bold"))
    spans = found["spans"]
    if spans:
        first = min(one["after"]["start_ns"] for one in spans)
        title.append(
            f"  {datetime.fromtimestamp(first / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3], _DIM
        )
    if found["asked"] != found["trace_id"]:
        title.append(f"\nasked for as {found['asked']}, which it no longer goes by", "yellow")
    return title


def _counts(found: Row) -> Text:
    spans = found["spans"]
    changed = [one for one in spans if one["reasons"]]
    rules = Counter(rule for one in spans for rule in {r["rule"] for r in one["reasons"]})
    text = Text(f"{len(spans)} spans of {len({one['service'] for one in spans})} services; ")
    if not changed and not found["merged"]:
        return text + Text("nothing had to be changed", _RIGHT)
    text.append(f"{len(changed)} changed", "bold")
    text.append(f" ({', '.join(f'{name} {count}' for name, count in rules.most_common())})")
    if found["merged"]:
        merged = len(found["merged"])
        text.append(f"; {merged} {'copy' if merged == 1 else 'copies'} merged")
    if found["quarantined"]:
        text.append(f"; {len(found['quarantined'])} not in spans", "yellow")
    faulty = sum(bool(one["faults"]) for one in spans)
    return text + (Text(f"; {faulty} still marked", "yellow") if faulty else Text("; none marked"))


def _axis(spans: Sequence[Row], width: int) -> tuple[Axis, int]:
    """The axis of both waterfalls: the repaired trace, and a tenth of it on both sides where
    something was received out of place."""
    low = min(one["after"]["start_ns"] for one in spans)
    high = max(one["after"]["start_ns"] + max(one["after"]["duration_ns"] or 0, 0) for one in spans)
    moved = any(
        one["before"] and one["before"]["start_ns"] != one["after"]["start_ns"] for one in spans
    )
    room = max((high - low) // 10, 1_000) if moved else 0
    names = min(max(26, width * 2 // 5), 48)
    return Axis(low - room, max(high + room, low + 1_000), width - names - 11), names


def _ruler(console: Console, axis: Axis, names: int) -> None:
    """Times at the ends and in the middle of the axis."""
    marks = [" "] * (axis.width + 8)
    span = axis.end - axis.start
    for share in (0.0, 0.5, 1.0):
        text = lasting(round(span * share)) if share else "0"
        at = min(
            round(axis.width * share) - (len(text) if share == 1 else len(text) // 2), axis.width
        )
        marks[max(at, 0) : max(at, 0) + len(text)] = text
    console.print(Text(" " * (names + 1) + "".join(marks).rstrip(), _DIM), soft_wrap=True)


def _pieces(rows: Sequence[Row], trace: str) -> Iterator[tuple[Text, list[Row]]]:
    """The rows as they were received, by the trace id they had; the largest piece first."""
    held: dict[str | None, list[Row]] = {}
    for one in rows:
        held.setdefault(one["before"]["trace_id"], []).append(one)
    for name, some in sorted(held.items(), key=lambda item: (-len(item[1]), str(item[0]))):
        if name is None:
            yield Text("without a trace id", _WRONG), some
        elif name == trace:
            yield Text(name, _DIM), some
        else:
            yield marked(name, trace, _WRONG), some


def _waterfall(
    console: Console, rows: Sequence[Row], side: str, axis: Axis, names: int, *, why: bool = False
) -> None:
    for one, depth in nested(rows, side):
        console.print(_line(one, depth, side, axis, names), soft_wrap=True)
        if why:
            for note in _notes(one):
                indent = min(depth, 8) * 2 + 4
                console.print(Padding(Text.assemble(("╰ ", _DIM), note), (0, 0, 0, indent)))


def _line(one: Row, depth: int, side: str, axis: Axis, names: int) -> Text:
    """Name, bar and duration of a span."""
    changed = bool(one["reasons"])
    style = (_RIGHT if side == "after" else _WRONG) if changed else "default"
    name = Text("  " * min(depth, 8), no_wrap=True)
    name.append("● " if changed else "  ", style)
    name.append(clean(one["service"] or "–"), "bold" if changed else "")
    name.append(f" {clean(one['operation'] or '')}", _DIM)
    name.truncate(names, overflow="ellipsis", pad=True)
    value = one[side]
    at, bar = axis.bar(value["start_ns"], value["duration_ns"])
    colour = style if changed else ("cyan" if one["status"] != "error" else "magenta")
    line = name + Text(" " + " " * at) + Text(bar, colour)
    line.pad_right(max(names + 1 + axis.width - line.cell_len, 0))
    took = "?" if value["duration_ns"] is None else lasting(value["duration_ns"])
    return line + Text(f" {took:>9}", _WRONG if took.startswith("-") else _DIM)


def _notes(one: Row) -> Iterator[Text]:
    """Why a span was changed, one line a rule; and what is still wrong with it."""
    by_rule: dict[str, list[Row]] = {}
    for reason in one["reasons"]:
        by_rule.setdefault(reason["rule"], []).append(reason)
    for rule, reasons in by_rule.items():
        text = Text.assemble((rule, "bold"), " ", _sentence(rule, reasons))
        for reason in reasons:
            change = _change(reason)
            text += Text("; ") + change if change.plain else Text("")
        sure = [r["confidence"] for r in reasons if r["confidence"] is not None]
        if sure and min(sure) < 1:
            text.append(f"  {min(sure):.2%} sure".replace("100.00", "99.99"), _DIM)
        yield text
    for fault in one["faults"]:
        yield Text.assemble((fault, "bold yellow"), " is still so: the data does not settle it")


def _sentence(rule: str, reasons: Sequence[Row]) -> str:
    first = reasons[0]
    if rule == "clock_skew" and "offset_ns" in first:
        ahead = "ahead" if first["offset_ns"] > 0 else "behind"
        offset, doubt = lasting(abs(first["offset_ns"])), lasting(first["error_ns"] or 0)
        return f"the clock of {clean(first['host'])} was {offset} {ahead} (± {doubt})"
    if rule == "time_unit":
        factors = {
            round(int(one["after"]) / int(one["before"]), 9)
            for one in reasons
            if one["before"] not in (None, "0") and one["after"]
        }
        by = ", ".join(f"{one:g}" for one in sorted(factors))
        return f"{_SAY[rule]}; times {by}" if by else _SAY[rule]
    return _SAY.get(rule, "changed")


def _change(reason: Row) -> Text:
    """What one column was and became."""
    column, before, after = reason["column"], reason["before"], reason["after"]
    if reason["rule"] in {"clock_skew", "time_unit"} or column in {"row", "date"}:
        return Text("")
    if column.endswith("_ns"):
        return Text(f"{column.removesuffix('_ns')} {_time(column, before, after)}")
    text = Text(f"{column} ")
    if before is None or after is None:
        was = "none" if before is None else short(before)
        return text + Text(was, _WRONG) + Text(" → ") + Text(short(after or "none"), _RIGHT)
    return (
        text
        + marked(before, after, _WRONG, cut=True)
        + Text(" → ")
        + marked(after, before, _RIGHT, cut=True)
    )


def _time(column: str, before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return "found" if before is None else "left out"
    if column.startswith("duration"):
        return f"{lasting(int(before))} → {lasting(int(after))}"
    by = int(after) - int(before)
    return f"{lasting(abs(by))} {'later' if by > 0 else 'earlier'}"


def _rest(console: Console, found: Row) -> None:
    """Rows that are not in `spans`."""
    for one in found["merged"]:
        into = next((r["after"] for r in one["reasons"] if r["column"] == "row"), None)
        text = f"  {one['row_key']}  {clean(one['service'] or '–')} {clean(one['operation'] or '')}"
        text += f"  a copy, merged{f' into {into}' if into else ''}"
        console.print(Text(text, _DIM))
    for one in found["quarantined"]:
        text = f"  {one['row_key']}  {clean(one['service'] or '–')} {clean(one['operation'] or '')}"
        console.print(Text(text + "  not in spans: in quarantine, or not repaired yet", "yellow"))


def nested(rows: Sequence[Row], side: str) -> list[tuple[Row, int]]:
    """Spans under their parents, each with its depth, in order of time; a span whose parent is
    not among them, or that is its own ancestor, stands at the left."""
    ids = {one[side]["span_id"] for one in rows if one[side]["span_id"]}
    children: dict[str | None, list[Row]] = {}
    for one in rows:
        parent = one[side]["parent_span_id"]
        children.setdefault(parent if parent in ids else None, []).append(one)
    out, seen = list[tuple[Row, int]](), set[int]()

    def walk(some: Sequence[Row]) -> None:
        waiting = [(one, 0) for one in reversed(some)]
        while waiting:
            one, depth = waiting.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            out.append((one, depth))
            below = children.get(one[side]["span_id"] or "", [])
            waiting += [(child, depth + 1) for child in reversed(below)]

    walk(children.get(None, []))
    for one in rows:  # what is left lies on loops
        walk([one])
    return out


def marked(text: str, other: str, style: str, *, cut: bool = False) -> Text:
    """An id with the digits that differ from another in colour; `cut`: without most of the rest."""
    if len(text) != len(other):
        return Text(short(text) if cut else clean(text), style)
    differ = [i for i, (a, b) in enumerate(zip(text, other, strict=True)) if a != b]
    ends = {*range(3), *range(len(text) - 3, len(text))}
    shown = ends | {near for i in differ for near in (i - 1, i, i + 1)}
    out, hidden = Text(), False
    for place, digit in enumerate(clean(text)):
        if cut and place not in shown:
            out.append("" if hidden else "…", _DIM)
            hidden = True
            continue
        out.append(digit, f"bold {style}" if place in differ else _DIM)
        hidden = False
    return out


def short(text: str) -> str:
    """An id short enough to stand in a sentence."""
    shown = clean(text)
    return shown if len(shown) <= 16 else f"{shown[:7]}…{shown[-7:]}"


def clean(text: str) -> str:
    """Text from telemetry without what would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def lasting(nanos: int) -> str:
    """A length of time as a person says it."""
    sign, value = ("-" if nanos < 0 else ""), abs(nanos)
    for size, unit in (
        (31_557_600_000_000_000, "years"),
        (86_400_000_000_000, "days"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "µs"),
    ):
        if value >= size:
            return f"{sign}{value / size:.3g} {unit}"
    return f"{sign}{value} ns"
