"""The tools as LangChain sees them: names fixed, results masked and bounded, telemetry quoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from langchain.tools import tool
from langchain_core.tools import BaseTool

from lake import UserError
from rca.agent import look
from rca.mask import text as mask
from rca.workspace import Workspace

LIMIT = 12_000  # characters of a result; what is cut is counted


def tools(space: Workspace) -> list[BaseTool]:
    """Every tool over a workspace."""

    @tool
    def k8s_describe_pod(name: str, cluster: str = "") -> str:
        """Describe a Kubernetes pod: node, image, limits, restarts, conditions, events. `name` may
        be a part of the pod's name."""
        return _bounded(lambda: look.describe_pod(space, name, cluster))

    @tool
    def prometheus_query(query: str, at: str, minutes: int = 30) -> str:
        """Run a PromQL query over the minutes before a time (ISO 8601)."""
        return _bounded(lambda: look.prometheus(space, query, at, minutes))

    @tool
    def git_diff_analyze(ref: str, fault: str = "unknown") -> str:
        """Show what a commit or deploy changed, and what in it could lead to a kind of fault."""
        return _bounded(lambda: look.analyze_diff(space, ref, fault))

    @tool
    def lake_sql(query: str) -> str:
        """Run one read-only SELECT (DuckDB) over the lake: spans, samples, series, logs, errors,
        changes, red, edges, repairs and the other tables."""
        return _bounded(lambda: look.query_lake(space, query))

    @tool
    def rank_suspects(at: str, service: str = "") -> str:
        """Diagnose the time around `at` (ISO 8601): ranked suspects, changes, evidence ids."""
        return _bounded(lambda: look.rank_suspects(space, at, service))

    @tool
    def similar_cases(text: str) -> str:
        """Find remembered incidents that read alike. They are hypotheses to check."""
        return _bounded(lambda: look.similar_cases(space, text))

    return [
        k8s_describe_pod,
        prometheus_query,
        git_diff_analyze,
        lake_sql,
        rank_suspects,
        similar_cases,
    ]


def _bounded(work: Callable[[], Any]) -> str:
    """The result as text: masked, cut with the cut counted; a user's error is a result too."""
    try:
        found = work()
    except UserError as error:
        return f"error: {mask(str(error))}"
    text = mask(
        found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    )
    if len(text) > LIMIT:
        return f"{text[:LIMIT]}\n… {len(text) - LIMIT:,} more characters were cut"
    return text
