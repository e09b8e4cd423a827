"""Kubernetes objects and events, as the API lists them, into `changes`.

Reads recorded lists (`kubectl get … -o json`): events become 'k8s_event' (scaling: 'scale'),
ReplicaSets 'deploy' with the images before and after, ConfigMaps 'config'.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec

from ingest.batch import Batch, Place
from ingest.changes import batch
from ingest.log_lines import service_of
from lake import UserError

Object = dict[str, Any]


def decode(content: bytes, place: Place, origin: str) -> Batch:
    """The changes a list of objects tells of. Raises UserError for what is no such list."""
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise UserError(f"{origin} is cut or not JSON: {error}.") from error
    if not isinstance(found, dict) or not str(found.get("kind", "")).endswith("List"):
        raise UserError(f"{origin} is no list of Kubernetes objects; `kubectl get … -o json`.")
    kind = found["kind"].removesuffix("List")
    items = [{"kind": kind, **item} for item in found.get("items") or []]
    rows = _replica_sets(items) if kind == "ReplicaSet" else _each(items)
    spot = {"cluster": place.cluster, "environment": place.environment}
    return batch([{**spot, **row} for row in rows])


def _each(items: list[Object]) -> list[Object]:
    makers = {"Event": _event, "ConfigMap": _config}
    return [
        row
        for item in items
        if item["kind"] in makers
        for row in [makers[item["kind"]](item)]
        if row
    ]


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


def _replica_sets(items: list[Object]) -> list[Object]:
    """One 'deploy' for every revision after the first of each deployment."""
    by_owner: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for item in items:
        meta = item.get("metadata") or {}
        owner = next((o["name"] for o in meta.get("ownerReferences") or []), meta.get("name", ""))
        by_owner[meta.get("namespace", ""), owner].append(item)
    rows = []
    for (namespace, owner), sets in by_owner.items():
        sets.sort(key=lambda one: one["metadata"]["creationTimestamp"])
        rows += [_rollout(namespace, owner, old, new) for old, new in pairwise(sets)]
    return rows


def _rollout(namespace: str, owner: str, old: Object, new: Object) -> Object:
    notes = new["metadata"].get("annotations") or {}
    revision = notes.get("deployment.kubernetes.io/revision", "?")
    return {
        "ts": _moment(new["metadata"]["creationTimestamp"]),
        "kind": "deploy",
        "service": owner,
        "ref": f"{owner}@{revision}",
        "message": notes.get("kubernetes.io/change-cause")
        or f"rollout of {owner}, revision {revision}",
        "namespace": namespace,
        "before": _images(old),
        "after": _images(new),
    }


def _images(item: Object) -> str:
    spec = (((item.get("spec") or {}).get("template") or {}).get("spec")) or {}
    return ", ".join(str(one.get("image")) for one in spec.get("containers") or [])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
