"""Changes of a Kubernetes cluster: recorded lists of objects, or the cluster itself.

A cluster is asked through the `kubernetes` client (`pip install 'rootlake[kubernetes]'`); `PLACE`
is `cluster` (the context in use, or the pod's own service account), `cluster:CONTEXT`, or a
server's URL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field

from ingest import files
from ingest.batch import Batch, Piece, content_id
from ingest.k8s_objects import decode
from ingest.source import Source, without_credentials
from ingest.web import Refused, Web, WebOptions, is_url, server_of
from ingest.window import Window, micros
from lake import UserError

_LISTS = (
    ("/api/v1/events", "EventList"),
    ("/apis/apps/v1/replicasets", "ReplicaSetList"),
    ("/apis/apps/v1/controllerrevisions", "ControllerRevisionList"),
    ("/api/v1/configmaps", "ConfigMapList"),
)
PAGE = 500  # objects of one reply


class K8sOptions(WebOptions):
    """Options of `k8s`."""

    namespaces: tuple[str, ...] = Field(
        (), description="namespaces to read (default: all)", examples=[["shop"]]
    )


class K8s(Source):
    """One piece per list of objects; what is in the lake already is left out."""

    name = "k8s"
    about = "changes: Kubernetes objects and events, as the API lists them"
    options = K8sOptions
    selects = ("namespaces",)
    windowed = False  # a cluster lists what it holds now

    def read(self, window: Window) -> Iterator[Piece]:
        """Pieces of `changes`."""
        target = self.given.target
        if is_url(target) or target.partition(":")[0] == "cluster":
            yield from self._cluster(window)
            return
        for path, content in files.contents(target, ".json"):
            alone = str(path) == str(Path(target).expanduser())  # a folder holds nodes too
            work = partial(decode, content, self.given.place, str(path), alone=alone)
            name = content_id(content, self.given.cluster or "")
            yield Piece("changes", "k8s", name, 1, work, str(path))

    def _cluster(self, window: Window) -> Iterator[Piece]:
        """One piece per list, each a stream of its own: listed whole, what is new lands."""
        list_of = self._client()
        server = self.server or self.given.target
        for path, kind in _LISTS:
            for place in self._paths(path):
                origin = f"{without_credentials(self.given.target)} {place}"
                yield Piece(
                    "changes",
                    "k8s",
                    f"{server}{place}",
                    micros(window.now),
                    partial(self._listed, list_of, place, kind),
                    origin,
                    stream=server,
                    after=window.position("changes", f"k8s/{server}{place}"),
                )

    def _listed(self, list_of: Any, path: str, kind: str) -> Batch:
        content = msgspec.json.encode({"kind": kind, "items": _all(list_of, path)})
        return decode(content, self.given.place, path)

    @property
    def server(self) -> str | None:
        """The server asked, where it is named."""
        return server_of(self.given)

    def _paths(self, path: str) -> Iterator[str]:
        if not self.given.namespaces:
            yield path
        head, _, kind = path.rpartition("/")
        for namespace in self.given.namespaces:
            yield f"{head}/namespaces/{namespace}/{kind}"

    def _client(self) -> Any:
        """A function from path and parameters to the JSON of a list."""
        if is_url(self.given.target):
            return Web(self.given).json
        try:
            from kubernetes import client, config
        except ImportError:
            raise UserError(
                "a cluster is read with the package kubernetes: pip install 'rootlake[kubernetes]'."
            ) from None
        context = self.given.target.partition(":")[2] or None
        try:
            config.load_config(context=context)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise UserError(f"no way to the cluster {context or ''}: {error}".rstrip()) from error
        api = client.ApiClient()

        def listed(path: str, params: dict[str, Any]) -> Any:
            try:
                reply = api.call_api(
                    *api.param_serialize(
                        "GET",
                        path,
                        query_params=list(params.items()),
                        header_params={"Accept": "application/json"},
                        auth_settings=["BearerToken"],
                    ),
                    _request_timeout=self.given.timeout,
                )
                return json.loads(reply.read())  # type: ignore[no-untyped-call]
            except Exception as error:
                raise UserError(f"the cluster does not list {path}: {error}") from error

        return listed


def _all(list_of: Any, path: str) -> list[Any]:
    """Every object of a list, page by page."""
    items: list[Any] = []
    token = ""
    while True:
        params = {"limit": PAGE, **({"continue": token} if token else {})}
        try:
            reply = list_of(path, params)
        except Refused as error:
            if error.status != 410 or not token:
                raise
            items, token = [], ""  # the list has changed too much since its first page: once more
            continue
        if not isinstance(reply, dict) or "items" not in reply:
            raise UserError(f"{path} answers, but not as Kubernetes' API does.")
        items += reply["items"] or []
        token = (reply.get("metadata") or {}).get("continue") or ""
        if not token:
            return items
