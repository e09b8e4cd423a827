"""A diff as the analysers see it: files that run, their lines, and what only moved taken out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

IDLE = re.compile(
    r"(?i)(^|/)(tests?|specs?|__tests__|testdata|fixtures|cypress|e2e|playwright|__mocks__|docs?|examples?|i18n|locales?|translations|\.github|\.gitlab|\.circleci)/"
    r"|(^|/)(test_[^/]*|conftest\.py|[^/]*_(test|spec)\.\w+|[^/]*\.(test|spec|cy|stories)\.\w+|[^/]*tests?\.(java|cs|kt|php))$"
    r"|(^|/)(\.gitlab-ci\.ya?ml|jenkinsfile|makefile|license|codeowners|changelog[^/]*|readme[^/]*)$"
    r"|(^|/)((dev|test)-)?(requirements|constraints)[-_/.](dev|test|lint|docs?)[^/]*\.txt$|(^|/)(renovate\.json5?|(azure|bitbucket)-pipelines[^/]*\.ya?ml|\.travis\.yml|cloudbuild\.ya?ml|messages[^/]*\.properties|strings\.xml|dependabot\.ya?ml|codecov\.ya?ml|sonar-project\.properties|tox\.ini|pytest\.ini|(jest|vitest|eslint)\.config\.\w+"
    r"|\.(eslint|prettier|stylelint|editorconfig|rubocop|golangci|pre-commit|flake8|pylint)[^/]*|docker-compose\.(dev|local|test|ci)\.ya?ml|\.env\.(example|sample|test))$"
    r"|\.(md|rst|txt\.orig|adoc|css|scss|less|svg|png|jpe?g|gif|ico|html?\.snap|snap)$"
)
CONFIG = re.compile(
    r"(?i)\.(ya?ml|toml|ini|cfg|conf|properties|json|tf|tfvars|hcl|env|xml)$|(^|/)\.env[^/]*$"
    r"|(^|/)(dockerfile[^/]*|procfile)$|(^|/)config/[^/]+\.rb$"
)
LOGS = re.compile(
    r"(?i)^\s*(await\s+)?(this\.|self\.|_)?(\w+\.)*(log|logger|logging|slog|zap|console|fmt|rails\.logger|system\.out|_?logger)"
    r"(\.\w+)*\.(print\w*|log\w*|trace\w*|debug\w*|info\w*|warn\w*|error\w*|fatal\w*|println)\("
    r"|^\s*(print|puts|error_log|printf|println!?)\b[ (]|^\s*(\w+::)*(e?println|trace|debug|info|warn|error)!\("
)
_COMMENT = {
    "hash": re.compile(r"(^|\s)#(?!\[|!).*$"),
    "slash": re.compile(r"(^|\s)//.*$|^\s*/?\*(?!\w).*$|^\s*/\*.*$"),
    "dash": re.compile(r"(^|\s)--.*$"),
    "semi": re.compile(r"^\s*[;#].*$"),
    "angle": re.compile(r"<!--.*?(-->|$)"),
}
_COMMENTS_OF = {
    **dict.fromkeys(("py", "rb", "yaml", "yml", "toml", "sh", "tf", "hcl", "env", "conf", "txt", "properties", "lock", "ex"), "hash"),
    **dict.fromkeys(("go", "java", "js", "jsx", "ts", "tsx", "cs", "php", "rs", "kt", "scala", "c", "cc", "cpp", "h", "gradle", "proto", "swift"), "slash"),
    **dict.fromkeys(("sql",), "dash"),
    **dict.fromkeys(("ini", "cfg"), "semi"),
    **dict.fromkeys(("xml", "csproj", "html"), "angle"),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a hunk: sign ' ', '+' or '-', its text without comments, its number on its side."""

    sign: str
    text: str
    number: int

    @property
    def depth(self) -> int:
        return len(self.text) - len(self.text.lstrip())


@dataclass(frozen=True)
class File:
    """One changed file. `hunks` hold every line; `added` and `removed` what is left of them when
    what was only moved, re-indented or put in another order is taken out."""

    path: str
    hunks: tuple[tuple[Line, ...], ...]
    functions: tuple[str, ...] = ()
    added: tuple[Line, ...] = field(default=())
    removed: tuple[Line, ...] = field(default=())

    @property
    def ending(self) -> str:
        name = self.path.rsplit("/", 1)[-1].lower()
        if name.startswith("dockerfile"):
            return "dockerfile"
        return name.rsplit(".", 1)[-1] if "." in name else ""

    @property
    def is_config(self) -> bool:
        return bool(CONFIG.search(self.path))

    def side(self, sign: str) -> Iterator[tuple[Line, ...]]:
        """The hunks as they were ('-') or became ('+'), one after the other."""
        for hunk in self.hunks:
            yield tuple(line for line in hunk if line.sign in (" ", sign) and line.text.strip())


