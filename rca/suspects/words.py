"""What a suspect's own loud log lines, or its error tracker, say is going on, where they say it
plainly.

A template's intent, where `templates` has one, goes before the words below.
"""

from __future__ import annotations

import polars as pl

from rca.suspects.logs import LOUD

LEAST = 3  # such lines in the window
SAYS = (
    ("external", r"(?i)(provider|upstream|third.?party|gateway|https?://|\bapi\.)\S*.*(\b50[0-9]\b|timed? ?out|expired|unavailable|unreachable)|certificate .*expired"),
    ("capacity", r"(?i)pool (is )?exhausted|too many (connections|requests|open files)|queue (is )?full|no free (connection|slot|thread|worker)|rejected.*(executor|queue|saturat)|rate.?limit"),
    ("memory", r"(?i)out.?of.?memory|\boom(killed)?\b|cannot allocate|heap space|gc overhead|garbage collect"),
    ("disk", r"(?i)no space left|disk (is )?full|read-only file system|i/o error|(flush|fsync|write).*(slow|failed)|slow (flush|fsync|write)"),
    ("network_loss", r"(?i)no route to host|network is unreachable"),
    ("config", r"(?i)(missing|invalid|unknown|bad|no) (value for )?(config\w*|setting|environment|parameter|property|option|key)|not configured|variable .*not set|(authentication|authorization|login) failed|credentials.*(rejected|invalid|expired)|access denied|unauthorized|permission denied"),
    ("dependency", r"(?i)slow query|(method|symbol|class|module) not found|no such (method|module)|incompatible|version.*(mismatch|unsupported|conflict)|by driver|deprecated protocol"),
)  # fmt: skip
INTENTS = {  # what the intents of rca.intents tell of
    "resource_exhausted": "capacity", "rate_limited": "capacity",
    "out_of_memory": "memory", "disk_full": "disk", "data_corruption": "disk",
    "config_missing": "config", "config_invalid": "config", "auth_failure": "config",
    "permission_denied": "config", "cert_expired": "external", "dependency_version": "dependency",
}  # fmt: skip


def fault(logs: pl.DataFrame, errors: pl.DataFrame, service: str) -> str | None:
    """The fault a service's WARN and ERROR lines and its reports name, three times and far more
    than in healthy time; None when they name none."""
    mine = logs.filter(pl.col("service") == service, pl.col("severity").is_in(LOUD))
    told = errors.filter(pl.col("service") == service).select("bad", template="message")
    said = pl.concat(
        [rows.select("bad", says=_says(rows)).drop_nulls("says") for rows in (mine, told)]
    )
    told = (
        said.group_by("says")
        .agg(pl.col("bad").sum().alias("now"), (~pl.col("bad")).sum().alias("usual"))
        .filter(pl.col("now") >= LEAST, pl.col("now") > 2 * pl.col("usual"))
        .sort("now", "says", descending=[True, False])
    )
    return str(told["says"][0]) if told.height else None


def _says(lines: pl.DataFrame) -> pl.Expr:
    words = pl.coalesce(
        *(pl.when(pl.col("template").str.contains(text)).then(pl.lit(name)) for name, text in SAYS)
    )
    if "intent" not in lines.columns:
        return words
    named = pl.col("intent").replace_strict(INTENTS, default=None, return_dtype=pl.String)
    return pl.coalesce(words, named)
