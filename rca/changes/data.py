"""What a diff does to stored data: indexes, schemas, migrations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rca.changes.diff import File

_DROPS = re.compile(r"(?i)\bdrop\s+index\b|\bremove_?index\b|\bdrop_?index\w*\(|\bdropindex")
_MAKES = re.compile(
    r"(?i)\bcreate\s+(unique\s+)?index\b|\b(db_)?index\s*[=:]\s*true\b|@index\b|\badd_?index\b|\.hasindex\(|\bcreate_?index\w*\(|\bindexes\s*=|\bensureindex|#\[index|\.index\(\{|gorm:\"[^\"]*index|\.(unique_?)?index\(\)|\b(global|local)_secondary_index\b"
)
_SCHEMA = re.compile(
    r"(?i)\bdrop\s+(table|column|view|constraint|type)\b|\brename\s+(column|table|to)\b|\balter\s+column\b|\bset\s+not\s+null\b|\balter\s+table\b.*\b(type|not null|rename|drop(?! (index|key)\b)|modify|change)\b"
    r"|\b(rename|remove|alter)field\(|\bdeletemodel\(|\b(remove|rename|change|drop)_(column|table|reference)s?\b|\.drop_?column\(|\.rename_?column\(|\balter_column\(|\block\s+table\b|\b(drop|rename)(column|table)\b|\baddnotnullconstraint\b|\bmodifydatatype\b"
)
_OPTIONAL = re.compile(r"(?i)\bnull(able)?\s*[=:]\s*true\b")
_NEEDED = re.compile(r"(?i)\bnull(able)?\s*[=:]\s*false\b")
_FIELD = {  # of a message or type that others read
    "proto": re.compile(r"^\s*(repeated |optional |required )?[\w.]+ \w+ = \d+;?"),
    "graphql": re.compile(r"^\s*\w+(\(.*\))?\s*:\s*[\[\w!\]]+"),
    "prisma": re.compile(r"^\s*\w+\s+\w+(\[\])?\??(\s|$)"),
    "avsc": re.compile(r"\"type\"\s*:"),
}


def indexes(files: Sequence[File]) -> str | None:
    """An index dropped, or no longer declared."""
    for one in files:
        drops = [line.text.strip() for line in one.added if _DROPS.search(line.text)]
        if drops:
            return drops[0][:80]
        gone = [line.text.strip() for line in one.removed if _MAKES.search(line.text)]
        come = [line for line in one.added if _MAKES.search(line.text)]
        if len(gone) > len(come):
            return gone[0][:80]
    return None


def schemas(files: Sequence[File]) -> str | None:
    """A table, column or message that is another one now."""
    for one in files:
        found = [line.text.strip() for line in one.added if _SCHEMA.search(line.text)]
        if any(_OPTIONAL.search(line.text) for line in one.removed):
            found += [line.text.strip() for line in one.added if _NEEDED.search(line.text)]
        if one.ending in _FIELD:
            field = _FIELD[one.ending]
            found += [line.text.strip() for line in one.removed if field.search(line.text)]
        if found:
            return found[0][:80]
    return None
