"""Settings in a diff: `key = value` in the spellings of ten languages, and what kind they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from rca.changes.diff import File, Line

LEVELS = ("all", "silly", "finest", "trace", "verbose", "debug", "information", "info", "notice", "warning", "warn", "error", "critical", "fatal", "off")  # fmt: skip
KINDS = (  # the first that fits the key, with the keys it lies under before it
    ("cert", r"cert(ificate)?s?\b|cert[._-]|_cert|certificate|issuer|secretname|keystore|truststore|ca_?bundle|minversion|ciphers?|tls_?version|ssl_?verify|(^|\.)verify(_?(ssl|peer|mode))?$|rejectunauthorized"),
    ("loglevel", r"level$|\blog(ging|gers?)?\.level\.|log_?level\.|root_?logger|log4j\.logger\.|_log$"),
    ("resources", r"(limits|requests|resources)\.(memory|cpu|ephemeral|storage)|xm[xs]$|gomemlimit|gomaxprocs|heap|ram_?(percentage|fraction)|old[_-]space|mem(ory)?_?limit|memory_?(size|reservation|mb)|(^|\.)(memory|cpus?)$|(volume|disk|storage|ebs)[\w ]*\.size\w*$|allocated_storage|cpu_?(limit|shares|quota)"),
    ("timeout", r"time_?out|deadline|patience|max_?wait|keepalive_?time"),
    ("retries", r"retr(y|ies)|attempt|tries$|backoff|wait_?none|redeliver"),
    ("cache", r"ttl|cache|caffeine|expir(y|ation|es?)|maxmemory|evict|max[_-]?age|memoi[sz]e"),
    ("pool", r"pool|conn(ection)?s?\b|conns$|worker|thread|concurren|parallel|overflow|replicas|replica_?count|processes$|queue|semaphore|rps$|qps$|\.rate$|throttl|limit|burst|batch_?size|max_?(pending|active|size|requests|in_?flight|open|idle|conn)|quota|capacity|\.hard\.|prefetch(_?(count|size|multiplier))?$"),
)  # fmt: skip
NETWORK = r"port$|podselector|matchlabels|nodeselector|topologykey|hostnetwork|dnspolicy|egress|mtu|tls\.mode|loadbalancer|cidr|traffic_?policy|(^|\.)selector\."
HIDDEN = r"passw|passphrase|secret|token|api_?key|credential"  # whose values nobody is to read
FLAG = r"enable|disable|feature|flag|(^|[._-])use[_A-Z]|(^|\.)use[a-z]*$|experiment|toggle|rollout|percentage|beta|shadow|canary"
SHARE = r"rollout|percent"
SHARED = r"feature|flag|rollout|experiment|canary"
INERT = r"label|annotation|owner|team|description|title|comment|author|appversion|(^|\.)version$|checksum|integrity|resolved|(^|\.)name$|(^|\.)(app|tier|role)$"
IMAGE = r"(^|\.)(image|(new)?tag|repository)$"  # told by what it runs on, not by where it stands
HELD = r"(secret|config_?map)\w*ref\.name$"  # a name that settings are read from
PEM = r"\.(crt|cer|pem|jks|p12|pfx)\b|ca-?bundle|[-_](cert|tls)\b"
_SWITCHED = {"true", "false", "on", "off", "yes", "no", "enabled", "disabled"}

_VALUE = r"(?:\"[^\"]*\"|'[^']*'|`[^`]*`|(?:[^,;()\[\]{}\"'#]|\([^()]*\)|\[[^\[\]]*\])+)"
_PAIR = re.compile(
    rf"(?P<key>[A-Za-z_$][\w.$/-]*)[\"']?\]?\s*(?:=>|:=|=(?![=>~])|:(?![:/=]))(?=\s*(?P<value>{_VALUE}))"
)
_CALL = re.compile(
    r"(?P<key>(?:\w+\.(?=With))?@?[A-Za-z_]\w*)(?:\[[^\]]*\])?\((?=(?P<value>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\))"
)
_WORDS = re.compile(
    r"^\s*(?P<key>[a-z][a-z_-]+)\s+(?P<value>[\w., /-]+);?$"
)  # redis, nginx and the like
_SPACED = re.compile(r"(?P<key>[A-Z][a-z]+(?: [A-Za-z]+){1,3})\s*=\s*(?P<value>[^;\"']+)")
_ELEMENT = re.compile(r"<(?P<key>[\w.-]+)(?:\s[^<>]*)?>(?P<value>[^<]+)</")
_JVM = re.compile(r"-(?P<key>Xm[xs])(?P<value>\w+)")
_OPTION = re.compile(r"(?<![\w-])--(?P<key>[a-z][\w-]*)[\"']?(?:\s+|,\s*)[\"']?(?P<value>\d\w*)")
_IMAGE_TAG = re.compile(
    r"[\w.-]+(/[\w.-]+)+:[\w.-]+"
)  # names an image; its tag is no setting's value
_LITERAL = re.compile(
    r"(?i)-?[\d_.]+ ?[a-z%/]*$|\"[^\"]*\"$|'[^']*'$|`[^`]*`$|true$|false$|none$|null$|nil$|on$|off$|yes$|no$|:\w+$"
    r"|[\w.(-]*\.?(trace|verbose|debug|info|warn(ing)?|error)(level\)*)?$"
)
_TYPED = re.compile(r"[A-Z_a-z][\w\[\], |.<>?]*\s=\s*(.+)$")  # a default behind a type
_MEASURE = re.compile(r"(?i)second|minute|hour|milli|micro|duration|timedelta|\d")


_ELEMENT_OF = re.compile(r"\s*-\s+[\"']?([^\s\"':]+)[\"']?$")  # of a list in YAML
_IMAGED = re.compile(r"(?i)\s*-?\s*image[\"']?\s*[:=]")
_ITEM = re.compile(r"\s*-?\s*name\s*[:=]\s*[\"']?([\w.-]+)")
_VARIABLE = re.compile(r"\s*-\s*name:\s*[\"']?([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)[\"']?$")
NAMED = "(set)"  # the value of a variable of the environment whose value stands elsewhere


class Setting(NamedTuple):
    """A key with the keys above it, its value, and whether the value stands there literally."""

    key: str
    above: str
    value: str
    literal: bool
    config: bool  # in a file of settings, where the key's very name counts

    @property
    def whole(self) -> str:
        return f"{self.above}.{self.key}".lower() if self.above else self.key.lower()


class Changed(NamedTuple):
    """A setting that has another value now: None where it was not there, or is no more."""

    key: str
    whole: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if re.search(HIDDEN, self.key, re.I):
            return f"{self.key}, not shown"
        if self.after is None:
            return f"{self.key} {self.before} removed"
        return (
            f"{self.key} {self.before} → {self.after}"
            if self.before
            else f"{self.key} {self.after} added"
        )


@lru_cache(maxsize=64)
def settings(one: File, sign: str) -> tuple[Setting, ...]:
    """The settings on the changed lines of one side of a file."""
    wanted = one.added if sign == "+" else one.removed
    numbers = {line.number for line in wanted}
    found = list[Setting]()
    for hunk in one.side(sign):
        for place, (line, above) in enumerate(zip(hunk, _above(hunk), strict=True)):
            if line.sign == sign and line.number in numbers:
                found += _of(hunk, place, above, one.is_config)
    return tuple(found)


def _above(hunk: Sequence[Line]) -> Iterator[str]:
    """Of each line the keys of the lines it lies under, by their indentation."""
    over = list[tuple[float, str]]()
    for line in hunk:
        while over and over[-1][0] >= _depth(line):
            over.pop()
        yield ".".join(name for _, name in over if name)
        over.append((_depth(line), _heading(line.text)))


def _depth(line: Line) -> float:
    """How deep a line lies; an element of a list lies deeper than the key it stands below."""
    return line.depth + 0.5 * line.text.lstrip().startswith("- ")


def _heading(text: str) -> str:
    named = re.match(r"\s*-?\s*[\"']?([\w./-]+)[\"']?\s*[:=]?\s*[{\[]?$", text)
    return named[1] if named else re.sub(r"\W+", " ", text).strip()[:60]


def _of(hunk: Sequence[Line], place: int, above: str, plain: bool) -> Iterator[Setting]:
    line = hunk[place]
    if _IMAGED.match(line.text):
        return
    named = place and _ITEM.match(hunk[place - 1].text)
    valued = re.match(r"\s*value\s*[:=]\s*(.+)$", line.text)
    if named and valued:
        yield _setting(named[1], "", valued[1], plain)
        return
    variable = _VARIABLE.match(line.text) if plain else None
    if variable:
        following = hunk[place + 1] if place + 1 < len(hunk) else None
        its = following and re.match(r"\s*value:", following.text)
        if not following or not its or following.sign != line.sign:
            yield _setting(variable[1], "env", NAMED, plain)
        return
    alone = _ELEMENT_OF.match(line.text) if plain and above else None
    for pattern in (_PAIR, _CALL, _SPACED, _ELEMENT, _JVM, _OPTION, *([_WORDS] if plain else [])):
        for found in pattern.finditer(line.text):
            if _IMAGE_TAG.match(line.text, found.start("key")):
                continue
            if not found["value"].strip() and line.text[found.end() :].lstrip()[:1] in {"{", "["}:
                continue
            inside = _call_around(line.text[: found.start()])
            yield _setting(found["key"], f"{above}.{inside}".strip("."), found["value"], plain)
            alone = None
    if alone:
        over, _, key = above.rpartition(".")
        yield _setting(key, over, alone[1], plain)


def _call_around(text: str) -> str:
    """The name before the innermost bracket that is still open at the end of a text."""
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += (text[place] in ")}]") - (text[place] in "({[")
        if depth < 0:
            named = re.search(r"(\w+)\W*$", text[:place])
            return named[1] if named else ""
    return ""


def _setting(key: str, above: str, value: str, config: bool) -> Setting:
    value = value.strip().rstrip(",;")
    typed = None if config else _TYPED.match(value)
    value = typed[1] if typed else value
    plain = value.strip("\"'`")
    literal = (
        config
        or bool(_LITERAL.match(value))
        or bool(_MEASURE.search(value) and not re.match(r"[a-z_]\w*\.[a-z]\w*$", value))
    )
    return Setting(key.lstrip("@"), above, plain, literal, config)


def kind(setting: Setting, one: File) -> str | None:
    """What kind of setting it is; None for one that says nothing."""
    key = f".{setting.whole}" if one.is_config else _own(setting)
    if re.search(IMAGE, key, re.I):
        return None
    if _switches(setting, one):
        return "flag"
    for name, pattern in KINDS:
        if re.search(pattern, key, re.I) and _fits(name, setting):
            return name
    if setting.literal and re.search(PEM, setting.value, re.I):
        return "cert"
    if not one.is_config:
        return None
    if re.search(NETWORK, key, re.I):
        return "network"
    return None if re.search(INERT, key, re.I) and not re.search(HELD, key, re.I) else "config"


def _switches(setting: Setting, one: File) -> bool:
    """Whether it turns a feature on or off, or for a share of those who ask."""
    where = f"{one.path}.{setting.above}.{setting.key}"
    if setting.value.lower() in _SWITCHED:
        return setting.key.isupper() or bool(re.search(FLAG, where, re.I))
    share = re.fullmatch(r"[\d.]+ ?%?", setting.value) and re.search(SHARE, setting.key, re.I)
    return bool(share and re.search(SHARED, where, re.I))


def _fits(name: str, setting: Setting) -> bool:
    """Whether a value can be one of its kind: a level of logs, and no address where one counts."""
    if name == "loglevel":
        return _level(setting.value) is not None
    return not (setting.config and "://" in setting.value) or name == "cert"


def _own(setting: Setting) -> str:
    """In code the key alone tells, or that of the call it is an argument of."""
    call = re.search(r"(\w+)\s*\{?$", setting.above)
    key = setting.key.lower()
    if key in {
        "max",
        "min",
        "size",
        "maxsize",
        "maximumsize",
        "capacity",
        "limit",
        "count",
        "times",
    }:
        return f"{setting.above}.{key}".lower()
    return f"{call[1]}.{key}".lower() if call and key == "level" else key


def _level(value: str) -> int | None:
    word = worded(value)
    return LEVELS.index(word) if word in LEVELS else None


def worded(value: str) -> str:
    """The last word of a value, as of `zap.InfoLevel`, `:info` or `INFO, file`."""
    words = re.findall(r"[a-z]+", value.lower().split(",")[0])
    return words[-1].removesuffix("level") if words else ""


def changed(files: Sequence[File], wanted: str) -> list[Changed]:
    """Settings of one kind that have another value after the diff, in any file of it.

    A value that only moved, or got a name, is no change.
    """
    out = list[Changed]()
    gone, come = list[Setting](), list[Setting]()
    for one in files:
        gone += [s for s in settings(one, "-") if kind(s, one) == wanted]
        come += [s for s in settings(one, "+") if kind(s, one) == wanted]
    for alike in (_value, _stands):
        gone, come = _apart(gone, come, alike)
    for old in gone:
        new = _partner(old, come)
        if new is not None:
            come.remove(new)
        stated = old.literal or (new is not None and new.literal)
        if stated and (new is None or _value(old) != _value(new)):
            out.append(_change(old, new))
    out += [
        Changed(new.key, new.whole, None, new.value[:60])
        for new in come
        if new.literal and new.value != NAMED
    ]
    return list(dict.fromkeys(out))


def _change(old: Setting, new: Setting | None) -> Changed:
    if new is None:
        return Changed(old.key, old.whole, old.value[:60], None)
    renamed = f"{new.key} " if new.value == old.value else ""
    return Changed(old.key, old.whole, old.value[:60], f"{renamed}{new.value}"[:60])


def _value(setting: Setting) -> str:
    """What makes two settings the same: in code the value, for a name is as good as another."""
    text = f"{setting.key}={setting.value}" if setting.config else setting.value
    return re.sub(r"[\s_\"']", "", text).lower()


def _stands(setting: Setting) -> str:
    """The same by where it stands: `a.b: 1` in one line is `b: 1` under `a`."""
    return re.sub(r"[\s_\"']", "", f"{setting.whole}={setting.value}").lower()


def _apart(
    gone: Sequence[Setting], come: Sequence[Setting], alike: Callable[[Setting], str]
) -> tuple[list[Setting], list[Setting]]:
    """Both sides without the settings that stand literally on both, one for one."""
    old, new = (Counter(alike(s) for s in side if s.literal) for side in (gone, come))
    return _without(gone, old & new, alike), _without(come, old & new, alike)


def _without(
    found: Sequence[Setting], same: Counter[str], alike: Callable[[Setting], str]
) -> list[Setting]:
    left, out = Counter(same), list[Setting]()
    for one in found:
        if one.literal and left[alike(one)] > 0:
            left[alike(one)] -= 1
        else:
            out.append(one)
    return out


def _partner(old: Setting, come: Sequence[Setting]) -> Setting | None:
    """The new setting that took an old one's place: of the same key, else any of its kind."""

    def plain(key: str) -> str:
        return re.sub(r"[\W_]", "", key).lower()

    same = [new for new in come if plain(new.key) == plain(old.key)]
    return next(iter([*same, *come]), None)


_WALL = re.compile(r"^kind:\s*(\w*NetworkPolicy|AuthorizationPolicy|PeerAuthentication)\b")


def walled(files: Sequence[File]) -> str | None:
    """A policy that says who may talk to whom, where there was none."""
    for one in files:
        new, old = (
            [x.text for x in side if _WALL.match(x.text)] for side in (one.added, one.removed)
        )
        if len(new) > len(old):
            return new[0].strip()
    return None
