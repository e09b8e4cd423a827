"""What a diff does to code: loops, checks, conditions, handling of errors, waiting, letting go."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rca.changes.diff import File, Line
from rca.changes.same import turned

LOOP = re.compile(
    r"^\s*(async\s+)?(for|foreach|while|until|loop)\b|\.(each\w*|forEach|map|flatMap|times|each_with_index)\b\s*(\(|do\b|\{)"
    r"|\bfor\b[^=]*\b(in|of|range)\b.*[:{]\s*$|\bfor\s*\(|\bforeach\s*\("
)
_VERBS = (
    r"(query\w*|execute\w*|exec\w*|fetch\w*|find\w*|get\w*|select\w*|load\w*|where\w*|first\w*|single\w*|aggregate"
    r"|lookup|scan\w*|read\w*|list\w*|insert\w*|update\w*|delete\w*|save\w*|tolistasync|count\w*|scalar\w*|one\w*|post|put|send|invoke|call)"
)
_STORES = (
    r"(db|database|conn|connection|cursor|cur|session|repo|repositor(y|ies)|dao|store|stmt|statement|tx|redis|mongo|collection|prisma\w*"
    r"|knex|sequelize|jdbc\w*|entitymanager|em|dbcontext|_?context|ctx|client|api|http|axios|requests|httpx|gateway|objects|users|posts|model)"
)
QUERY = re.compile(
    rf"(?i)\b\w*{_STORES}(\w*)(\.|->|::)(\w+(\.|->|::))*{_VERBS}\s*(<[^>]*>)?[(!]|\b(select|insert into|delete from|update)\b.+\b(from|where|set|values)\b"
    rf"|\bfetch\(|(?-i:(?<!\w)(\w+[.])*\w*([Rr]epo(sitory)?|[Dd]ao|[Qq]ueries|[Qq]uerier)(\.|->)\w+\()|\b\w*{_STORES}(\w*)::{_VERBS}\b"
)
EAGER = re.compile(  # what is read together with its rows; without it each row asks by itself
    r"(?i)\b(prefetch_related|select_related|joinedload|selectinload|subqueryload|eager_load|preload)\(|\.includes\(|\.(then)?include\([^)]*=>"
    r"|(->|::)with\(|\bloaders?\.(\w+\.)?load(_?many)?\(|\bjoin fetch\b|@entitygraph\b|@batchsize\b|fetchtype\.lazy\b"
)
EACH = re.compile(r"fetchtype\.eager\b", re.IGNORECASE)
_MODEL = re.compile(
    r"\b[A-Z]\w+(\.|::)(find\w*|where|objects\.\w+|get\w*|query\w*|first\w*|load|create!|(insert|update|delete)(_all|One)|destroy!?)\(?"
)

GUARD = re.compile(
    r"(?i)\bis (not )?none\b|(?<!err )(?<!err)[!=]=+ ?(nil|null|undefined|none)\b|\b(nil|null|undefined) ?[!=]=|\?\.|&\.|\?\?|\.(nil|present|blank|empty)\?"
    r"|\bisset\(|\bempty\(|\bisnull\w*\(|\bnonnull\(|orelse\w*\(|ofnullable\(|getordefault\(|unwrap_or\w*\(|\bif (not |!)[\w.]+( *:|\) *[{\w]|$)|\bif \(![\w.]+\)"
    r"|\.get\([^(),]+,[^(){]+\)|(?<!cache)\.fetch\([^(),]+,[^()]+\)|\?:\s|\b(has|contains)_?key\w*\(|key_exists\(|^(?!\s*(?:async )?for\b).*\bin\b [\w.]+:$|\bunless [\w.]+$|\bok\s*:?=|; ok\b|\.dig\(|\blen\([\w.]+\) ?== ?0|\.is_?empty\(\)|\.(length|count|size\(\)) ?===? ?0\b|\bif let (some|ok)\(|\bis \{|\bif [\w.]+ else\b"
)
HANDLED = re.compile(
    r"(?i)^\s*(\}\s*)?(except|catch|rescue)\b|\bif (err :?=.*; ?)?err ?!= ?nil\b|\.catch\(|\brecover\(\)|\berr\(\w+\) =>(?! return err\()|\bon_?error\b|@exceptionhandler"
)
IGNORED = re.compile(r",\s*_\s*:?=\s|\.unwrap\(\)")
WAIT = re.compile(
    r"(?i)\bsleep\w*\(|\.lock\(\)|\bsynchronized\b|\block\s*\(|\bmutex\b|\bacquire\(|\.wait\(\)|\.join\(\)|\.result\(\)|\.block\(\)|async\([^()]*\)\.(result|wait)\b|\.getresult\(\)|\b(read|write|append|copy|exec|stat)\w*(?<!a)sync\(|\bflock\b|for update\b"
)
CACHED = re.compile(r"(?i)cache\w*(\.|->|::)(set|put|get|add|fetch|remember)\w*\(")
STORED = re.compile(
    r"(?i)\b\w*(cache|redis|rdb|memcached?)\w*(\.|->|::)(p?set(ex|nx)?|put|add|expire|store|remember)\w*\("
)
ASIDE = re.compile(
    r"(?i)create_task\(|add_task\(|runasync\(|supplyasync\(|ensure_future\(|^\s*go [\w.]+\(|task\.run\(|setimmediate\(|spawn\w*\(|enqueue\w*\(|\.delay\(|perform_later|deliver_later|_async\(|\.submit\(|dispatch\("
)
LETS_GO = re.compile(
    r"(?i)\.(close|release|dispose|unlock|rollback|shutdown|disconnect|free|cancel|remove\w*|stop)\(|\bdefer\b|\bwith\b .+:$|\busing\b ?[( ]|\btry \(|\bfinally\b|clearinterval|unsubscribe|removelistener|\.off\(|\bdelete\b"
)
KEEPS = re.compile(
    r"^(\w+ )*\$?[A-Za-z_]\w*\s*(:[^=]+)?:?=\s*(\[\]|\{\}|dict\(\)|list\(\)|set\(\)|map\[|make\(map|new (Map|Set|Hash\w+|Array\w+|Dictionary|List|Concurrent\w+)|Hash\.new|defaultdict)"
    r"|^\s+(public |private |internal )?static (readonly |final )*(\w+\.)*(Map|List|Set|Dictionary|Concurrent\w+|Hash\w+)<"
)
THROWS = re.compile(
    r"\b(raise|throw|panic!?\(|abort\(|die\(|exit\(|fail\b|assert\b)|\brequire\((?=[^'\"]*[<>=!])|\brequireNonNull\(|\bPreconditions\."
)


def work(files: Sequence[File]) -> str | None:
    """A loop over what was looked at once."""
    for one in files:
        found = _gained((one,), LOOP)
        if found and one.removed and not turned(one):
            return found
    return None


def loops(files: Sequence[File]) -> str | None:
    """A query or remote call that now runs once per turn of a loop, and did not before."""
    for one in files:
        if one.is_config:
            continue
        new, old = (_looped(one, sign) for sign in "+-")
        if len(new) > len(old):
            return next((text for text in new if text not in old), new[0])[:80]
    return _lost(files, EAGER) or _gained(files, EACH)


def _looped(one: File, sign: str) -> list[str]:
    """The query lines inside a loop on one side of a file."""
    found = list[str]()
    for hunk in one.side(sign):
        open_loops = list[int]()
        for line in hunk:
            starts = bool(LOOP.search(line.text))
            while open_loops and line.depth <= open_loops[-1] and not _goes_on(line):
                open_loops.pop()
            asks = _asks(line.text)
            if _each(line.text) or (
                asks and (open_loops or (starts and asks.start() > LOOP.search(line.text).start()))  # type: ignore[union-attr]
            ):
                found.append(line.text.strip())
            if starts:
                open_loops.append(line.depth)
    return found


def _asks(text: str) -> re.Match[str] | None:
    return QUERY.search(text) or _MODEL.search(text)


def _each(text: str) -> bool:
    """Whether a comprehension asks once for each of its elements."""
    found = re.search(r"\bfor\b .+ in\b", text)
    if not found:
        return False
    depth = 0
    for place in range(found.start() - 1, -1, -1):
        depth += (text[place] in ")]}") - (text[place] in "([{")
        if depth < 0:
            return bool(_asks(text[place + 1 : found.start()]))
    return False


def _goes_on(line: Line) -> bool:
    return line.text.strip()[:1] in "{"


def _lost(files: Sequence[File], pattern: re.Pattern[str]) -> str | None:
    """A line of a kind that went without another of its kind coming."""
    for one in files:
        gone = [line.text.strip() for line in one.removed if pattern.search(line.text)]
        come = [line for line in one.added if pattern.search(line.text)]
        if len(gone) > len(come) and not one.is_config:
            return gone[0][:80]
    return None


def _gained(files: Sequence[File], pattern: re.Pattern[str]) -> str | None:
    for one in files:
        gone = sum(len(pattern.findall(line.text)) for line in one.removed)
        come = [line.text for line in one.added if pattern.search(line.text)]
        if sum(len(pattern.findall(text)) for text in come) > gone and not one.is_config:
            return come[0].strip()[:80]
    return None


def guards(files: Sequence[File]) -> str | None:
    """A check for nothing (None, nil, null, a missing key) that was taken out."""
    return _lost(files, GUARD)


def handling(files: Sequence[File]) -> str | None:
    """An error that was handled and is not any more."""
    return _lost(files, HANDLED) or (_gained(files, IGNORED) if _lost(files, HANDLED) else None)


_SWITCH = re.compile(r"(?i)\b(enable|disable|activate|deactivate|turn_?on|turn_?off)")


_SWITCHED = re.compile(
    r"(?i)\b\w*(flags?|features?|toggles?|unleash|flipper|ldclient|experiments?)\w*(\.|->|::)\w*(enabled|active|is_?on|variation|treatment)\w*[?!]?\("
)


def switched(files: Sequence[File]) -> str | None:
    """A call that turns something on where it was off, or the other way round; or a switch that
    is asked no more."""
    for one in files:
        old, new = (
            {
                _SWITCH.sub("", line.text).strip(): line.text.strip()
                for line in lines
                if _SWITCH.search(line.text)
            }
            for lines in (one.removed, one.added)
        )
        both = [text for key, text in sorted(new.items()) if key in old]
        if both:
            return both[0][:80]
    return _lost(files, _SWITCHED)


def uncached(files: Sequence[File]) -> str | None:
    """Something that was put into a cache, or looked up there, and is not any more; or is kept
    there for another time."""
    return _lost(files, CACHED) or _kept_otherwise(files)


def _kept_otherwise(files: Sequence[File]) -> str | None:
    for one in files:
        old, new = (
            {_plain(line.text): line.text.strip() for line in lines if STORED.search(line.text)}
            for lines in (one.removed, one.added)
        )
        both = sorted(old.keys() & new.keys())
        if both and not one.is_config:
            return f"{old[both[0]]} → {new[both[0]]}"[:100]
    return None


def _plain(text: str) -> str:
    """A line without its numbers and units of time."""
    return re.sub(r"(?i)[\d._*\s]+|(milli|micro|nano)?(second|minute|hour|day)s?", "", text)


def waits(files: Sequence[File]) -> str | None:
    """A wait or a lock that was not there before, or work done in the request that was done aside."""
    return _gained(files, WAIT) or _lost(files, ASIDE)


def leaks(files: Sequence[File]) -> str | None:
    """Something no longer let go of, or a collection of the whole process that only grows."""
    lost = _lost(files, LETS_GO)
    if lost and re.search(
        r"(?i)close|release|dispose|using|try \(|with .+:$|clear|unsub|remove|\.off\(", lost
    ):
        return lost
    return _gained(files, KEEPS)


def throws(files: Sequence[File]) -> str | None:
    """An exception thrown where none was; not one that says of nothing that it is nothing."""
    found = _gained(files, THROWS)
    return None if found and GUARD.search(found) else found


_ENVIRONMENT = re.compile(
    r"(?i)(os\.environ(\.get)?|os\.getenv|process\.env|system\.getenv|env::var|getenv|get_env|env\.fetch|os\.LookupEnv|\benv)\W{1,3}([A-Z][A-Z0-9_]+)"
    r"|(?:\bconfiguration(?:\.\w+(?:<\w+>)?)?[\[(]|@value\(\"\$\{)\"?(?P<key>[\w:.-]+)"
)


def environment(files: Sequence[File]) -> str | None:
    """A variable of the environment that is read in the place of another."""
    for one in files:
        old, new = (
            {
                found[3] or found["key"]
                for line in lines
                for found in _ENVIRONMENT.finditer(line.text)
            }
            for lines in (one.removed, one.added)
        )
        if old and new - old and not one.is_config:
            return f"reads {sorted(new - old)[0]}, not {sorted(old)[0]}"
    return None
