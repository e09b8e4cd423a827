"""What the tools look up. Plain functions of a workspace that return text or JSON-ready data;
masking and size limits are put around them in `rca.agent.tools`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lake import UserError, sql
from rca import cases, changes
from rca.diagnose import diagnose
from rca.evidence import plain, stamp
from rca.question import Question
from rca.workspace import Workspace

ROWS = 40


def moment(text: str) -> datetime:
    """An ISO 8601 time; without a zone it is UTC. UserError for anything else."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text!r} is no ISO 8601 time, such as 2025-03-11T14:05Z.") from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def describe_pod(space: Workspace, name: str, cluster: str = "") -> str:
    """A recorded pod as `kubectl describe` would show it, with its events."""
    pods = [
        (where, pod)
        for where, pod in space.objects("Pod")
        if (not cluster or where == cluster) and name in pod["metadata"]["name"]
    ]
    exact = [one for one in pods if one[1]["metadata"]["name"] == name]
    found = exact or pods
    if not found:
        return f"no recorded pod's name holds {name!r}"
    if len(found) > 1 and not exact:
        names = ", ".join(sorted({f"{pod['metadata']['name']} ({where})" for where, pod in found}))
        return f"{len(found)} pods match {name!r}: {names}"
    where, pod = found[-1]
    return "\n".join([*_pod_lines(where, pod), *_events(space, where, pod["metadata"]["name"])])


def _pod_lines(cluster: str, pod: Mapping[str, Any]) -> list[str]:
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    lines = [
        f"Name:      {meta['name']}",
        f"Namespace: {meta.get('namespace')}   Cluster: {cluster}   Node: {spec.get('nodeName')}",
        f"Status:    {status.get('phase')}   Started: {status.get('startTime')}",
    ]
    for one in spec.get("containers", []):
        limits = one.get("resources", {}).get("limits", {})
        lines.append(
            f"Container: {one['name']}  image {one.get('image')}  limits {json.dumps(limits)}"
        )
    for one in status.get("containerStatuses", []):
        state = ", ".join(one.get("state", {}))
        lines.append(
            f"           ready {one.get('ready')}, restarts {one.get('restartCount')}, {state}"
        )
    conditions = [f"{one['type']}={one['status']}" for one in status.get("conditions", [])]
    return [*lines, f"Conditions: {', '.join(conditions) or 'none'}"]


def _events(space: Workspace, cluster: str, name: str) -> list[str]:
    mine = [
        f"  {one.get('lastTimestamp')}  {one.get('type')}  {one.get('reason')}: {one.get('message')}"
        for where, one in space.objects("Event")
        if where == cluster and (one.get("involvedObject") or {}).get("name") == name
    ]
    return ["Events:", *(mine or ["  none recorded"])]


def prometheus(space: Workspace, query: str, at: str, minutes: int = 30) -> dict[str, Any]:
    """A PromQL query over the minutes before `at`: of a server, or a subset of it on the lake."""
    end = moment(at)
    start = end - timedelta(minutes=minutes)
    if space.prometheus:
        from prometheus_api_client import PrometheusConnect

        server = PrometheusConnect(url=space.prometheus)
        found = server.custom_query_range(query, start_time=start, end_time=end, step="30s")
        return {
            "query": query,
            "source": space.prometheus,
            "series": found[:ROWS],
            "of": len(found),
        }
    from rca.agent import promql

    rows = promql.evaluate(space.lake, query, start, end)
    return {"query": query, "source": "lake", **rows}


def analyze_diff(space: Workspace, ref: str, fault: str = "unknown") -> dict[str, Any]:
    """What a commit changed, and what in it could lead to such a fault."""
    rows = (
        space.lake.scan("changes").filter(pl.col("ref").str.starts_with(ref)).collect().to_dicts()
    )
    if not rows:
        return {"found": 0, "note": f"no change on record begins with {ref!r}"}
    row = next((one for one in rows if one["kind"] == "commit"), rows[0])
    about = {
        "kind": row["kind"],
        "ref": row["ref"],
        "when": stamp(row["ts"]),
        "author": row["author"],
        "message": row["message"],
        "files": row["files"],
        "service": row["service"],
        "before": row["before"],
        "after": row["after"],
    }
    return {**about, "does": changes.does(row, fault), "diff": (row["diff"] or "")[:6000]}


def query_lake(space: Workspace, query: str) -> dict[str, Any]:
    """One SELECT over the lake; rows beyond the first forty are counted, not shown."""
    result = sql(space.lake, query)
    rows = [
        {key: plain(value) for key, value in row.items()}
        for row in result.slice(0, ROWS).to_pylist()
    ]
    return {"rows": rows, "shown": len(rows), "of": result.num_rows}


def rank_suspects(space: Workspace, at: str, service: str = "") -> dict[str, Any]:
    """The deterministic diagnosis around a time, without the results of its evidence."""
    answer = diagnose(space.lake, Question(moment(at), service or None))
    kept = ("id", "kind", "claim")
    answer["evidence"] = [{key: one[key] for key in kept} for one in answer["evidence"]]
    return answer


def similar_cases(space: Workspace, text: str) -> dict[str, Any]:
    """Remembered cases that read alike: hypotheses to check, not answers."""
    found = cases.search(space.lake, text)
    keys = ("case_id", "score", "title", "root_cause", "fix", "outcome", "verified")
    return {
        "cases": [{key: one[key] for key in keys} for one in found],
        "of": len(cases.list_cases(space.lake)),
    }


def services(space: Workspace) -> list[str]:
    """The names of all services in the lake."""
    found = space.lake.scan("red").select("service").unique().collect()["service"].drop_nulls()
    return sorted(found.to_list())


def words(text: str) -> list[str]:
    """A text's words, for finding names in it."""
    return re.findall(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text)
