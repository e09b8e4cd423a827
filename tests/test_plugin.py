"""A source of another package comes through the same door as ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .conftest import ROOT, process

PAGE = ROOT / "docs" / "sources.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_plugin_installs_and_pulls(tmp_path: Path) -> None:
    code, project = blocks("python")[0], blocks("toml")[0]
    assert 30 <= len(code.splitlines()) <= 60
    home = tmp_path / "plugin"
    home.mkdir()
    (home / "rootlake_pagerduty.py").write_text(code)
    (home / "pyproject.toml").write_text(project)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(home)], check=True, timeout=120)
    data = tmp_path / "incidents.json"
    data.write_text(
        '[{"id": "P1", "created_at": "2025-03-11T14:05:00Z", "title": "checkout is slow",'
        ' "service": "checkout"}]'
    )
    lake = tmp_path / "lake"
    shown = process("sources", path=site)
    assert "pagerduty" in shown.stdout
    for rows in (1, 0):
        done = process("--lake", lake, "--json", "ingest", "pagerduty", data, path=site)
        assert f'"rows": {rows}' in done.stdout, done.stderr
    found = process("--lake", lake, "sql", "select kind, service, ref from changes", path=site)
    assert "P1" in found.stdout
