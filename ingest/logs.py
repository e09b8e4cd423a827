"""Logs of files: a Kubernetes node's `pods/` tree, or JSON lines.

A file that grows is gone on with where it was left, also after it was rotated or zipped: it is
known by its first line and by what it held up to there, which is checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from pydantic import Field

from ingest import files
from ingest.batch import Piece, content_id
from ingest.log_lines import decode_container, decode_lines, pod_of, whole_lines
from ingest.source import Options, Source
from ingest.window import Window
from lake import UserError

Position = Callable[[str], int]
STALE = 3600.0  # seconds after which a file's last, unfinished line is taken as it is


class LogOptions(Options):
    """Options of `logs`."""

    mapping: dict[str, str] = Field(
        default_factory=dict,
        description="for JSON lines: which field fills a column",
        examples=[{"ts": "timestamp", "body": "msg"}],
    )


class Logs(Source):
    """One piece per file that has grown."""

    name = "logs"
    about = "logs: a Kubernetes pods/ tree, or JSON lines"
    options = LogOptions

    def read(self, window: Window) -> Iterator[Piece]:
        """The new lines of every file; below NAMESPACE_POD_UID/CONTAINER/ a container's log.

        A file that was rotated away meanwhile is met again under its new name. One that cannot be
        read keeps no other from being read.
        """
        found = files.files(self.given.target, ".log", ".jsonl", ".ndjson", ".json")
        errors, ahead = list[UserError](), dict[str, int]()
        for path, share in files.shares(found):
            try:
                piece = self._new(path, partial(_position, window, ahead))
            except UserError as error:
                if path.exists():
                    errors.append(error)
                continue
            if piece:
                ahead |= {piece.app: piece.number, **piece.marks}
                yield dataclasses.replace(piece, share=share)
        if errors:
            more = f" (and {len(errors) - 1} other files)" if len(errors) > 1 else ""
            raise UserError(f"{errors[0]}{more} All other files were read.")

    def _new(self, path: Path, position: Position) -> Piece | None:
        pod = pod_of(path)
        content, age = files.moving(path)
        end = len(content) if path.suffix == ".gz" or age >= STALE else whole_lines(content)
        if not end:
            return None
        name, start = _known(position, content, *(pod or ()))
        if start >= end:
            return None
        text = content[max(start, 0) : end].decode("utf-8-sig", errors="backslashreplace")
        place, origin = self.given.place, str(path)
        if pod:
            work = partial(decode_container, text, pod, place, path.name)
        else:
            alone = start < 0 and Path(self.given.target).expanduser() == path
            work = partial(decode_lines, text, self.given.mapping, place, origin if alone else None)
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


def _position(window: Window, ahead: Mapping[str, int], app: str) -> int:
    """Where the lake stands, or will when the pieces read before have landed."""
    return ahead[app] if app in ahead else window.position("raw_logs", app)


def _known(position: Position, content: bytes, *pod: str) -> tuple[str, int]:
    """The stream a file's content goes on, and up to which byte it is in the lake (-1: nothing).

    Files that begin alike are told apart by what they held when they were read last.
    """
    first = content_id(content.split(b"\n", 1)[0].rstrip(b"\r"), *pod)
    for place in range(1_000_000):
        name = f"{first}-{place}" if place else first
        offset = position(f"logs/{name}")
        if offset < 0:
            break
        held = position(f"logs/{name}/held")
        if offset <= len(content) and _held(content[:offset]) == held:
            return name, offset
    return name, -1


def _held(content: bytes) -> int:
    """A number for what a file held."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1
