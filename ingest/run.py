"""One pull of one source into the lake."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from ingest.land import Landed, land
from ingest.source import Source, made, without_credentials
from ingest.window import Window
from lake import Lake, UsageError

Progress = Callable[[Landed, str], None]
QUEUE = 3600.0  # seconds to wait for other pulls of the same server


def ingest(
    lake: Lake,
    source: str,
    target: str | os.PathLike[str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Landed:
    """Pull what a source holds at `target`; what landed before is left out.

    Raises UserError for a source there is none of, for options that do not fit, and for input
    that cannot be read.
    """
    ready = made(source, {"target": os.fspath(target), **options})
    return pull(lake, ready, since=since, until=until, progress=progress)


def pull(
    lake: Lake,
    source: Source,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress | None = None,
    wait: float = 0.0,
    now: datetime | None = None,
) -> Landed:
    """Pull a source that is set up.

    The lake is made when the first piece of input has been read, so a wrong path leaves none. One
    pull of a source at a time: a second one waits up to `wait` seconds, then raises UserError.
    `now` is the moment it is taken to be (default: it is asked).
    Other selections of the same server take their turn: a server is asked by one pull at a time.
    """
    if (since or until) and not source.windowed:
        raise UsageError(
            f"{source.name} reads {without_credentials(source.given.target)} whole: --since and"
            " --until are for servers and repositories."
        )
    if lake.exists():
        lake.require()
    with ExitStack() as held:
        held.enter_context(lake.lock(f"ingest of {source.called}", wait=wait))
        if source.server:
            held.enter_context(lake.lock(f"ingest from {source.server}", wait=max(wait, QUEUE)))
        elsewhere = lake.folder is not None and not lake.folder.is_dir()
        found = iter(source.read(Window(lake, since, until, now or datetime.now(UTC))))
        first = next(found, None)
        if first is None:
            return Landed()
        if not lake.exists():
            batch = first.read()
            first = dataclasses.replace(first, read=lambda: batch)
        lake.create()
        if elsewhere:  # where the lock lay until here; now it lies in the lake
            held.enter_context(lake.lock(f"ingest of {source.called}", wait=wait))
        return land(lake, chain([first], found), progress, source.given.mask)
