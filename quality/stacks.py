"""What stack traces of Java, Python, Go, Node, .NET and Ruby look like: which lines go on from the
one before, and what of a whole trace is kept: exception type and the frame it came from."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

_FRAME = r"^(?:\s+at \S|\s+File \x22[^\x22]+\x22, line \d+|\s+from \S+:\d+:in |\t\S+\.go:\d+)"
_MORE = (
    r"^(?:\s+\.\.\. \d+ (?:more|common frames)|Caused by: |\s+Suppressed: |\s+---> |"
    r"\s*--- End of |created by \S+|\[signal )"
)
_CHAINED = r"^(?:During handling of the above|The above exception was the direct cause)"
_TRACEBACK = r"^Traceback \(most recent call last\):"
_ROUTINE = r"^goroutine \d+ \["
_CALL = r"^[\w./*()-]+\(.*\)$"
_RUBY = r"^\S+\.rb:\d+:in ['`].*'$"
_ERROR = (
    r"^(?:[A-Za-z_$][\w$]*\.)*[A-Z][\w$]*(?:Exception|Error|Exit|Interrupt|Warning)(?:: |:?$| \()"
)
_WORRIED = r"(?i)\b(?:error|exception|critical|fatal|severe|panic|warn(?:ing)?)\b"
MAY_GO_ON = f"{_FRAME}|{_MORE}|{_TRACEBACK}|{_ROUTINE}|{_RUBY}"


def going_on(lines: pl.DataFrame, stream: Sequence[str]) -> pl.DataFrame:
    """`lines` (in order; body, near) with `goes_on`: this line is of the trace the one before it
    is of. A line that only may be is left alone."""
    body = pl.col("body")

    def before(expression: pl.Expr, by: int = 1) -> pl.Expr:
        return expression.shift(by).over(stream).fill_null(value=False)

    kinds = {
        "frame": _FRAME, "more": _MORE, "chained": _CHAINED, "traceback": _TRACEBACK,
        "routine": _ROUTINE, "call": _CALL, "ruby": _RUBY, "error": _ERROR, "worried": _WORRIED,
        "indented": r"^\s+\S", "blank": r"^\s*$", "python": r'^\s+File "', "go": r"^\t\S+\.go:\d+",
    }  # fmt: skip
    told = lines.with_columns(
        body.str.contains(pattern).fill_null(value=False).alias(f"is_{kind}")
        for kind, pattern in kinds.items()
    )
    is_ = {kind: pl.col(f"is_{kind}") for kind in kinds}
    flat = ~is_["indented"] & ~is_["blank"]
    opened = pl.when(flat).then(is_["traceback"]).forward_fill().shift(1).over(stream)
    opened = opened.fill_null(value=False)  # the last line at the margin began a Python trace
    trace = is_["frame"] | is_["more"]
    after_blank = before(is_["blank"])
    starts = is_["traceback"] | (is_["error"] & before(trace, -1) & ~opened)
    goes_on = (
        ((trace | (opened & is_["indented"])) & ~after_blank)
        | (opened & flat & before(is_["indented"]) & body.str.contains(r"^[A-Za-z_][\w.]*(?::|$)"))
        | (starts & before(is_["worried"] & ~is_["traceback"] & ~is_["error"]))
        | is_["chained"]
        | (is_["traceback"] & after_blank & before(is_["chained"], 2))
        | (is_["traceback"] & before(is_["chained"]))
        | (is_["blank"] & (before(is_["chained"]) | before(is_["chained"] | is_["routine"], -1)))
        | (is_["routine"] & (after_blank | before(body.str.contains("^(?:panic: |\\[signal )"))))
        | (is_["call"] & before(is_["go"], -1))
        | (is_["ruby"] & (before(is_["ruby"]) | before(is_["error"])))
    )
    return told.with_columns(goes_on=goes_on & pl.col("near")).drop(pl.selectors.starts_with("is_"))


_TYPE = r"((?:[A-Za-z_$][\w$]*(?:\.|::))*[A-Z][\w$]*(?:Exception|Error|Exit|Interrupt|Throwable))"
_NAMED = (
    rf"(?m)^{_TYPE}\b",  # at the margin
    rf"(?m)\({_TYPE}\)$",  # Ruby: message (Type)
    rf"{_TYPE}\b",
)
_PLACES = (  # function, file, line; at most one of a kind of trace fits
    r"(?m)^\s+at (?:async )?(?P<f>[^\s(]+)\((?P<p>[\w$]+\.(?:java|kt|scala|groovy)):(?P<l>\d+)\)",
    r"(?m)^\s+at (?P<f>.+) in (?P<p>\S.*):line (?P<l>\d+)\s*$",
    r"(?m)^\s+at (?:async )?(?:(?P<f>[^\n(]+?) \()?(?P<p>[^\s()]+):(?P<l>\d+):\d+\)?$",
    r"(?m)^\s+File \x22(?P<p>[^\x22]+)\x22, line (?P<l>\d+), in (?P<f>\S+)",
    r"(?m)^(?P<f>[\w./*()-]+)\(.*\)\n\t(?P<p>\S+\.go):(?P<l>\d+)",
    r"(?m)^(?:\s*from )?(?P<p>\S+\.rb):(?P<l>\d+):in ['`](?P<f>[^'\n]+)'",
)
_LAST_FIRST = 3  # of these, Python's stand with the innermost call last
_FOREIGN = (
    r"^\s+at (?:async )?(?:java|javax|jdk|sun|com\.sun|kotlin|scala|jakarta|org\.springframework|"
    r"org\.apache|org\.hibernate|io\.netty|reactor|System|Microsoft)\.|site-packages|dist-packages|"
    r"/lib/python|<frozen |<string>|node_modules|node:|\(?internal/|/usr/local/go/|/go/pkg/mod/|"
    r"/vendor/|^runtime\.|^panic\(|/gems/|/lib/ruby/"
)
_FRAMES = (
    r"\n(?:[ \t]+at [^\n]*|[ \t]+File \x22[^\n]*(?:\n[ \t][^\n]*)*|[ \t]+from \S+:\d+:in [^\n]*|"
    r"[ \t]+\.\.\. \d+ [^\n]*|[ \t]*--- End of [^\n]*|goroutine \d+ [^\n]*|"
    r"[^\n]+\n\t\S+\.go:\d+[^\n]*|Traceback \(most [^\n]*)"
)
KEYS = ("exception.type", "code.function.name", "code.file.path", "code.line.number")


def described(lines: pl.DataFrame) -> pl.DataFrame:
    """`lines` with what their traces tell as attributes (OpenTelemetry's names): the exception's
    type, and function, file and line of the innermost frame that is no library's. What a source
    says itself stays; a trace without such a frame has the type alone."""
    traces = pl.col("body").str.contains("\n") & pl.col("body").str.contains(f"(?m){MAY_GO_ON}")
    bodies = lines.filter(traces).select("body").unique()
    if not bodies.height:
        return lines
    pairs = bodies.select("body", _type().alias(KEYS[0]), *_place())
    kind = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    told = [pl.struct(key=pl.lit(key), value=pl.col(key)) for key in KEYS]
    pairs = pairs.select("body", told=pl.concat_list(told).cast(kind))
    both = lines.join(pairs, on="body", how="left", maintain_order="left")
    given = pl.coalesce(pl.col("attributes").map.entries(), pl.lit([], kind)).cast(kind)
    has = given.list.eval(pl.element().struct.field("key"))
    fresh = pl.col("told").list.filter(pl.element().struct.field("value").is_not_null())
    silent = has.list.set_intersection(pl.lit(list(KEYS))).list.len() == 0
    with_it = pl.concat_list(given, fresh).cast(lines.schema["attributes"])
    when = pl.col("told").is_not_null() & silent
    changed = pl.when(when).then(with_it).otherwise("attributes")
    return both.with_columns(attributes=changed).select(lines.columns)


def without_frames(body: pl.Expr) -> pl.Expr:
    """What a trace says but for where: its other lines."""
    lines = body.str.contains("\n", literal=True)
    return pl.when(lines).then(body.str.replace_all(_FRAMES, "")).otherwise(body)


def _type() -> pl.Expr:
    go = pl.col("body").str.extract(r"(?m)^(panic|fatal error): ")
    ours = [pl.col("body").str.extract(pattern) for pattern in _NAMED]
    python = pl.col("body").str.extract_all(_NAMED[0]).list.last()
    traceback = pl.col("body").str.contains("(?m)" + _TRACEBACK)
    return pl.coalesce(go, pl.when(traceback).then(python), *ours)


def _place() -> list[pl.Expr]:
    """Function, file and line of the innermost frame that is no library's."""
    own = []
    for number, pattern in enumerate(_PLACES):
        frames = pl.col("body").str.extract_all(pattern)
        mine = frames.list.filter(~pl.element().str.contains(_FOREIGN))
        own.append(mine.list.last() if number == _LAST_FIRST else mine.list.first())
    groups = ("f", "p", "l")
    read = {
        group: [
            one.str.extract_groups(pattern).struct.field(group)
            for one, pattern in zip(own, _PLACES, strict=True)
        ]
        for group in groups
    }
    return [
        pl.coalesce(read[group]).alias(key) for group, key in zip(groups, KEYS[1:], strict=True)
    ]
