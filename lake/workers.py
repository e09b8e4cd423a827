"""One process per core for work that would else hold one: decoding, repair.

The processes run this module (`python -m lake.workers`) and are sent functions and arguments;
nothing of the caller's own program is imported or run again in them.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from lake.errors import UserError

T = TypeVar("T")
_BROKEN = (EOFError, BrokenPipeError, pickle.UnpicklingError)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Processes that compute functions; use as a context.

    `again`: a function whose process ended before its time is computed once more, by another; the
    functions must be such that this does no harm.
    """

    def __init__(self, count: int | None = None, *, again: bool = False) -> None:
        self.count = count or cores()
        self._again = again
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []
        self._threads = ThreadPoolExecutor(self.count)

    def __enter__(self) -> Workers:
        for _ in range(self.count):
            self._start()
        return self

    def _start(self) -> None:
        env = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-m", "lake.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            start_new_session=True,  # Ctrl-C is the parent's; they end with its pipe
        )
        self._all.append(process)
        self._idle.put(process)

    def __exit__(self, *_error: object) -> None:
        for process in self._all:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()

    def map(self, work: Iterable[Callable[[], T]]) -> Iterator[T]:
        """The results in order; a little ahead of what was asked for."""
        waiting: deque[Future[T]] = deque()
        for one in work:
            waiting.append(self._threads.submit(self._run, one))
            if len(waiting) > self.count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _run(self, work: Callable[[], T]) -> T:
        try:
            return self._sent(work)
        except _BROKEN as broken:
            if self._again:
                with suppress(*_BROKEN):
                    return self._sent(work)
            raise UserError(
                "a worker process ended before its time (was memory short?); what had landed"
                " stays, run it again to go on."
            ) from broken

    def _sent(self, work: Callable[[], T]) -> T:
        process = self._idle.get()
        assert process.stdin
        assert process.stdout
        try:
            pickle.dump(work, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            error, result = pickle.load(process.stdout)  # noqa: S301 - our own process
        except _BROKEN:
            process.kill()
            self._start()
            raise
        self._idle.put(process)
        if error is not None:
            raise error
        found: T = result
        return found


def serve() -> None:
    """Compute what is sent until the pipe closes."""
    gc.disable()  # decoded records hold no cycles, and are many
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is no answer
    while True:
        try:
            work: Callable[[], Any] = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the parent
        except EOFError:
            return
        try:
            answer: tuple[Exception | None, Any] = (None, work())
        except Exception as error:
            answer = (error, None)
        try:
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:
            os._exit(1)  # who asked was killed
        del work, answer


if __name__ == "__main__":
    serve()
