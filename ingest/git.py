"""Commits of a git repository (a clone, a bare one, or a bundle) into `changes`."""

from __future__ import annotations

import re
import secrets
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
_PLAIN = ("log.showSignature=false", "diff.noprefix=false", "diff.mnemonicPrefix=false")
_FILE = re.compile(r'^diff --git (?:a/(.+) b/\1|(?:a/|"a/).+? (?:b/(.+)|"b/(.+)"))$', re.MULTILINE)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
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
    mark = secrets.token_hex(16)  # what no message and no diff can hold
    form = mark + "%H{0}%an <%ae>{0}%cI{0}%D{0}%B{0}".format(f"%x00{mark}")
    command = [word for one in _PLAIN for word in ("-c", one)]
    command += ["-C", str(repository), "log", "--no-walk=unsorted", f"--format={form}", "--stdin"]
    command += ["--patch", "--no-color", "--no-ext-diff", "--no-textconv", "--find-renames"]
    return decode(_git(command, target, "\n".join(commits)), mark)


def _git(words: list[str], place: Path, text: str = "") -> str:
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *words],
            capture_output=True,
            input=text.encode(),
        )
    except FileNotFoundError:
        raise UserError("git is not installed; `ingest git` runs it.") from None
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()
        why = (told.splitlines() or ["no reason given"])[-1]
        raise UserError(f"{place} is not a git repository or bundle: {why}")
    return done.stdout.decode(errors="replace")


def decode(log: str, mark: str) -> Batch:
    """The commits in the output of one `git log`, in its order; `mark` tells its fields apart."""
    fields = log.split(f"\0{mark}")
    found = [
        (
            fields[at].rpartition(mark)[2],
            *fields[at + 1 : at + 5],
            fields[at + 5].partition(mark)[0],
        )
        for at in range(0, len(fields) - 1, 5)
    ]
    return batch([_commit(one) for one in found])


def _commit(fields: Sequence[str]) -> dict[str, object]:
    sha, author, when, names, message, diff = fields
    diff = diff.strip("\n")
    touched = [_path(*one.groups()) for one in _FILE.finditer(diff)]
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


def _path(same: str | None, new: str | None, quoted: str | None) -> str:
    """A path as it is called; git quotes those with quotes and line breaks in them."""
    return same or new or re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), quoted or "")


def service_of(paths: list[str]) -> str | None:
    """The one service whose folder all paths lie in: services/NAME/…, apps/NAME/… and the like."""
    parts = [path.split("/") for path in paths]
    names = {p[1] for p in parts if len(p) > 2 and p[0] in _FOLDERS}
    return names.pop() if len(names) == 1 else None


def _limited(diff: str) -> str:
    rest = len(diff) - DIFF_LIMIT
    return diff if rest <= 0 else f"{diff[:DIFF_LIMIT]}\n… {rest:,} more characters of this diff"
