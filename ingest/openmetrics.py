"""OpenMetrics text into `raw_samples`, in columns: one regular expression over all lines, labels
read once per distinct series."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ingest.batch import Batch, Place
from lake import UserError

_PAIR = r'[a-zA-Z_][a-zA-Z0-9_]*\s*=\s*"(?:[^"\\]|\\.)*"'
_LABELS = rf"\{{\s*(?:{_PAIR}\s*(?:,\s*{_PAIR}\s*)*,?\s*)?\}}"
_LINE = (
    rf"^(?<series>[a-zA-Z_:][a-zA-Z0-9_:]*(?:{_LABELS})?)[ \t]+(?<value>\S+)"
    r"(?:[ \t]+(?<time>[^\s#]\S*))?(?:[ \t]+#[ \t]*(?<exemplar>.*))?\s*$"
)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ABOUT = re.compile(r"^# (TYPE|UNIT|HELP) (\S+) ?(.*)$")
_SUFFIX = re.compile(r"_(total|bucket|count|sum|created|info|gcount|gsum)$")
_SERIES: dict[str, Any] = {
    **dict.fromkeys(("text", "metric"), pl.String),
    "series": pl.Int64,
    "labels": pl.List(pl.Struct({"key": pl.String, "value": pl.String})),
    **dict.fromkeys(("type", "unit", "help", "cluster", "namespace", "environment"), pl.String),
}


def decode(content: str, place: Place, origin: str) -> Batch:
    """The samples of one exposition.

    A line that is no sample, or has no timestamp, is refused whole. Raises UserError for a text
    without `# EOF`, which is cut or is another format.
    """
    if not content.rstrip().endswith("# EOF"):
        raise UserError(f"{origin} does not end in `# EOF`: it is cut, or not OpenMetrics text.")
    lines = pl.DataFrame({"line": [content]}).select(pl.col("line").str.split("\n").explode())
    lines = lines.filter(pl.col("line").str.strip_chars() != "")
    comment = pl.col("line").str.starts_with("#")
    about = _about(lines.filter(comment)["line"].to_list())
    read = _read(lines.filter(~comment))
    good = pl.col("reason").is_null()
    series = _series(read.filter(good)["text"].unique(maintain_order=True).to_list(), about, place)
    samples = read.filter(good).join(series, on="text", how="left", maintain_order="left")
    return Batch(
        samples.select("ts", "metric", "series", "value", "cluster", "namespace", "environment"),
        read.height,
        read.filter(~good).select("reason", raw_row="line"),
        series_rows(samples, series),
        _exemplars(samples),
    )


def _read(lines: pl.DataFrame) -> pl.DataFrame:
    """Every sample line with its parts, or the reason why it is none."""
    parts = lines.with_columns(pl.col("line").str.extract_groups(_LINE).alias("part")).unnest(
        "part"
    )
    return parts.with_columns(
        value=_number("value"), ts=_moment(pl.col("time").cast(pl.Float64, strict=False))
    ).select(
        "line",
        "exemplar",
        "value",
        "ts",
        pl.col("series").alias("text"),
        pl.when(pl.col("series").is_null())
        .then(pl.lit("not a sample line"))
        .when(pl.col("value").is_null())
        .then(pl.lit("the value is no number"))
        .when(pl.col("ts").is_null())
        .then(pl.lit("no timestamp"))
        .alias("reason"),
    )


def _number(column: str) -> pl.Expr:
    """A value as text, with OpenMetrics' spellings of what is no ordinary number."""
    low = pl.col(column).str.to_lowercase().str.strip_prefix("+")
    return low.replace({"nan": "NaN", "infinity": "inf", "-infinity": "-inf"}).cast(
        pl.Float64, strict=False
    )


def _moment(seconds: pl.Expr) -> pl.Expr:
    """Seconds since 1970 as a timestamp; null beyond what a timestamp holds."""
    sane = pl.when(seconds.abs() < 9e12).then(seconds)
    return (sane * 1e6).round().cast(pl.Int64, strict=False).cast(pl.Datetime("us", "UTC"))


def _about(comments: Sequence[str]) -> dict[str, dict[str, str]]:
    """type, unit and help of each metric family."""
    found: dict[str, dict[str, str]] = {"TYPE": {}, "UNIT": {}, "HELP": {}}
    for line in comments:
        match = _ABOUT.match(line)
        if match:
            found[match[1]][match[2]] = match[3].rstrip("\r")
    return found


def labels_of(text: str) -> dict[str, str]:
    """The labels in a series' text, escapes undone."""
    return {
        name: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value)
        for name, value in _LABEL.findall(text)
    }


def fingerprint(metric: str, labels: Mapping[str, str]) -> int:
    """A series' name: the same in every process, for the same metric and labels."""
    text = metric + "".join(f"\0{key}\0{labels[key]}" for key in sorted(labels))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def describe(
    metric: str, labels: Mapping[str, str], about: Mapping[str, Mapping[str, str]], place: Place
) -> dict[str, object]:
    """One series as a row of `series` with the place its samples get."""
    family = metric if metric in about["TYPE"] else _SUFFIX.sub("", metric)
    return {
        "metric": metric,
        "series": fingerprint(metric, labels),
        "labels": [{"key": key, "value": labels[key]} for key in sorted(labels)],
        "type": about["TYPE"].get(family),
        "unit": about["UNIT"].get(family),
        "help": about["HELP"].get(family),
        "cluster": labels.get("cluster", place.cluster),
        "namespace": labels.get("namespace", place.namespace),
        "environment": labels.get("environment", place.environment),
    }


def _series(
    texts: Sequence[str], about: Mapping[str, Mapping[str, str]], place: Place
) -> pl.DataFrame:
    rows = [
        {"text": text, **describe(text.split("{", 1)[0], labels_of(text), about, place)}
        for text in texts
    ]
    return pl.DataFrame(rows, schema=_SERIES)


def series_rows(samples: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """The `series` table's rows: each with the first and last time it was seen."""
    seen = samples.group_by("series", maintain_order=True).agg(
        first_seen=pl.col("ts").min(), last_seen=pl.col("ts").max()
    )
    known = series.select("metric", "series", "labels", "type", "unit", "help")
    labels = pl.col("labels").cast(pl.Map(pl.String, pl.String))
    rows = known.unique("series", maintain_order=True)
    return rows.join(seen, on="series", maintain_order="left").with_columns(labels)


def _exemplars(samples: pl.DataFrame) -> pl.DataFrame | None:
    """Exemplars of the samples that have one, as rows of `exemplars` without their day."""
    found = samples.filter(pl.col("exemplar").is_not_null())
    if not found.height:
        return None
    after = pl.col("exemplar").str.extract_groups(r"\}\s*(?<number>\S+)(?:\s+(?<at>\S+))?")
    own = _moment(after.struct.field("at").cast(pl.Float64, strict=False))
    return found.select(
        own.fill_null(pl.col("ts")).alias("ts"),
        "metric",
        "series",
        after.struct.field("number").cast(pl.Float64, strict=False).alias("value"),
        pl.col("exemplar").str.extract(r'(?i)trace_?id="([^"]*)"').alias("trace_id"),
        pl.col("exemplar").str.extract(r'(?i)span_?id="([^"]*)"').alias("span_id"),
        "cluster",
        "namespace",
        "environment",
    )
