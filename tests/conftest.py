"""What several tests stand on: the demo's lake, and the real data where it is at hand."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lake.workers import cores

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: one thread for each
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
Done = subprocess.CompletedProcess[str]
TIMES = int(os.environ.get("FUZZ", "1"))  # as many times the examples: FUZZ=50 looks longer
LONG = ("test_notebooks", "test_crash", "test_crash_ops", "test_live_interrupt", "test_demo")


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: many tests wait, for servers and for processes they started."""
    return cores() + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist, what a module makes for its tests is made by one worker, and long tests come
    early, so that the workers end together."""
    for item in items:
        if shares(item) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: item.path.stem not in LONG)


def shares(item: pytest.Item) -> bool:
    """Whether a test takes something its module makes once."""
    info = getattr(item, "_fixtureinfo", None)
    made = info.name2fixturedefs.values() if info else ()
    return any(found[-1].scope == "module" for found in made)


def process(*words: str | Path, cwd: Path | None = None, path: Path | None = None) -> Done:
    """The command line in a process of its own; `path`: where else packages lie."""
    command: Sequence[str] = [sys.executable, "-m", "rootlake.cli", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(path)} if path else None
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd or ROOT, timeout=280, env=env
    )


def rootlake(*words: str | Path) -> Done:
    """The command line in this process, which has imported what it needs already."""
    from rootlake.cli import main

    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    out, err = io.StringIO(), io.StringIO()
    command = list(map(str, words))
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.chdir(ROOT),
        ):
            code = main(command)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, handler)
    return Done(command, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `rootlake demo` makes; made once for all workers. Tests only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    folder = shared / "demo"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "output.txt").exists():
            done = process("demo", "--out", folder)
            assert done.returncode == 0, done.stderr
            (folder / "output.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The published recordings beside the project, or a skip."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is not here: the published recordings are not in the project")
    return SHARED / "data"
