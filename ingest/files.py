"""Files as sources: found in order, read whole, `.gz` undone."""

from __future__ import annotations

import gzip
import os
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from lake import UserError


def files(target: str, *suffixes: str) -> list[Path]:
    """The file itself, or all files below a folder with one of the suffixes.

    `.gz` and a rotated file's date (`0.log.20250311-140000.gz`) may follow the suffix.

    Raises UserError when there is nothing there, or nothing of that kind.
    """
    path = Path(target).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"there is no file or folder {target}.")
    wanted = re.compile(rf"({'|'.join(map(re.escape, suffixes))})(\.[0-9-]+)?(\.gz)?$")
    found = sorted(one for one in path.rglob("*") if wanted.search(one.name) and one.is_file())
    if not found:
        kinds = ", ".join(suffixes)
        raise UserError(f"the folder {target} holds no file of the kind {kinds} (or .gz of it).")
    return found


def content(path: Path) -> bytes:
    """A file's bytes, unzipped. Raises UserError for a cut or unreadable file."""
    return moving(path)[0]


def moving(path: Path) -> tuple[bytes, float]:
    """A file's bytes, unzipped, and for how many seconds it had not been written to.

    Raises UserError for a cut or unreadable file.
    """
    try:
        with path.open("rb") as file:
            data = file.read()
            age = time.time() - os.fstat(file.fileno()).st_mtime
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data), age
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path} is a damaged or cut gzip file ({error}); fetch it again."
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from error


def shares(paths: Sequence[Path]) -> Iterator[tuple[Path, float]]:
    """Every file with the share of all their bytes that is read once it is."""
    sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
    whole, read = sum(sizes) or 1, 0
    for path, size in zip(paths, sizes, strict=True):
        read += size
        yield path, read / whole


def contents(target: str, *suffixes: str) -> Iterator[tuple[Path, bytes]]:
    """Every file below a target with its content, one at a time."""
    for path in files(target, *suffixes):
        yield path, content(path)


def text(path: Path, data: bytes) -> str:
    """The bytes as UTF-8, without a byte order mark. Raises UserError for a file that is not
    text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at {error.start}.") from error
