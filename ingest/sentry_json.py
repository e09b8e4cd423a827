"""Sentry's API JSON into `raw_errors`: lists of events, or one event.

A user's identifier is hashed before it is written, with a salt kept outside the lake: the
environment's ROOTLAKE_SALT, else one made of the lake's place and of a secret in the user's
configuration folder, made when missing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from ingest.batch import Batch, Place
from lake import TABLES, UserError

Event = dict[str, Any]
_OWN = {"date", "source", "batch", "arrival", "ingested_at"}
_COLUMNS = pa.schema([f for f in TABLES["raw_errors"].schema if f.name not in _OWN])
_ODD = (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, IndexError)


def decode(content: bytes, place: Place, origin: str, lake: str = "") -> Batch:
    """The events of one reply; what has no id or no time is refused. `lake` is where the users'
    identifiers are hashed for: the same user has another hash in another lake.

    Raises UserError for what is not JSON of Sentry's events.
    """
    try:
        found = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is cut or not JSON: {error}.") from error
    events = found if isinstance(found, list) else [found]
    if not all(
        isinstance(event, dict) and ("eventID" in event or "id" in event) for event in events
    ):
        raise UserError(f"{origin} holds no events of Sentry's API (objects with eventID).")
    salt, rows, refused = _salt(lake), [], []
    for arrival, event in enumerate(events):
        try:
            row = _row(event, place, salt)
            pa.Table.from_pylist([row], _COLUMNS)  # a value its column would not take
            rows.append({**row, "arrival": arrival})
        except (*_ODD, pa.ArrowException) as error:
            refused.append((f"not an event: {error}", msgspec.json.encode(event).decode()))
    table = pa.Table.from_pylist(rows, _COLUMNS.append(pa.field("arrival", pa.int64())))
    rejected = pl.DataFrame(refused, schema=["reason", "raw_row"], orient="row").cast(pl.String)
    return Batch(pl.DataFrame(pl.from_arrow(table)), len(events), rejected)


def _row(event: Event, place: Place, salt: bytes) -> dict[str, Any]:
    tags = _tags(event.get("tags"))
    contexts = event.get("contexts") or {}
    trace = contexts.get("trace") or {}
    kind, value, frames = _exception(event)
    sent = event.get("sent_at") or (event.get("_meta") or {}).get("sent_at") or tags.get("sent_at")
    return {
        "ts": _moment(event.get("dateCreated") or event.get("timestamp") or event["dateReceived"]),
        "event_id": str(event.get("eventID") or event["id"]),
        "group_id": _text(event.get("groupID")),
        "project": _text(
            event.get("projectSlug") or event.get("projectID") or event.get("project")
        ),
        "service": tags.get("service")
        or tags.get("server_name")
        or _text(event.get("projectSlug")),
        "release": _release(event.get("release")) or tags.get("release"),
        "environment": tags.get("environment") or event.get("environment") or place.environment,
        "level": tags.get("level") or event.get("level"),
        "type": kind or (event.get("metadata") or {}).get("type"),
        "message": _text(event.get("message")) or value or _text(event.get("title")),
        "culprit": _text(event.get("culprit")),
        "stacktrace": frames,
        "trace_id": _text(trace.get("trace_id")),
        "span_id": _text(trace.get("span_id")),
        "user_hash": _user(event.get("user"), salt),
        "tags": list(tags.items()),
        "received_at": _moment(event["dateReceived"]) if event.get("dateReceived") else None,
        "sent_at": _moment(sent) if sent else None,
        "cluster": tags.get("cluster") or place.cluster,
        "namespace": tags.get("namespace") or place.namespace,
    }


def _exception(event: Event) -> tuple[str | None, str | None, list[dict[str, Any]]]:
    """Type, text and frames (innermost last) of the last exception, the one that was raised."""
    for entry in event.get("entries") or ():
        if entry.get("type") == "exception":
            values = (entry.get("data") or {}).get("values") or [{}]
            last = values[-1]
            frames = ((last.get("stacktrace") or {}).get("frames")) or []
            return last.get("type"), last.get("value"), [_frame(one) for one in frames]
    return None, None, []


def _frame(frame: Event) -> dict[str, Any]:
    line = frame.get("lineNo", frame.get("lineno"))
    return {
        "file": _text(frame.get("filename") or frame.get("absPath")),
        "function": _text(frame.get("function")),
        "line": int(line) if line is not None else None,
        "in_app": bool(frame.get("inApp", frame.get("in_app", False))),
    }


def _tags(tags: Any) -> dict[str, str]:
    if isinstance(tags, dict):
        return {str(key): str(value) for key, value in tags.items()}
    return {str(one["key"]): str(one["value"]) for one in tags or () if isinstance(one, dict)}


def _release(value: Any) -> str | None:
    return _text(value.get("version")) if isinstance(value, dict) else _text(value)


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _moment(value: Any) -> datetime:
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    read = datetime.fromisoformat(value)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def _user(user: Any, salt: bytes) -> str | None:
    """A keyed hash of the first identifier an event's user has."""
    if not isinstance(user, dict):
        return None
    keys = ("id", "email", "username", "ip_address")
    found = next((str(user[key]) for key in keys if user.get(key)), None)
    return hashlib.blake2b(found.encode(), key=salt, digest_size=16).hexdigest() if found else None


def _salt(lake: str = "") -> bytes:
    """What a lake's hashes are keyed by: ROOTLAKE_SALT, or a secret of this user's and the lake's
    place."""
    given = os.environ.get("ROOTLAKE_SALT")
    if given:
        return hashlib.blake2b(given.encode(), digest_size=32).digest()
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    file = Path(home) / "rootlake" / "salt"
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(secrets.token_bytes(32))
        secret = file.read_bytes()
        return hashlib.blake2b(lake.encode(), key=secret[:64], digest_size=32).digest()
    except OSError as error:
        raise UserError(
            f"cannot keep the salt for users' identifiers in {file} ({error.strerror});"
            " set ROOTLAKE_SALT."
        ) from error
