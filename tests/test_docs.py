"""What the documents show, runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import Lake
from rootlake.cli import parser

from .conftest import ROOT, rootlake

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = re.compile(r"```(?:sh|console)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def commands() -> Iterator[tuple[str, str]]:
    """Every rootlake command line in the documents."""
    for page in PAGES:
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                text = line.removeprefix("$ ").split("  #")[0].strip()
                if re.match(r"(\.venv/bin/)?rootlake ", text):
                    yield page.relative_to(ROOT).as_posix(), text


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_every_command_in_the_documents_is_one(page: str, line: str) -> None:
    for part in re.split(r"&&|\||>", line):
        words = shlex.split(part)
        if words and words[0].endswith("rootlake") and "--help" not in words:
            parser().parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_in_the_documents_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    ("page", "line"),
    [(page, line) for page, line in commands() if " sql " in line or line.endswith("status")],
)
def test_queries_in_the_documents_answer(page: str, line: str, demo_folder: Path) -> None:
    words = shlex.split(line)[1:]
    if "--config" in words:
        at = words.index("--config")
        del words[at : at + 2]
    done = rootlake("--lake", Lake(demo_folder / "lake").root, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
