"""Servers the tests and benchmarks talk to: real ones, and real HTTP for what can't be had."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def prometheus(folder: Path, text: bytes = b"", *flags: str) -> Iterator[str]:
    """A real server that holds the samples of an OpenMetrics text."""
    for program in ("prometheus", "promtool"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian: apt-get install prometheus)")
    if text:
        (folder / "metrics.om").write_bytes(text)
        load = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "metrics.om", "data"]
        subprocess.run(load, cwd=folder, check=True, capture_output=True)
    (folder / "p.yml").write_text("global: {scrape_interval: 1h}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = ["prometheus", "--config.file=p.yml", "--storage.tsdb.path=data"]
    command += [
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"{url}/-/ready", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()
