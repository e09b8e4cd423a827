"""Servers the tests and benchmarks talk to: real ones, and real HTTP for what can't be had."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def prometheus(
    folder: Path, text: bytes = b"", *flags: str, port: int | None = None
) -> Iterator[str]:
    """A real server that holds the samples of an OpenMetrics text; at a free port or the given."""
    for program in ("prometheus", "promtool"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian: apt-get install prometheus)")
    if text:
        (folder / "metrics.om").write_bytes(text)
        load = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "metrics.om", "data"]
        subprocess.run(load, cwd=folder, check=True, capture_output=True)
    config = "global: {scrape_interval: 1h}\nstorage: {tsdb: {out_of_order_time_window: 1h}}\n"
    (folder / "p.yml").write_text(config)
    port = port or free_port()
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


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def varint(value: int) -> bytes:
    """A protobuf varint."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | int | float) -> bytes:
    """A protobuf field: bytes, a whole number, or a double."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3) + varint(value)


def zigzag(value: int) -> int:
    """A signed number as protobuf's sint."""
    return (value << 1) ^ (value >> 63)


def written(
    labels: dict[str, str], samples: Sequence[tuple[int, float]] = (), *more: bytes
) -> bytes:
    """A TimeSeries of remote write: samples of (ms, value), and further fields."""
    pairs = b"".join(
        field(1, field(1, key.encode()) + field(2, value.encode()))
        for key, value in sorted(labels.items())
    )
    points = b"".join(field(2, field(1, float(value)) + field(2, at)) for at, value in samples)
    return field(1, pairs + points + b"".join(more))


def remote_write(url: str, *series: bytes) -> None:
    """Push series into a server that was started with --web.enable-remote-write-receiver."""
    import pyarrow as pa
    import requests

    reply = requests.post(
        f"{url}/api/v1/write",
        data=bytes(pa.Codec("snappy").compress(b"".join(series))),
        headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
        timeout=10,
    )
    assert reply.status_code in {200, 204}, reply.text
