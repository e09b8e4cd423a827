"""What several tests stand on: the demo's lake, and the real data where it is at hand."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def rootlake(
    *words: str | Path, cwd: Path | None = None, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The real command line in a process of its own; `path`: where else packages lie."""
    command: Sequence[str] = [sys.executable, "-m", "rootlake.cli", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(path)} if path else None
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd or ROOT, timeout=280, env=env
    )


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `rootlake demo` makes; made once for all workers. Tests only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    folder = shared / "demo"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "output.txt").exists():
            done = rootlake("demo", "--out", folder)
            assert done.returncode == 0, done.stderr
            (folder / "output.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The published recordings beside the project, or a skip."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is not here: the published recordings are not in the project")
    return SHARED / "data"
