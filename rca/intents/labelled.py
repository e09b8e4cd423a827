"""Labelled templates: one file per kind of software, `[intent]` above the templates of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "examples"
CALIBRATING = Path(__file__).parent / "calibrating"
_HEAD = re.compile(r"^\[([a-z_]+)\]$")


class Example(NamedTuple):
    software: str
    intent: str
    template: str


def read(folder: Path = FOLDER) -> list[Example]:
    """Every example, by software and as it stands in the file."""
    return [one for file in sorted(folder.glob("*.txt")) for one in _of(file)]


def _of(file: Path) -> Iterator[Example]:
    intent = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        head = _HEAD.match(line)
        if head:
            intent = head[1]
        elif line:
            yield Example(file.stem, intent, line)
