"""Big files in parts: cut where a record begins, read only when a part's turn comes."""

from __future__ import annotations

import gzip
import hashlib
import mmap
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ingest.batch import named
from lake import UserError

BIG = 64 << 20  # bytes: a smaller file is read whole
CHUNK = 24 << 20  # bytes of a part


class Part(NamedTuple):
    """Bytes of a file: start ≤ place < stop."""

    path: str
    start: int
    stop: int

    def content(self) -> bytes:
        """The bytes."""
        with Path(self.path).open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)

    def between(self, head: bytes, tail: bytes, trimmed: bytes) -> memoryview:
        """The bytes less those `trimmed` at their end, between others; read in place, for a copy of
        so much takes a tenth of the time that decoding does."""
        size = self.stop - self.start
        whole = bytearray(len(head) + size + len(tail))
        whole[: len(head)] = head
        with Path(self.path).open("rb") as file:
            file.seek(self.start)
            end = len(head) + file.readinto(memoryview(whole)[len(head) : len(head) + size])
        while end > len(head) and whole[end - 1] in trimmed:
            end -= 1
        whole[end : end + len(tail)] = tail
        return memoryview(whole)[: end + len(tail)]


def is_big(path: Path) -> bool:
    """Whether a file is worth reading in parts."""
    size = path.stat().st_size
    return size >= (BIG // 8 if path.suffix == ".gz" else BIG)


@contextmanager
def plain(path: Path) -> Iterator[Path]:
    """A big file unzipped, for as long as it is needed; a plain one as it is."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if not zipped:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="rootlake-", suffix=path.stem) as out:
        try:
            with gzip.open(path) as file:
                while block := file.read(8 << 20):
                    out.write(block)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(
                f"{path} is a damaged or cut gzip file ({error}); fetch it again."
            ) from error
        out.flush()
        yield Path(out.name)


def file_id(path: Path, *identity: str) -> str:
    """The name of a file's content, as `content_id` gives it, without reading it whole."""
    with path.open("rb") as file:
        return named(hashlib.file_digest(file, "sha256"), *identity)


def cut(path: Path, record: re.Pattern[bytes], size: int = CHUNK) -> list[Part]:
    """The file in parts of about `size` bytes that each begin where `record` matches."""
    total = path.stat().st_size
    if total == 0:
        return []
    parts, start = [], 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while start < total:
            found = record.search(content, start + size) if start + size < total else None
            stop = found.start() if found else total
            parts.append(Part(str(path), start, stop))
            start = stop
    return parts
