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
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from lake.workers import cores

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: one thread for each
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
Done = subprocess.CompletedProcess[str]
TIMES = int(os.environ.get("FUZZ", "1"))  # as many times the examples: FUZZ=50 looks longer
LONG = (
    "test_demo", "test_real_data", "test_crash_ops", "test_crash", "test_live", "test_quality_run",
    "test_quality_explain", "test_intents", "test_maintain", "test_live_interrupt", "test_land",
    "test_quality_slices", "test_sample_data", "test_quality_undo", "test_notebooks",
)  # fmt: skip


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: many tests wait, for servers and for processes they started."""
    return cores() + 1


class Shared(LoadScopeScheduling):
    """What a file makes once for its tests is made by one worker; other tests go to any."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if makes_once(file) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Shared:
    """(pytest-xdist's own groups are marks in names of tests, which pytest 9.2 does not let it
    change.)"""
    config.option.loadscopereorder = False  # long files first, see below, not those of many tests
    return Shared(config, log)


@cache
def makes_once(file: str) -> bool:
    """Whether a file has something costly for all of its tests."""
    return file.endswith("test_demo.py") or 'fixture(scope="' in (ROOT / file).read_text(
        encoding="utf-8"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come early, so that the workers end together; first what makes the demo."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


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
