"""The memory of this process and all it started, at its peak: resident sizes added up, sampled."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Peak:
    """Use as a context; `megabytes` afterwards. Pages that processes share count for each."""

    def __init__(self, every: float = 0.25) -> None:
        self.megabytes = 0.0
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.megabytes = max(self.megabytes, _tree(os.getpid()) / 1e6)
            if self._done.wait(self._every):
                return


def _tree(process: int) -> int:
    """Resident bytes of a process and its descendants."""
    folder = Path("/proc") / str(process)
    try:
        size = int((folder / "statm").read_text().split()[1]) * _PAGE
        children = [
            child
            for task in (folder / "task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, IndexError):
        return 0  # it has ended
    return size + sum(_tree(int(child)) for child in children)
