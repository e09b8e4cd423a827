"""Lakes of an older rootlake brought up to date: small steps in order, shown before they run.

A table keeps its format in its configuration; a step is done once every table carries its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lake.schemas import TABLES
from lake.store import Lake
from lake.tables import FORMAT_KEY


@dataclass(frozen=True)
class Step:
    """From format `target - 1` to `target`; `apply` may be run again after it was interrupted."""

    target: int
    about: str
    apply: Callable[[Lake], None]


STEPS: tuple[Step, ...] = ()  # format 1 is the first; a step is added with every new one


def pending(lake: Lake, steps: Sequence[Step] = STEPS) -> list[Step]:
    """The steps a lake still needs, in order; none where there is no lake."""
    if not lake.exists():
        return []
    oldest = min(_format(lake, name) for name in TABLES)
    return [step for step in sorted(steps, key=lambda one: one.target) if step.target > oldest]


def migrate(lake: Lake, steps: Sequence[Step] = STEPS) -> list[Step]:
    """Do what is pending, each step marked when it is done; the steps done."""
    done = pending(lake, steps)
    for step in done:
        step.apply(lake)
        for name in TABLES:
            if _format(lake, name) < step.target:
                lake.open(name).alter.set_table_properties(
                    {FORMAT_KEY: str(step.target)}, raise_if_not_exists=False
                )
    return done


def _format(lake: Lake, name: str) -> int:
    return int(lake.open(name).metadata().configuration.get(FORMAT_KEY, "1"))
