"""A discrete-event loop: processes are generators that sleep or wait for a place in a pool."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

Process = Generator[Any, Any, Any]


@dataclass
class Pool:
    """`size` places; who finds none waits in line, at most `patience` seconds."""

    size: int
    patience: float = 60.0
    used: int = 0
    line: deque[int] = field(default_factory=deque)


class Loop:
    """Runs processes in the order of their time. A process yields seconds to sleep, or a pool
    to take a place in; it is sent False when its patience ran out."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = count()
        self._queue: list[tuple[float, int, Process, bool | None]] = []
        self._waiting: dict[int, Process] = {}

    def start(self, at: float, process: Process) -> None:
        heapq.heappush(self._queue, (at, next(self._number), process, None))

    def leave(self, pool: Pool) -> None:
        """Give a place back; the first in line gets it."""
        while pool.line:
            process = self._waiting.pop(pool.line.popleft(), None)
            if process is not None:
                heapq.heappush(self._queue, (self.now, next(self._number), process, True))
                return
        pool.used -= 1

    def run(self) -> None:
        while self._queue:
            self.now, number, process, got = heapq.heappop(self._queue)
            if number < 0:  # patience ran out, unless the place was had
                waiting = self._waiting.pop(-number, None)
                if waiting is not None:
                    self._step(waiting, got=False)
                continue
            self._step(process, got=got)

    def _step(self, process: Process, *, got: bool | None) -> None:
        try:
            wish = process.send(got)
        except StopIteration:
            return
        if isinstance(wish, Pool):
            self._enter(wish, process)
        else:
            heapq.heappush(self._queue, (self.now + wish, next(self._number), process, None))

    def _enter(self, pool: Pool, process: Process) -> None:
        if pool.used < pool.size:
            pool.used += 1
            heapq.heappush(self._queue, (self.now, next(self._number), process, True))
            return
        ticket = next(self._number) + 1
        self._waiting[ticket] = process
        pool.line.append(ticket)
        heapq.heappush(self._queue, (self.now + pool.patience, -ticket, process, False))
