"""What of a log line is a value: times, addresses, ids, numbers, paths, quoted names, fields.

One regular expression finds every value from left to right, so that a shape and the values taken
out of it make up the line again.
"""

from __future__ import annotations

import re

import polars as pl

HOLE = re.compile(r"<\*>|<word>")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CLOCK = r"\d{1,2}:\d\d:\d\d(?:[.,:]\d+)?"
_ZONE = r"(?: ?(?:Z|UTC|GMT|[A-Z]{3,4}T|[+-]\d\d:?\d\d)(?-u:\b))?"
_WORD = r"[^\s,;:()\[\]{}\x22'<>=|&\x02]"
LONGEST = 2_000  # characters of a line that are looked at
# signs put in for a while: a field's value begins; the line was cut off; between values; what a
# quote holds is no value
_FIELD, CUT, _BETWEEN, _KEEP = "\x01", "\x02", "\x03", "\x04"
SIGNS = r"[\x01\x02\x03\x04]"

VALUES = (
    r"<\*>|<word>",  # said literally
    rf"(?-u:\b)(?:19|20)\d\d[-/]\d\d[-/]\d\d[T ,]{{0,2}}{_CLOCK}{_ZONE}|(?-u:\b)(?:19|20)\d\d[-/]\d\d[-/]\d\d(?-u:\b)",
    rf"(?-u:\b)\d\d[/-]{_MONTH}[/-]\d{{4}}[: ]{_CLOCK}{_ZONE}",
    rf"(?-u:\b){_DAY},? (?:{_MONTH} +\d{{1,2}}|\d{{1,2}} {_MONTH} \d{{4}}) {_CLOCK}{_ZONE}(?: \d{{4}})?",
    rf"(?-u:\b){_MONTH} +\d{{1,2}} {_CLOCK}",
    rf"(?-u:\b){_CLOCK}{_ZONE}",
    r"(?-u:\b)(?:GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS) /[^\s\x22',;]*(?: HTTP/[0-9.]+)?",
    r"(?-u:\b)[A-Za-z][A-Za-z0-9+]*://[^\s\x22'<>,;()\[\]{}]+",
    r"(?-u:\b)[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    r"\x22[^\x22\s\x04]*\x22|\x22Mozilla/[^\x22]*\x22|'[^'\s]+'|`[^`\s]+`",
    r"(?-u:\B)/[A-Za-z0-9_.@%+~*-][A-Za-z0-9_.@%+~:*=-]*(?:/[A-Za-z0-9_.@%+~:*?&={}-]*)*",
    r"(?-u:\B)/(?:[A-Za-z0-9_.-]+/)+",
    r"(?-u:\b)(?:sha|SHA)(?:1|256|512):[A-Za-z0-9+/=_-]+",
    r"(?-u:\b)[A-Za-z]:\\[^\s\x22',;]+",
    rf"(?-u:\w*)[({{][^(){{}}={CUT}]*=[^{CUT}]*{CUT}",  # a printed object, cut off
    r"(?-u:\w*)\([^()=\s]*=(?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)",  # printed objects
    r"(?-u:\w*)\{[^{}=]*=[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}",
    r"\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}",
    r"\[[^\[\]=]*=[^\[\]]*\]",
    r"\[[^\[\]\s,]+(?:, ?[^\[\]\s,]+)+\]",  # lists
    r"(?-u:\b)(?:[A-Za-z0-9-]+\.)+(?:com|net|org|local|internal|example)(?::\d+)?(?-u:\b)",
    r"(?-u:\b)\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?-u:\b)",
    r"(?-u:\b)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){3,7}(?-u:\b)",
    r"(?:(?-u:\B)[-+])?(?-u:\b)(?:[A-Za-z_]+[-.+/])*(?-u:\w*\d\w*)(?:[-.+/]+(?-u:\w+))*[+/%]?",
)
SPEAKING = ("level", "lvl", "severity", "msg", "message", "event", "err", "error", "reason", "status", "state", "cause")  # fmt: skip
_SPEAKS = rf"(?-u:\b)({'|'.join(SPEAKING)})={_FIELD}(\x22?)"


def expression(*, cut: bool = True) -> str:
    """What finds a value; without `cut`, in lines that were not cut off. Digits and spaces are
    ASCII's alone, so that bytes tell them (`quality.automaton`)."""
    value = "|".join(one for one in VALUES if cut or CUT not in one)
    # a list of values is one value; of a field (its = is followed by _FIELD) the name stays
    found = rf"{_FIELD}(?:\x22[^\x22]*\x22|{_WORD}+)|(?:{value})(?:, ?(?:{value}))*"
    return found.replace(r"\d", "[0-9]").replace(r"\s", r"\t\n\x0b\x0c\r ")


_ANY = expression()


def read(text: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """`shape`: the text of a column with every value replaced by `<*>`; and the `values`."""
    cut = pl.col(column).str.len_bytes() < LONGEST
    whole = pl.when(cut).then(column).otherwise(pl.col(column) + CUT)
    marked = whole.str.replace_all("=", f"={_FIELD}", literal=True)
    found = pl.col("_marked").str.extract_all(_ANY)
    joined = found.list.join(_BETWEEN).str.replace_all(f"[{_FIELD}{CUT}{_KEEP}]", "")
    none = pl.lit([], pl.List(pl.String))
    return (
        text.with_columns(_marked=marked.str.replace_all(_SPEAKS, f"${{1}}=${{2}}{_KEEP}"))
        .with_columns(
            shape=pl.col("_marked").str.replace_all(_ANY, "<*>").str.replace_all(SIGNS, ""),
            _values=joined,
        )
        .with_columns(
            values=pl.when(pl.col("shape").str.contains("<*>", literal=True))
            .then(pl.col("_values").str.split(_BETWEEN))
            .otherwise(none)
        )
        .drop("_marked", "_values")
    )
