"""Ctrl-C on a terminal: a sentence, a sensible exit code, and a lake that goes on from there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.run import ingest
from lake import Lake

from . import faulty
from .conftest import ROOT

START = datetime(2025, 3, 11, 14, tzinfo=UTC)
END = datetime(2025, 3, 11, 15, tzinfo=UTC)
MICROS = int(START.timestamp()) * 1_000_000


class Terminal:
    """A command on a pseudo terminal, and what it shows."""

    def __init__(self, *words: str | Path, cwd: Path = ROOT) -> None:
        self.shown = ""
        mine, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rootlake.cli", *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        os.close(theirs)
        self._thread = threading.Thread(target=self._read, args=(mine,))
        self._thread.start()

    def _read(self, mine: int) -> None:
        while True:
            try:
                block = os.read(mine, 4096)
            except OSError:
                block = b""
            if not block:
                break
            self.shown += block.decode(errors="replace")
        os.close(mine)

    def interrupted(self, when: Callable[[], bool]) -> tuple[int, float]:
        """Ctrl-C, sent to all processes of the terminal: exit code, and the seconds it took."""
        until = time.monotonic() + 60
        while not when():
            assert self.process.poll() is None, self.shown
            assert time.monotonic() < until, self.shown
            time.sleep(0.05)
        os.killpg(self.process.pid, signal.SIGINT)
        began = time.monotonic()
        code = self.process.wait(60)
        took = time.monotonic() - began
        self._thread.join()
        return code, took


def spans(count: int, begin: int = MICROS) -> list[dict[str, object]]:
    """One span a trace, over an hour."""
    return [
        {
            "traceID": f"{place:032x}",
            "spanID": f"{place:016x}",
            "service": "cart",
            "startTime": begin + place * 3_600_000_000 // count,
            "visible": 0,
        }
        for place in range(count)
    ]


class Slow(faulty.Jaeger):
    """A server that takes its time, and after some answers very much of it."""

    asked, patient = 0, 1 << 30

    def __call__(self, path: str, params: faulty.Params) -> faulty.Answer:
        self.asked += 1
        time.sleep(0.3 if self.asked < self.patient else 20)
        return super().__call__(path, params)


def resumed(lake: Lake, url: str, server: Slow, since: datetime = START) -> None:
    """What had landed is there once, and the next pull brings the rest."""
    server.patient = 1 << 30
    ingest(lake, "jaeger", url, since=since, until=since + (END - START), window=3600)
    rows = lake.read("raw_spans")
    assert rows.height == rows["span_id"].n_unique() == 400


@pytest.mark.parametrize("patient", [1 << 30, 6], ids=["a steady server", "a hanging server"])
def test_ingest_stops_at_once_and_goes_on_later(patient: int, tmp_path: Path) -> None:
    server = Slow(spans(400))
    server.patient = patient
    with faulty.serving(server) as url:
        words = ["--since", START.isoformat(), "--until", END.isoformat(), "--set", "window=60"]
        terminal = Terminal("--lake", tmp_path / "lake", "ingest", "jaeger", url, *words)
        code, took = terminal.interrupted(
            lambda: server.asked >= min(patient, 5) and "a second" in terminal.shown
        )
        assert code == 130
        assert took < 5
        assert "Traceback" not in terminal.shown
        assert "interrupted; what landed stays, run it again to go on" in terminal.shown
        assert "% done" in terminal.shown
        assert "left" in terminal.shown
        lake = Lake(tmp_path / "lake")
        assert 0 < lake.read("raw_spans").height < 400
        resumed(lake, url, server)


def test_a_cycle_stops_with_its_sources_and_goes_on_later(tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(hours=30)
    server = Slow(spans(400, int(since.timestamp()) * 1_000_000))
    with faulty.serving(server) as url:
        (tmp_path / "rootlake.toml").write_text(
            f'lake = "lake"\n[[sources]]\nkind = "jaeger"\ntarget = "{url}"\nwindow = 60\n'
        )
        terminal = Terminal("run", cwd=tmp_path)
        code, took = terminal.interrupted(lambda: server.asked > 4)
        asked = server.asked
        assert code in {1, 130}
        assert took < 8
        assert "Traceback" not in terminal.shown
        assert "interrupted" in terminal.shown
        time.sleep(0.5)
        assert server.asked <= asked + 1, "no pull is left behind"
        resumed(Lake(tmp_path / "lake"), url, server, since.replace(microsecond=0))
