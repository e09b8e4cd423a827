"""A lock beside the tables of a local lake: one holder of a name at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lake.errors import BusyError, UserError

_PAUSE = 0.1  # seconds between two looks


@contextmanager
def locked(root: Path, what: str, wait: float) -> Iterator[None]:
    """Hold `what` of the lake at `root`; BusyError after `wait` seconds names the holder.

    The file lies in the lake, so that all machines that share it see it; before there is a lake,
    in the system's folder for temporary files, so that asking makes none.
    """
    name = hashlib.blake2b(f"{root.resolve()}\0{what}".encode(), digest_size=10).hexdigest()
    folder = root / "_locks" if root.is_dir() else Path(tempfile.gettempdir()) / "rootlake-locks"
    handle = _opened(folder / name)
    try:
        _taken(handle, what, wait)
        os.ftruncate(handle, 0)
        os.pwrite(
            handle, f"process {os.getpid()} since {datetime.now(UTC):%H:%M:%S} UTC".encode(), 0
        )
        yield
    finally:
        os.close(handle)  # the lock goes with the handle


def _opened(file: Path) -> int:
    try:
        file.parent.mkdir(exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    except OSError as error:
        raise UserError(f"cannot make the lock {file}: {error.strerror}.") from error


def _taken(handle: int, what: str, wait: float) -> None:
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
                raise BusyError(
                    f"another {what} is running ({holder}); this one stopped and changed nothing."
                ) from None
        time.sleep(_PAUSE)
