"""Kubernetes objects and events, as the API lists them, into `changes`.

Reads lists (`kubectl get … -o json`, or a kind's own list): events become 'k8s_event' (scaling:
'scale'), ReplicaSets and ControllerRevisions 'deploy' with the images before and after, ConfigMaps
'config'. An object that cannot be read is refused whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from ingest.batch import REJECTED, Batch, Place
from ingest.changes import frame
from ingest.log_lines import service_of
from lake import UserError

Object = dict[str, Any]
_ROLLED = ("ReplicaSet", "ControllerRevision")  # a revision of a workload each


def decode(content: bytes, place: Place, origin: str, *, alone: bool = True) -> Batch:
    """The changes a list of objects tells of, each once. Raises UserError for what is no such
    list, and for a list given `alone` whose objects tell of no change."""
    try:
        found = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is cut or not JSON: {error}.") from error
    if not isinstance(found, dict) or not str(found.get("kind", "")).endswith("List"):
        raise UserError(f"{origin} is no list of Kubernetes objects; `kubectl get … -o json`.")
    items = found.get("items") or []
    if not isinstance(items, list):
        raise UserError(f"{origin}: `items` is no list.")
    kind = str(found["kind"]).removesuffix("List")
    rows, refused = _read(items, kind)
    if alone and items and not rows and not refused and not _known(items, kind):
        kinds = ", ".join((*_EACH, *_ROLLED))
        raise UserError(f"{origin} holds no {kinds}; other objects tell of no change.")
    spot = {"cluster": place.cluster, "environment": place.environment}
    made = frame([{**spot, **row} for row in rows]).unique(maintain_order=True)
    rejected = pl.DataFrame(refused, schema=REJECTED, orient="row")
    return Batch(made, made.height + rejected.height, rejected)


def _kind(item: Any, kind: str) -> str:
    return str(item.get("kind") or kind) if isinstance(item, dict) else ""


def _known(items: list[Any], kind: str) -> bool:
    return any(_kind(item, kind) in (*_EACH, *_ROLLED) for item in items)


def _read(items: list[Any], kind: str) -> tuple[list[Object], list[tuple[str, str]]]:
    """The rows of all objects, and the objects that could not be read."""
    rows: list[Object] = []
    refused: list[tuple[str, str]] = []
    owned: dict[tuple[str, ...], list[Object]] = defaultdict(list)
    for item in items:
        try:
            its = _kind(item, kind)
            if its in _ROLLED:
                owned[_owner(item)].append(_revision(item))
            elif its in _EACH:
                row = _EACH[its](item)
                rows += [_checked(row)] if row else []
            elif not its:
                raise ValueError("no object")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            refused.append((f"not a {kind or 'Kubernetes'} object: {error}", _text(item)))
    for (namespace, _, owner), revisions in owned.items():
        revisions.sort(key=lambda one: (one["number"], one["at"]))
        rows += [_rollout(namespace, owner, *pair) for pair in pairwise(revisions)]
    return rows, refused


def _text(item: Any) -> str:
    return msgspec.json.encode(item).decode(errors="replace")


def _checked(row: Object) -> Object:
    """The row; ValueError where a column would not take it."""
    for name, value in row.items():
        if name != "ts" and value is not None and not isinstance(value, str):
            raise ValueError(f"{name} = {value!r} is no text")
    return row


def _event(item: Object) -> Object | None:
    about = item.get("involvedObject") or item.get("regarding") or {}
    when = item.get("lastTimestamp") or item.get("eventTime") or item.get("firstTimestamp")
    if not when:
        return None
    name = str(about.get("name", ""))
    scale = item.get("reason") == "ScalingReplicaSet"
    service = name if about.get("kind") in {"Deployment", "StatefulSet"} else service_of(name)
    return {
        "ts": _moment(when),
        "kind": "scale" if scale else "k8s_event",
        "service": None if about.get("kind") == "Node" else service,
        "ref": f"{about.get('kind')}/{name}",
        "author": (item.get("source") or {}).get("component") or item.get("reportingComponent"),
        "message": f"{item.get('reason')}: {item.get('message', '')}",
        "namespace": about.get("namespace"),
    }


def _config(item: Object) -> Object | None:
    """The last edit of a ConfigMap: its fields' newest time, or when it was made."""
    meta = item.get("metadata") or {}
    times = [one.get("time") for one in meta.get("managedFields") or [] if one.get("time")]
    when = max(times, default=meta.get("creationTimestamp"))
    if not when:
        return None
    labels = meta.get("labels") or {}
    annotations = meta.get("annotations") or {}
    return {
        "ts": _moment(when),
        "kind": "config",
        "service": labels.get("app.kubernetes.io/name") or labels.get("app") or None,
        "ref": f"ConfigMap/{meta.get('name')}",
        "message": annotations.get("kubernetes.io/change-cause") or f"ConfigMap {meta.get('name')}",
        "namespace": meta.get("namespace"),
        "before": annotations.get("rootlake.io/before"),
        "after": msgspec.json.encode(item.get("data") or {}).decode(),
    }


def _owner(item: Object) -> tuple[str, str, str]:
    """Namespace, kind and name of the workload a revision is of."""
    meta = item["metadata"]
    owner = next(iter(meta.get("ownerReferences") or []), {"kind": "", "name": meta["name"]})
    return str(meta.get("namespace", "")), str(owner.get("kind", "")), str(owner["name"])


def _revision(item: Object) -> Object:
    """What a ReplicaSet or ControllerRevision says of a workload's revision. One that was taken up
    again (a rollback) counts from when its controller last wrote to it."""
    meta = item["metadata"]
    notes = meta.get("annotations") or {}
    number = item.get("revision") or notes.get("deployment.kubernetes.io/revision")
    at = _moment(meta["creationTimestamp"])
    if "deployment.kubernetes.io/revision-history" in notes:
        at = max(at, *(_moment(one) for one in _writes(meta)), at)
    cause = notes.get("kubernetes.io/change-cause")
    images = _images(item if "spec" in item else item.get("data") or {})
    return {"number": int(number or 0), "at": at, "cause": cause and str(cause), "images": images}


def _writes(meta: Object) -> list[str]:
    """When an object itself (not its status) was written."""
    fields = meta.get("managedFields") or []
    return [one["time"] for one in fields if one.get("time") and not one.get("subresource")]


def _rollout(namespace: str, owner: str, old: Object, new: Object) -> Object:
    return {
        "ts": new["at"],
        "kind": "deploy",
        "service": owner,
        "ref": f"{owner}@{new['number'] or '?'}",
        "message": new["cause"] or f"rollout of {owner}, revision {new['number'] or '?'}",
        "namespace": namespace or None,
        "before": old["images"],
        "after": new["images"],
    }


def _images(item: Object) -> str:
    spec = (((item.get("spec") or {}).get("template") or {}).get("spec")) or {}
    return ", ".join(str(one.get("image")) for one in spec.get("containers") or [])


def _moment(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


_EACH: dict[str, Callable[[Object], Object | None]] = {"Event": _event, "ConfigMap": _config}
