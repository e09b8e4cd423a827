"""Commits of a git repository (a clone, a bare one, or a bundle) into `changes`."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ingest.batch import Batch, Piece, content_id
from ingest.changes import batch
from ingest.source import Source
from ingest.window import Window
from lake import UserError

DIFF_LIMIT = 200_000  # characters of one commit's diff; what is cut is said in the text
_FORMAT = "%x1e%H%x1f%an <%ae>%x1f%cI%x1f%D%x1f%B%x1f"
_FOLDERS = {"services", "apps", "cmd", "packages", "components", "deploy", "charts"}


class Git(Source):
    """One piece: the whole history; commits that are in the lake already are left out."""

    name = "git"
    about = "changes: the commits and tags of a clone, a bare repository or a bundle"

    def read(self, window: Window) -> Iterator[Piece]:
        """The commits of the window, or all."""
        target = Path(self.given.target).expanduser()
        if not target.exists():
            raise UserError(f"there is no repository {target}.")
        log = _history(target, window)
        work = partial(decode, log)
        yield Piece("changes", "git", content_id(log.encode()), 1, work, str(target))


def _history(target: Path, window: Window) -> str:
    if target.is_dir():
        return _log(target, window)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone.git"
        _git(["clone", "--quiet", "--bare", str(target.resolve()), str(clone)], target)
        return _log(clone, window)


def _log(repository: Path, window: Window) -> str:
    command = ["-C", str(repository), "log", "--all", "--reverse", f"--format={_FORMAT}"]
    command += ["--patch", "--no-color", "--no-ext-diff", "--find-renames"]
    for option, bound in (("--since", window.since), ("--until", window.until)):
        if bound:
            command.append(f"{option}={bound.isoformat()}")
    return _git(command, repository)


def _git(words: list[str], place: Path) -> str:
    try:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, encoding="utf-8", errors="replace"
        )
    except FileNotFoundError:
        raise UserError("git is not installed; `ingest git` runs it.") from None
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{place} is not a git repository or bundle: {why}")
    return done.stdout


def decode(log: str) -> Batch:
    """The commits in the output of one `git log`, oldest first."""
    return batch([_commit(text) for text in log.split("\x1e")[1:]])


def _commit(text: str) -> dict[str, object]:
    sha, author, when, names, message, diff = text.split("\x1f", 5)
    diff = diff.strip("\n")
    touched = re.findall(r"^diff --git a/.+? b/(.+)$", diff, re.MULTILINE)
    return {
        "ts": datetime.fromisoformat(when).astimezone(UTC),
        "kind": "commit",
        "service": service_of(touched),
        "ref": sha,
        "author": author,
        "message": message.strip(),
        "files": touched,
        "diff": _limited(diff),
        "after": ", ".join(re.findall(r"tag: ([^,]+)", names)) or None,
    }


def service_of(paths: list[str]) -> str | None:
    """The one service whose folder all paths lie in: services/NAME/…, apps/NAME/… and the like."""
    parts = [path.split("/") for path in paths]
    names = {p[1] for p in parts if len(p) > 2 and p[0] in _FOLDERS}
    return names.pop() if len(names) == 1 else None


def _limited(diff: str) -> str:
    rest = len(diff) - DIFF_LIMIT
    return diff if rest <= 0 else f"{diff[:DIFF_LIMIT]}\n… {rest:,} more characters of this diff"