@lru_cache(maxsize=512)
def parse(text: str) -> tuple[File, ...]:
    """The files of a unified diff that run: not tests, documents, styles or pipelines."""
    files = [one for one in _files(text.splitlines()) if not IDLE.search(one.path)]
    return tuple(_unmoved(files))


def _files(lines: Sequence[str]) -> Iterator[File]:
    path, body = "", list[str]()
    for line in lines:
        if line.startswith("diff --git"):
            if path and body:
                yield _file(path, body)
            path, body = line.rsplit(" b/", 1)[-1], []
        elif line.startswith("+++ ") and not body:
            path = line[4:].removeprefix("b/").strip() if "/dev/null" not in line else path
        elif line.startswith("@@") or (line[:1] in ("+", "-", " ", "\t") and _in_body(line, body)):
            body.append(line)
    if path and body:
        yield _file(path, body)


def _in_body(line: str, body: Sequence[str]) -> bool:
    return bool(body) or not line.startswith(("--- ", "+++ "))


def _file(path: str, body: Sequence[str]) -> File:
    style = _COMMENTS_OF.get(path.rsplit(".", 1)[-1].lower(), "")
    style = "hash" if "dockerfile" in path.lower() or "/.env" in f"/{path}" else style
    hunks: list[list[Line]] = [[]]
    functions = list[str]()
    old = new = 1
    quoted = {" ": False, "+": False, "-": False}
    for raw in body:
        if raw.startswith("@@"):
            found = re.match(r"@@ -(\d+)\S* \+(\d+)\S* @@ ?(.*)", raw)
            old, new = (int(found[1]), int(found[2])) if found else (1, 1)
            functions.append(found[3] if found else "")
            hunks.append([])
            continue
        sign, text = raw[0], raw[1:].rstrip()
        text = _bare(text, style, path, sign, quoted)
        hunks[-1].append(Line(sign, text, old if sign == "-" else new))
        old, new = old + (sign != "+"), new + (sign != "-")
    return File(path, tuple(tuple(one) for one in hunks if one), tuple(functions))


def _bare(text: str, style: str, path: str, sign: str, quoted: dict[str, bool]) -> str:
    """A line without comments, doc texts and the texts of log lines."""
    if path.endswith(".py"):
        text = _untyped(_undocumented(text, sign, quoted))
    if path.endswith((".tsx", ".jsx")) and "</" in text:
        text = re.sub(r">[^<>{}]*<", "><", text)  # what is only read
    if path.endswith((".ts", ".tsx")):
        text = _NULLABLE.sub("", text)
    if style:
        text = _COMMENT[style].sub("", text)
    return "" if LOGS.search(text) else text


_NULLABLE = re.compile(  # a type in TypeScript that may be nothing
    r"(?<=[\w)?])\s*:\s*[\w.]+(\[\])?(\s*\|\s*[\w.]+(\[\])?)*\s*\|\s*(null|undefined)\b(?=\s*([,)=;{]|$))"
)
_HINT = re.compile(
    r"(?<=[\w)]): ?[A-Za-z_\"'][\w\[\], |.\"']*?(?=\s*(=|, *[*\w]+ *[:,=)]|,?\s*\)|,$))|\s*->[^:]+(?=:)"
)


def _untyped(text: str) -> str:
    """A Python signature without its types; other lines as they are."""
    if not re.match(r"\s*(async )?def \w+\(", text):
        return text
    return re.sub(r"\s*=\s*", "=", _HINT.sub("", re.sub(r"[*/], ", "", text)))


def _undocumented(text: str, sign: str, quoted: dict[str, bool]) -> str:
    """A Python line without its documentation; a text of several lines is followed per side."""
    sides = ("+", "-") if sign == " " else (sign,)
    inside = any(quoted[side] for side in sides)
    marks = len(re.findall(r'"""|\'\'\'', text))
    documents = inside or bool(re.match(r'\s*[rbu]?("""|\'\'\')', text))
    if marks % 2 and documents:
        for side in sides:
            quoted[side] = not inside
    return "" if documents else text


def _unmoved(files: Sequence[File]) -> Iterator[File]:
    """The files with `added` and `removed`: lines that stand on both sides of the diff cancel."""
    plus, minus = Counter[str](), Counter[str]()
    for one in files:
        for line in _lines(one):
            (plus if line.sign == "+" else minus)[_said(line.text)] += line.sign != " "
    both = plus & minus
    gone = {"+": Counter(both), "-": Counter(both)}
    words = Counter[str]()
    for one in files:
        for line in _lines(one):
            words.update(set(re.findall(r"\w+", line.text)) if line.sign != " " else ())
    for one in files:
        left: dict[str, list[Line]] = {"+": [], "-": []}
        idle = _idle(one, words)
        for line in _lines(one):
            if line.sign == " " or not line.text.strip():
                continue
            if gone[line.sign][_said(line.text)] > 0:
                gone[line.sign][_said(line.text)] -= 1
            elif line.sign == "+" or line.number not in idle:
                left[line.sign].append(line)
        yield File(one.path, one.hunks, one.functions, tuple(left["+"]), tuple(left["-"]))


