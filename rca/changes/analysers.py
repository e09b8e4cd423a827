"""The analysers: what a diff can do, how it is seen, and which faults it can lead to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from rca.changes import choices, code, data, logic, settings, versions
from rca.changes.diff import File, parse

Find = Callable[[Sequence[File]], str | None]


class Analyser(NamedTuple):
    """`says` what a change does where `find` sees it in a diff (and gives the telling line);
    `causes` are the faults it can lead to, each with how readily (0 to 1)."""

    key: str
    says: str
    causes: Mapping[str, float]
    find: Find
    general: bool = False  # said only of files of which no other analyser says more


class Act(NamedTuple):
    """Something a change does: the analyser that saw it, and where."""

    analyser: Analyser
    shown: str

    def __str__(self) -> str:
        return f"{self.analyser.says} ({self.shown})" if self.shown else self.analyser.says


def _setting(kind: str) -> Find:
    def find(files: Sequence[File]) -> str | None:
        mine = [_commands(one) if versions.LISTS.search(one.path) else one for one in files]
        found = settings.changed(mine, kind)
        if kind == "loglevel":
            found = [one for one in found if _louder(one)]
        if kind in {"config", "network"}:  # a key that came alone is read by nobody yet
            found = [one for one in found if one.before is not None]
        return "; ".join(map(str, found[:2])) or None

    return find


def _commands(one: File) -> File:
    """Of a list of dependencies the lines that start something with options, as scripts do."""
    added, removed = (
        tuple(line for line in lines if re.search(r"\s--?[a-zA-Z]", line.text))
        for lines in (one.added, one.removed)
    )
    return replace(one, added=added, removed=removed)


def _louder(one: settings.Changed) -> bool:
    levels = [_rank(value) for value in (one.after, one.before or "info")]
    return levels[0] < levels[1]


def _rank(value: str | None) -> int:
    word = settings.worded(value or "fatal")
    return settings.LEVELS.index(word) if word in settings.LEVELS else len(settings.LEVELS)


def _config(files: Sequence[File]) -> str | None:
    return _setting("config")(files) or code.environment(files)


def _flag(files: Sequence[File]) -> str | None:
    return _setting("flag")(files) or code.switched(files)


def _network(files: Sequence[File]) -> str | None:
    return _setting("network")(files) or settings.walled(files)


def _cache(files: Sequence[File]) -> str | None:
    return _setting("cache")(files) or code.uncached(files)


def _logic(files: Sequence[File]) -> str | None:
    return code.throws(files) or logic.logic(files) or choices.others(files) or logic.emptied(files)


ANALYSERS = (
    Analyser("loop", "puts a query inside a loop", {"dependency": 1, "capacity": 1, "cpu": 0.8, "exception": 0.6, "disk": 0.5}, code.loops),
    Analyser("index", "drops an index", {"dependency": 1, "capacity": 0.9, "disk": 0.9, "cpu": 0.8, "exception": 0.6}, data.indexes),
    Analyser("timeout", "changes or removes a timeout", {"dependency": 1, "exception": 0.9, "capacity": 0.9, "config": 0.8, "network_loss": 0.6}, _setting("timeout")),
    Analyser("pool", "changes a pool's size or a limit", {"capacity": 1, "dependency": 0.9, "exception": 0.8, "config": 0.8, "memory": 0.7, "cpu": 0.6}, _setting("pool")),
    Analyser("retries", "changes retries", {"dependency": 0.9, "capacity": 0.9, "cpu": 0.8, "exception": 0.8, "external": 0.6}, _setting("retries")),
    Analyser("cache", "changes a cache or its lifetime", {"dependency": 0.9, "memory": 0.9, "cpu": 0.8, "capacity": 0.8, "wrong_return": 0.6, "disk": 0.5}, _cache),
    Analyser("resources", "changes memory, CPU or disk", {"memory": 1, "cpu": 1, "disk": 0.7, "capacity": 0.8, "dependency": 0.7, "exception": 0.6, "config": 0.6, "network_loss": 0.5}, _setting("resources")),
    Analyser("version", "changes a dependency's version", {"exception": 0.9, "dependency": 0.8, "memory": 0.8, "cpu": 0.8, "wrong_return": 0.8, "capacity": 0.6, "config": 0.6}, versions.dependencies),
    Analyser("runtime", "changes the runtime or image it runs on", {"dependency": 0.9, "memory": 0.9, "cpu": 0.9, "exception": 0.8, "capacity": 0.8, "wrong_return": 0.7, "disk": 0.6, "config": 0.6, "network_loss": 0.5}, versions.runtime),
    Analyser("schema", "changes a schema", {"exception": 1, "wrong_return": 0.8, "dependency": 0.8, "capacity": 0.7, "disk": 0.6}, data.schemas),
    Analyser("loglevel", "writes more log lines", {"disk": 1, "cpu": 0.8, "dependency": 0.7, "capacity": 0.6, "memory": 0.5}, _setting("loglevel")),
    Analyser("flag", "switches a feature", {"exception": 0.8, "wrong_return": 0.8, "dependency": 0.8, "capacity": 0.8, "cpu": 0.8, "memory": 0.8, "config": 0.8, "external": 0.6, "disk": 0.6}, _flag),
    Analyser("cert", "changes a certificate or how it is checked", {"config": 0.9, "exception": 0.9, "external": 0.8, "network_loss": 0.8, "dependency": 0.6}, _setting("cert")),
    Analyser("network", "changes who may reach it, or where", {"network_loss": 1, "network_delay": 0.8, "config": 0.7, "exception": 0.7, "dependency": 0.6, "external": 0.6}, _network),
    Analyser("config", "changes what it is configured with", {"config": 1, "exception": 0.8, "external": 0.8, "dependency": 0.7, "wrong_return": 0.7, "network_loss": 0.7, "capacity": 0.6}, _config, general=True),
    Analyser("nil", "removes a check for nothing", {"exception": 1, "wrong_return": 0.8}, code.guards),
    Analyser("handling", "no longer handles an error", {"exception": 1, "wrong_return": 0.7}, code.handling),
    Analyser("logic", "decides, computes or raises another way", {"wrong_return": 1, "exception": 0.8, "config": 0.4}, _logic, general=True),
    Analyser("work", "goes through a loop where it did not", {"cpu": 0.9, "dependency": 0.6, "capacity": 0.5, "memory": 0.4}, code.work, general=True),
    Analyser("wait", "waits or locks where it did not", {"dependency": 1, "capacity": 0.9, "cpu": 0.5}, code.waits),
    Analyser("leak", "keeps what it let go of before", {"memory": 1, "capacity": 1, "dependency": 0.6, "disk": 0.6, "network_loss": 0.5}, code.leaks),
)  # fmt: skip
# a killed pod loses its calls: what fills memory can look like loss
UNTOLD = 0.8  # how readily anything leads to a fault nobody could name


@lru_cache(maxsize=512)
def acts(diff: str | None) -> tuple[Act, ...]:
    """Everything the analysers see in a diff."""
    return tuple(_acts(diff))


def _acts(diff: str | None) -> Iterator[Act]:
    files = parse(diff or "")
    rest = files
    for one in sorted(ANALYSERS, key=lambda one: one.general) if files else ():
        shown = one.find(rest if one.general else files)
        if shown is None:
            continue
        yield Act(one, shown)
        if not one.general:
            rest = tuple(file for file in rest if one.find((file,)) is None)


def readily(act: Act, fault: str) -> float:
    """How readily what a change does leads to a fault; 0 where it cannot."""
    return UNTOLD if fault in {"unknown", "any"} else act.analyser.causes.get(fault, 0.0)
