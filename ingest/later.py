"""A function at work beside the rest, of which Ctrl-C need not wait for the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """The result of a function that runs in a thread of its own, which dies with the process."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._found.append(work())
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Until it is done."""
        self._thread.join()

    def result(self) -> T:
        """What the function returned, or raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found.pop()
