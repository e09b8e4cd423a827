"""Labelled templates: one file per kind of software, `[intent]` above the templates of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "examples"
CALIBRATING = Path(__file__).parent / "calibrating"
NAMES = Path(__file__).parent / "names"
_HEAD = re.compile(r"^\[([a-z_]+)\]$")


class Example(NamedTuple):
    software: str
    intent: str
    template: str


def read(folder: Path = FOLDER) -> list[Example]:
    """Every example, by software and as it stands in the file."""
    return [one for file in sorted(folder.glob("*.txt")) for one in _of(file)]


def names() -> list[Example]:
    """Names of errors and states that many kinds of software use, each an example by itself."""
    return [
        Example(one.software, one.intent, name.replace("_", " "))
        for one in read(NAMES)
        for name in one.template.split()
    ]


def _of(file: Path) -> Iterator[Example]:
    return (Example(file.stem, intent, line) for intent, line in sections(file))


def sections(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file, each with the `[intent]` it stands below."""
    intent = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        head = _HEAD.match(line)
        if head:
            intent = head[1]
        elif line:
            yield intent, line
