"""Commits of a git repository (a clone, a bare one, or a bundle) into `changes`."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import polars as pl

from ingest.batch import Batch, Piece, content_id
from ingest.changes import batch
from ingest.source import Source
from ingest.window import Window
from lake import UserError

COMMITS = 500  # of one piece
DIFF_LIMIT = 200_000  # characters of one commit's diff; what is cut is said in the text
_FORMAT = "%x1e%H%x1f%an <%ae>%x1f%cI%x1f%D%x1f%B%x1f"
_FOLDERS = {"services", "apps", "cmd", "packages", "components", "deploy", "charts"}


class Git(Source):
    """Pieces of some hundred commits; those that are in the lake already are not read again."""

    name = "git"
    about = "changes: the commits and tags of a clone, a bare repository or a bundle"
    windowed = True

    def read(self, window: Window) -> Iterator[Piece]:
        """The new commits of the window, or all, oldest first."""
        target = Path(self.given.target).expanduser()
        if not target.exists():
            raise UserError(f"there is no repository {target}.")
        with _repository(target) as repository:
            new = _new(repository, window)
            for start in range(0, len(new), COMMITS):
                some = new[start : start + COMMITS]
                work = partial(_read, repository, some, target)
                name = content_id("\n".join(some).encode())
                share = (start + len(some)) / len(new)
                yield Piece("changes", "git", name, 1, work, str(target), share=share)


@contextmanager
def _repository(target: Path) -> Iterator[Path]:
    """The repository itself; of a bundle a clone, for as long as it is read."""
    if target.is_dir():
        yield target
        return
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone.git"
        _git(["clone", "--quiet", "--bare", str(target.resolve()), str(clone)], target)
        yield clone


def _new(repository: Path, window: Window) -> list[str]:
    """The window's commits that `changes` does not hold, oldest first. Commits are told by their
    ids: one that was pushed late has an old date."""
    command = ["-C", str(repository), "rev-list", "--all", "--reverse"]
    for option, bound in (("--since", window.since), ("--until", window.until)):
        if bound:
            command.append(f"{option}={bound.isoformat()}")
    found = pl.Series("ref", _git(command, repository).split(), pl.String)
    if not window.lake.exists():
        return found.to_list()
    rows = window.lake.scan("changes").filter(pl.col("kind") == "commit")
    known = rows.select("ref").collect()["ref"]
    return found.filter(~found.is_in(known.implode())).to_list()


def _read(repository: Path, commits: Sequence[str], target: Path) -> Batch:
    command = ["-C", str(repository), "log", "--no-walk=unsorted", f"--format={_FORMAT}", "--stdin"]
    command += ["--patch", "--no-color", "--no-ext-diff", "--find-renames"]
    return decode(_git(command, target, "\n".join(commits)))


def _git(words: list[str], place: Path, text: str = "") -> str:
    try:
        done = subprocess.run(
            ["git", *words],
            capture_output=True,
            text=True,
            input=text,
            encoding="utf-8",
            errors="replace",
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
