"""What a suspect's own loud log lines say is going on, where they say it plainly."""

from __future__ import annotations

import polars as pl

from rca.suspects.logs import LOUD

LEAST = 3  # such lines in the window
SAYS = (
    ("capacity", r"(?i)pool (is )?exhausted|too many (connections|requests)|queue (is )?full|no free (connection|slot|thread|worker)"),
    ("memory", r"(?i)out of memory|\boom(killed)?\b|cannot allocate"),
    ("disk", r"(?i)no space left|disk (is )?full|read-only file system"),
    ("network_loss", r"(?i)connection (refused|reset)|no route to host|broken pipe|unreachable"),
    ("config", r"(?i)(missing|invalid|unknown) (config|setting|environment|parameter|key)|not configured"),
)  # fmt: skip


def fault(logs: pl.DataFrame, service: str) -> str | None:
    """The fault a service's WARN and ERROR lines name, three times and far more than in healthy
    time; None when they name none."""
    mine = logs.filter(pl.col("service") == service, pl.col("severity").is_in(LOUD))
    best: tuple[int, str] | None = None
    for name, words in SAYS:
        said = mine.filter(pl.col("template").str.contains(words))
        now = said.filter("bad").height
        before = said.height - now
        if now >= LEAST and now > 5 * before and (best is None or now > best[0]):
            best = (now, name)
    return best[1] if best else None