_DEFINES = re.compile(
    r"^(?!\s*(?:if|for|foreach|while|switch|match|else|elif|return|catch|try|with|when|unless|until|do|await|lock|using)\b)"
    r"\s*(?:export |default |pub |public |private |protected |internal |static |async |final )*"
    r"(?:(?:def|func|function|fn|fun)\s+(?:\([^)]*\)\s*)?(?P<name>\w+)|[\w<>\[\], .?]+\s(?P<typed>\w+)\([^;]*\)\s*\{$)"
)


def _idle(one: File, words: Counter[str]) -> set[int]:
    """Numbers of the removed lines of functions taken out whole, with nothing in their place,
    that no other changed line names: what nobody called did nothing."""
    out = set[int]()
    for hunk in one.hunks:
        for place, line in enumerate(hunk):
            found = _DEFINES.match(line.text) if line.sign == "-" else None
            name = found and (found["name"] or found["typed"])
            if not name or words[name] > 1:
                continue
            body = list[Line]()
            for other in hunk[place + 1 :]:
                if other.text.strip() not in {"", "}", "end"} and other.depth <= line.depth:
                    break
                body.append(other)
            beside = (*hunk[max(place - 1, 0) : place], *hunk[place + 1 + len(body) :][:1])
            if all(x.sign == "-" for x in body) and not any(x.sign == "+" for x in beside):
                out |= {x.number for x in (line, *body)}
    return out


def _lines(one: File) -> Iterator[Line]:
    for hunk in one.hunks:
        yield from hunk


def squeezed(text: str) -> str:
    """A line as far as its meaning goes: no blanks, no comma or semicolon at its end."""
    return re.sub(r"\s+", "", text).rstrip(",;")


_UNITS = {"ms": 1, "milli": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "hour": 3_600_000, "d": 86_400_000, "day": 86_400_000}  # fmt: skip
_LASTING = re.compile(
    r"(?i)\b(?:duration(?:\.of|::from_)|timespan\.from|timedelta\()(?P<unit>milli|sec|min|hour|day)\w*[(=](?P<count>\d+)\)"
    r"|\b(?P<count2>\d+)(?:\*time\.(?P<unit2>milli|sec|min|hour)\w*|(?P<unit3>ms|s|m|h|d))\b"
)


def _said(text: str) -> str:
    """A line squeezed, with lengths of time in one unit: 2 s are 2000 ms."""

    def told(found: re.Match[str]) -> str:
        unit = found["unit"] or found["unit2"] or found["unit3"]
        return f"{int(found['count'] or found['count2']) * _UNITS[unit.lower()]}ms"

    text = re.sub(r"\berrors\.Is\(([^,()]+),([^()]+)\)", r"\1==\2", text)
    return _LASTING.sub(told, squeezed(text))


_GENERIC = re.compile(
    r"(?<=\w)<([A-Z][\w\[\], |.?<>]*)?>|(?<=\w)<[a-z][\w\[\], |.?<>]*>(?=\()"
)  # Promise<Item[]> compares nothing
_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`|[A-Za-z_$@][\w$]*|\d[\w.]*|[<>=!]=+|&&|\|\||\?\?|\?\.|&\.|=>|->|::|:=|\+\+|--|[-+*/%&|^]=|\S'
)


def tokens(lines: Sequence[Line]) -> list[str]:
    """The tokens of some lines; a comma before a closing bracket is none."""
    texts = [_GENERIC.sub("", line.text) for line in lines]
    found = [one for text in texts for one in _TOKEN.findall(text)]
    after = [*found, ""][1:]
    return [
        one
        for one, following in zip(found, after, strict=True)
        if one != ";" and not (one == "," and following in {")", "]", "}"})
    ]


def only_renamed(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether two token lists differ by names that were changed for fresh ones throughout."""
    if len(old) != len(new):
        return False
    to, back = dict[str, str](), dict[str, str]()
    for a, b in zip(old, new, strict=True):
        if a != b and not (_is_name(a) and _is_name(b)):
            return False
        if to.setdefault(a, b) != b or back.setdefault(b, a) != a:
            return False
    moved = {a: b for a, b in to.items() if a != b}
    return not set(moved.values()) & set(old)


_WORDS = frozenset(
    [
        "true",
        "false",
        "none",
        "null",
        "nil",
        "undefined",
        "and",
        "or",
        "not",
        "is",
        "in",
        "if",
        "else",
        "elif",
        "unless",
        "while",
        "for",
        "return",
        "raise",
        "throw",
        "panic",
        "break",
        "continue",
        "await",
        "async",
        "yield",
        "new",
        "delete",
        "try",
        "except",
        "catch",
        "finally",
        "lock",
        "defer",
        "go",
    ]
)


def _is_name(token: str) -> bool:
    return bool(re.match(r"[A-Za-z_$]", token)) and token.lower() not in _WORDS
