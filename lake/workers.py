"""One process per core for work that would else hold one: decoding, repair.

The processes run this module (`python -m lake.workers`) and are sent functions and arguments;
nothing of the caller's own program is imported or run again in them. They are kept for a while when
their work is done: to start one and to import what it needs takes it half a second.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from lake.errors import UserError

T = TypeVar("T")
MUCH = 900 << 20  # bytes of memory beyond which a process gives back what is free in it
Process = subprocess.Popen[bytes]
KEPT = 30.0  # seconds that idle processes wait for more work
_MEMORY = {  # what one step frees the next one takes: to have fresh pages made costs a fifth of all
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4000000000"
    ":glibc.malloc.trim_threshold=4000000000:glibc.malloc.top_pad=67108864",
}
_BROKEN = (EOFError, BrokenPipeError, pickle.UnpicklingError)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Spare:
    """Idle processes that wait for the next work, and end where none comes."""

    def __init__(self) -> None:
        self._held: list[tuple[object, Process]] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def take(self) -> Process | None:
        """A process that was started as one would be now."""
        with self._lock:
            while self._held:
                started, process = self._held.pop()
                if started == _surroundings() and process.poll() is None:
                    return process
                _end(process)
        return None

    def keep(self, processes: Iterable[Process]) -> None:
        """Have processes wait, one per core at most."""
        with self._lock:
            self._held += [(_surroundings(), process) for process in processes]
            while len(self._held) > cores():
                _end(self._held.pop(0)[1])
            if self._timer:
                self._timer.cancel()
            self._timer = threading.Timer(KEPT, self.clear)
            self._timer.daemon = True
            self._timer.start()

    def clear(self) -> None:
        """End them."""
        with self._lock:
            while self._held:
                _end(self._held.pop()[1])


_spare = _Spare()


def _surroundings() -> object:
    """What a process takes over from this one when it starts."""
    return Path.cwd(), dict(os.environ), list(sys.path)


def _started(modules: Sequence[str] = ()) -> Process:
    env = {**_MEMORY, **os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "lake.workers", *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
        start_new_session=True,  # Ctrl-C is the parent's; they end with its pipe
    )


def _end(process: Process) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def ready(*modules: str) -> None:
    """Start the processes of the next `Workers` now, beside what is to be done before; they import
    some modules meanwhile."""
    have = [process for _ in range(cores()) if (process := _spare.take())]
    _spare.keep([*have, *(_started(modules) for _ in range(cores() - len(have)))])


@atexit.register
def release() -> None:
    """End the processes that wait for more work."""
    _spare.clear()


class Workers:
    """Processes that compute functions; use as a context.

    `again`: a function whose process ended before its time is computed once more, by another; the
    functions must be such that this does no harm.
    """

    def __init__(self, count: int | None = None, *, again: bool = False) -> None:
        self.count = count or cores()
        self._again = again
        self._idle: queue.SimpleQueue[Process] = queue.SimpleQueue()
        self._all: list[Process] = []
        self._threads = ThreadPoolExecutor(self.count)

    def __enter__(self) -> Workers:
        for _ in range(self.count):
            self._start(_spare.take())
        return self

    def _start(self, process: Process | None = None) -> None:
        process = process or _started()
        self._all.append(process)
        self._idle.put(process)

    def __exit__(self, *_error: object) -> None:
        self._again = False
        idle = list[Process]()
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for process in self._all:
            if process not in idle:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            if process not in idle:
                _end(process)
        _spare.keep(idle)

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
    for name in sys.argv[1:]:
        with suppress(ImportError):  # not installed: who needs it says so
            import_module(name)
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
        _give_back()


def _give_back() -> None:
    with suppress(OSError, AttributeError):  # of Linux and glibc
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        if pages * os.sysconf("SC_PAGE_SIZE") > MUCH:
            ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    serve()
