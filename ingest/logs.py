"""Logs of files: a Kubernetes node's `pods/` tree, or JSON lines.

A file that grows is gone on with where it was left, also after it was rotated or zipped: it is
known by its first line and by what it held up to there, which is checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pydantic import Field

from ingest import files
from ingest.batch import Piece, content_id
from ingest.log_lines import decode_container, decode_lines, ends_whole, pod_of
from ingest.source import Options, Source
from ingest.window import Window

SETTLED = 5.0  # seconds after which a file's last, unfinished line is taken as it is


class LogOptions(Options):
    """Options of `logs`."""

    mapping: dict[str, str] = Field(
        default_factory=dict, description="for JSON lines: which field fills a column"
    )


class Logs(Source):
    """One piece per file that has grown."""

    name = "logs"
    about = "logs: a Kubernetes pods/ tree, or JSON lines"
    options = LogOptions

    def read(self, window: Window) -> Iterator[Piece]:
        """The new lines of every file; below NAMESPACE_POD_UID/CONTAINER/ a container's log."""
        found = files.files(self.given.target, ".log", ".jsonl", ".ndjson", ".json")
        for path, share in files.shares(found):
            content = files.content(path)
            piece = self._new(path, content, window)
            if piece:
                yield dataclasses.replace(piece, share=share)

    def _new(self, path: Path, content: bytes, window: Window) -> Piece | None:
        pod = pod_of(path)
        end = _whole_lines(path, content)
        name, start = _known(window, content, *(pod or ()))
        if start >= end and start >= 0:
            return None
        text = files.text(path, content[max(start, 0) : end])
        place, origin = self.given.place, str(path)
        if pod:
            work = partial(decode_container, text, pod, place, path.name)
        else:
            work = partial(decode_lines, text, self.given.mapping, place, origin)
        return Piece(
            "raw_logs",
            "logs",
            name,
            end,
            work,
            origin,
            stream=name,
            after=start,
            again=False,
            marks={f"logs/{name}/held": _held(content[:end])},
        )


def _known(window: Window, content: bytes, *pod: str) -> tuple[str, int]:
    """The stream a file's content goes on, and up to which byte it is in the lake (-1: nothing).

    Files that begin alike are told apart by what they held when they were read last.
    """
    first = content_id(content.split(b"\n", 1)[0], *pod)
    for place in range(1_000_000):
        name = f"{first}-{place}" if place else first
        offset = window.position("raw_logs", f"logs/{name}")
        if offset < 0:
            break
        held = window.position("raw_logs", f"logs/{name}/held")
        if offset <= len(content) and _held(content[:offset]) == held:
            return name, offset
    return name, -1


def _held(content: bytes) -> int:
    """A number for what a file held."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def _whole_lines(path: Path, content: bytes) -> int:
    """Up to where a file may be read: all of it, unless its last line is still being written."""
    moving = path.suffix != ".gz" and time.time() - path.stat().st_mtime < SETTLED
    if not moving:
        return len(content)
    end = len(content)
    while end:
        begin = content.rfind(b"\n", 0, end - 1) + 1
        if ends_whole(content[begin:end]):
            return end
        end = begin
    return len(content)
