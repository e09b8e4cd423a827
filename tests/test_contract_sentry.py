"""Sentry's published OpenAPI description: served by Prism, which checks what is asked, and its
examples replayed. (npm install @stoplight/prism-cli; `prism` on the PATH or named by PRISM.)"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingest.run import ingest
from lake import Lake

from . import faulty
from .conftest import SHARED

SPEC = SHARED / "fixtures" / "sentry" / "api-schema-extract.json"
LONG_AGO, NOW = datetime(2015, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
BASE = "/api/0/projects/{organization_id_or_slug}/{project_id_or_slug}/events/"
OPTIONS: dict[str, Any] = {"organization": "acme", "projects": ["shop"], "window": 1e9}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTLAKE_SALT", "s")
    monkeypatch.setenv("SENTRY_TOKEN", "t0ken")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    """The description, or a skip."""
    if not SPEC.exists():
        pytest.skip("../shared/fixtures is not here: vendors' payloads are not in the project")
    found: dict[str, Any] = json.loads(SPEC.read_text())
    return found


@contextmanager
def prism(folder: Path) -> Iterator[tuple[str, Path]]:
    """Prism serving the description, errors for what does not fit it; its URL and log."""
    program = os.environ.get("PRISM") or shutil.which("prism")
    if not program:
        pytest.skip("prism is not installed: npm install -g @stoplight/prism-cli, or set PRISM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "prism.log"
    command = [program, "mock", "--errors", "-p", str(port), str(SPEC)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            for _ in range(300):
                if b"listening" in log.read_bytes():
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", log
        finally:
            server.terminate()


def operations(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {path: methods["get"] for path, methods in spec["paths"].items()}


def example(operation: dict[str, Any]) -> Any:
    told = operation["responses"]["200"]["content"]["application/json"]
    return next(iter(told["examples"].values()))["value"]


def operation_of(spec: dict[str, Any], path: str) -> dict[str, Any]:
    """The operation a request's path belongs to; the test fails where there is none."""
    for template, operation in operations(spec).items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path):
            return operation
    pytest.fail(f"the description has no {path}")


def test_prism_serves_what_we_ask_and_we_read_what_it_serves(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    # events come bare in its list, so each is asked for by its id; the example has one of its own
    wanted = example(operations(spec)[BASE + "{event_id}/"])
    lake = Lake(tmp_path / "lake")
    with prism(tmp_path) as (url, log):
        landed = ingest(
            lake, "sentry", url, since=LONG_AGO, until=NOW, token_env="SENTRY_TOKEN", **OPTIONS
        )
    told = log.read_text()
    assert "violation" not in told.lower()
    assert "passed the validation rules" in told
    assert landed.quarantined == 0
    rows = lake.read("raw_errors")
    assert rows["event_id"].to_list() == [wanted["eventID"]]
    assert rows["stacktrace"].list.len().to_list() != [0]
    assert told.count("get /api/0/projects/acme/shop/events/") >= 2
    assert "get /api/0/organizations/acme/issues/" in told


def test_prism_refuses_what_the_description_does_not_allow(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    with prism(tmp_path) as (url, _log):
        place = url + BASE.format(organization_id_or_slug="acme", project_id_or_slug="shop")
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(f"{place}?full=maybe", timeout=10)
        told.value.close()
        assert told.value.code in {401, 422}


@pytest.mark.parametrize("full", [True, False], ids=["full events", "bare events"])
def test_every_request_has_a_path_parameters_and_a_token_of_the_description(
    spec: dict[str, Any], full: bool, tmp_path: Path
) -> None:
    asked: list[tuple[str, faulty.Params]] = []
    event = {**example(operations(spec)[BASE + "{event_id}/"]), "dateCreated": "2025-03-11T14:00Z"}

    def route(path: str, params: faulty.Params) -> faulty.Answer:
        asked.append((path, params))
        if path.endswith("/issues/"):
            return faulty.answer(example(operation_of(spec, path)))
        if path.endswith("/events/"):
            name = "ab" * 16 if "cursor" not in params else "cd" * 16
            whole = {**event, "eventID": name}
            bare = {key: one for key, one in whole.items() if key != "entries"}
            more = "false" if "cursor" in params else "true"
            link = f'<http://x/>; rel="next"; results="{more}"; cursor="0:100:0"'
            return faulty.answer([whole if full else bare], Link=link)
        return faulty.answer({**event, "eventID": path.split("/")[-2]})

    lake = Lake(tmp_path / "lake")
    with faulty.serving(route) as url:
        assert ingest(lake, "sentry", url, since=LONG_AGO, until=NOW, **OPTIONS).rows == 2
    assert len(asked) == (3 if full else 5)
    for path, params in asked:
        operation = operation_of(spec, path)
        known = {one["name"]: one for one in operation["parameters"] if one["in"] == "query"}
        assert set(params) <= set(known), path
        for name, value in params.items():
            fits(known[name]["schema"], value)


def fits(schema: dict[str, Any], value: str) -> None:
    """The test fails where a parameter's value is not of its schema."""
    if schema.get("format") == "date-time":
        assert datetime.fromisoformat(value).tzinfo
    if schema["type"] == "integer":
        assert value.isdigit()
    if schema["type"] == "boolean":
        assert value in {"true", "false"}
    assert len(value) >= schema.get("minLength", 0)


def test_every_field_the_examples_have_is_in_the_row(spec: dict[str, Any], tmp_path: Path) -> None:
    event = example(operations(spec)[BASE + "{event_id}/"])
    file = tmp_path / "event.json"
    file.write_text(json.dumps([event]))
    lake = Lake(tmp_path / "lake")
    assert ingest(lake, "sentry", file).rows == 1
    row = lake.read("raw_errors").row(0, named=True)
    values = next(one for one in event["entries"] if one["type"] == "exception")["data"]["values"]
    frames = values[-1]["stacktrace"]["frames"]
    assert row["event_id"] == event["eventID"]
    assert row["group_id"] == str(event["groupID"])
    assert row["type"] == values[-1]["type"]
    assert [one["function"] for one in row["stacktrace"]] == [one["function"] for one in frames]
    assert [one["line"] for one in row["stacktrace"]] == [one["lineNo"] for one in frames]
    assert dict(row["tags"]) == {one["key"]: one["value"] for one in event["tags"]}
    assert row["ts"] == datetime.fromisoformat(event["dateCreated"])
    user = event.get("user") or {}
    told = [str(one) for one in (user.get("email"), user.get("username")) if one]
    assert not any(one in str(row["user_hash"]) for one in told)


def test_an_issues_events_are_read_as_a_projects_are(spec: dict[str, Any], tmp_path: Path) -> None:
    path = next(path for path in operations(spec) if path.endswith("{issue_id}/events/"))
    events = example(operations(spec)[path])
    file = tmp_path / "events.json"
    file.write_text(json.dumps(events))
    lake = Lake(tmp_path / "lake")
    landed = ingest(lake, "sentry", file)
    assert (landed.rows, landed.quarantined) == (len(events), 0)
