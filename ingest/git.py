"""Commits of a git repository (a clone, a bare one, or a bundle) into `changes`."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ingest.batch import Batch, Piece, Request, content_id
from ingest.changes import batch
from lake import Lake, UserError

DIFF_LIMIT = 200_000  # characters of one commit's diff; what is cut is said in the text
_FORMAT = "%x1e%H%x1f%an <%ae>%x1f%cI%x1f%D%x1f%B%x1f"
_FOLDERS = {"services", "apps", "cmd", "packages", "components", "deploy", "charts"}


def pieces(request: Request, _lake: Lake) -> Iterator[Piece]:
    """One piece: the whole history; commits that are in the lake already are left out."""
    target = Path(request.target).expanduser()
    if not target.exists():
        raise UserError(f"there is no repository {target}.")
    log = _history(target, request)
    work = partial(decode, log)
    yield Piece("changes", "git", content_id(log.encode()), 1, work, str(target))


def _history(target: Path, request: Request) -> str:
    if target.is_dir():
        return _log(target, request)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone.git"
        _git(["clone", "--quiet", "--bare", str(target.resolve()), str(clone)], target)
        return _log(clone, request)


def _log(repository: Path, request: Request) -> str:
    command = ["-C", str(repository), "log", "--all", "--reverse", f"--format={_FORMAT}"]
    command += ["--patch", "--no-color", "--no-ext-diff", "--find-renames"]
    for option, bound in (("--since", request.since), ("--until", request.until)):
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
