"""Stages meet in tables, never in imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT: dict[str, set[str]] = {
    "lake": set(),
    "ingest": {"lake"},
    "quality": {"lake"},
    "rca": {"lake"},
    "rootlake": {"lake", "ingest", "quality", "rca"},
}


def imported(file: Path) -> Iterator[str]:
    """The top-level package of every import in a file, relative ones as the file's own."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_it_stands_on(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package}/ has no Python files"
    for file in files:
        others = set(imported(file)) & (MAY_IMPORT.keys() | {"sample_data", "tests", "bench"})
        strangers = others - MAY_IMPORT[package] - {package}
        where = file.relative_to(ROOT)
        assert not strangers, f"{where} imports {sorted(strangers)}; stages meet in tables"
