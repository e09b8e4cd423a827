"""Files, the same bytes for the same content."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

from sample_data.generator.simulate import utc

Row = dict[str, Any]


def put(file: Path, text: str) -> None:
    """A file, zipped when its name says so; the same text gives the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    file.write_bytes(gzip.compress(data, 9, mtime=0) if file.suffix == ".gz" else data)


def tag(key: str, value: object) -> Row:
    """A Jaeger tag."""
    kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "string"
    return {"key": key, "type": kind, "value": value}


def stamp(at: float) -> str:
    """Seconds since 1970 as the APIs write a time."""
    return f"{utc(at):%Y-%m-%dT%H:%M:%SZ}"


def number_of(text: str) -> int:
    """A number that is the same for the same text, in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
