"""Faults of telemetry, planted over a true recording, with the truth kept aside."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]
RATES = {
    "id_format": 0.006,
    "id_truncated": 0.003,
    "id_missing": 0.003,
    "id_corrupt": 0.003,
    "span_duplicate": 0.008,
    "duration_negative": 0.002,
    "time_unit": 0.002,
    "time_implausible": 0.001,
    "late": 0.01,
}


@dataclass(frozen=True)
class Clock:
    """How a node's clock is off: seconds, seconds per second, and a step (at, by) if any."""

    offset: float = 0.0
    drift: float = 0.0
    step: tuple[float, float] | None = None

    def error(self, at: float, since: float) -> float:
        """What the clock shows more than the true time, in seconds."""
        stepped = self.step[1] if self.step and at >= self.step[0] else 0.0
        return self.offset + self.drift * (at - since) + stepped


def clocks(
    nodes: list[str], start: float, rng: np.random.Generator, *, step: bool
) -> dict[str, Clock]:
    """A clock for every node: two of six are off, one of them also steps where asked."""
    out = {node: Clock() for node in nodes}
    wrong = [nodes[1], nodes[-1]] if len(nodes) > 3 else nodes[1:2]
    for place, node in enumerate(wrong):
        offset = float(rng.choice([-1, 1]) * rng.uniform(0.025, 0.070))
        jump = (start + 480.0, 0.2) if step and place == 0 else None
        out[node] = Clock(offset, float(rng.uniform(-6e-6, 6e-6)), jump)
    return out


def spoil(rows: list[Row], rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """The rows (trace_id, span_id, parent, start, duration, … in µs) with faults planted, and the
    planted faults: {row, rule, column, wrong, right}, `row` being the row's `key`."""
    order = rng.permutation(len(rows))
    truth: list[Row] = []
    taken = 0
    extra: list[Row] = []
    for rule, rate in RATES.items():
        count = round(rate * len(rows))
        chosen = [rows[int(place)] for place in order[taken : taken + count]]
        taken += count
        for row in chosen:
            extra += _PLANT[rule](row, rng, truth)
    return rows + extra, truth


def _note(truth: list[Row], row: Row, rule: str, column: str, right: Any) -> None:
    truth.append(
        {"key": row["key"], "rule": rule, "column": column, "wrong": row[column], "right": right}
    )


def _format(row: Row, rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    right = row["trace_id"]
    ways = [
        right.upper(),
        f"{right[:8]}-{right[8:12]}-{right[12:16]}-{right[16:20]}-{right[20:]}",
        f"0x{right}",
        base64.b64encode(bytes.fromhex(right)).decode(),
        str(int(right, 16)),
    ]
    if right.startswith("0"):
        ways = [right.lstrip("0")]
    row["trace_id"] = ways[int(rng.integers(len(ways)))]
    if row["trace_id"] == right:  # no letters to raise
        row["trace_id"] = f"0x{right}"
    _note(truth, row, "id_format", "trace_id", right)
    return []


def _truncated(row: Row, _rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    right = row["trace_id"]
    row["trace_id"] = right[16:]
    _note(truth, row, "id_truncated", "trace_id", right)
    return []


def _missing(row: Row, rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    right = row["trace_id"]
    row["trace_id"] = ["", "0" * 32][int(rng.integers(2))]
    _note(truth, row, "id_missing", "trace_id", right)
    return []


def _damaged(row: Row, rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    right = row["trace_id"]
    text = list(right)
    for place in rng.choice(32, int(rng.integers(1, 3)), replace=False):
        text[place] = "0123456789abcdef"[(int(text[place], 16) + int(rng.integers(1, 16))) % 16]
    row["trace_id"] = "".join(text)
    _note(truth, row, "id_corrupt", "trace_id", right)
    return []


def _doubled(row: Row, rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    copy = {**row, "key": f"{row['key']}+", "order": row["order"] + float(rng.uniform(0, 40))}
    if rng.random() < 0.3:
        copy["tags"] = copy["tags"][:1]
        copy["logs"] = []
    truth.append(
        {
            "key": copy["key"],
            "rule": "span_duplicate",
            "column": "row",
            "wrong": copy["key"],
            "right": row["key"],
        }
    )
    return [copy]


def _negative(row: Row, _rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    if row["duration"] < 1:
        return []
    start, duration = row["start"], row["duration"]
    row["start"], row["duration"] = start + duration, -duration
    _note(truth, row, "duration_negative", "start", start)
    return []


def _unit(row: Row, _rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    start = row["start"]
    row["start"], row["duration"] = start * 1000, row["duration"] * 1000
    _note(truth, row, "time_unit", "start", start)
    return []


def _implausible(row: Row, rng: np.random.Generator, truth: list[Row]) -> list[Row]:
    start = row["start"]
    row["start"] = [0, 4102444800000000][int(rng.integers(2))]  # epoch 0, the year 2100
    _note(truth, row, "time_implausible", "start", start)
    return []


def _late(row: Row, rng: np.random.Generator, _truth: list[Row]) -> list[Row]:
    row["order"] += float(rng.uniform(300, 900))
    return []


_PLANT = {
    "id_format": _format,
    "id_truncated": _truncated,
    "id_missing": _missing,
    "id_corrupt": _damaged,
    "span_duplicate": _doubled,
    "duration_negative": _negative,
    "time_unit": _unit,
    "time_implausible": _implausible,
    "late": _late,
}
