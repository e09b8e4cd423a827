"""Changes and errors: commits, cluster objects, deploys, events of an error tracker."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import polars as pl
import pytest

from ingest import k8s_objects as k8s
from ingest import sentry_json as sentry
from ingest.batch import Place
from ingest.git import service_of
from ingest.run import ingest
from lake import Lake, UserError

from .conftest import ROOT


def test_a_bundle_gives_its_commits_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    bundle = ROOT / "sample_data" / "shop.bundle"
    first = ingest(lake, "git", bundle)
    assert first.rows >= 40
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(bundle), str(clone)], check=True)
    (clone / "new.txt").write_text("new\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(clone), "add", "."], check=True)
    subprocess.run(["git", "-C", str(clone), *who, "commit", "-qm", "one more"], check=True)
    ingest(lake, "git", clone)
    commits = lake.read("changes")
    assert commits.height == first.rows + 1
    newest = commits.sort("ts").row(-1, named=True)
    assert (newest["message"], newest["files"]) == ("one more", ["new.txt"])
    assert "+new" in newest["diff"]


def test_a_commit_that_is_pushed_late_is_found_by_its_id(tmp_path: Path) -> None:
    clone, lake = tmp_path / "clone", Lake(tmp_path / "lake")
    subprocess.run(["git", "init", "-q", str(clone)], check=True)
    for day in ("2025-03-12", "2025-03-01"):
        (clone / "file.txt").write_text(f"{day}\n")
        subprocess.run(["git", "-C", str(clone), "add", "."], check=True)
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        when = {"GIT_COMMITTER_DATE": f"{day}T10:00:00Z", "GIT_AUTHOR_DATE": f"{day}T10:00:00Z"}
        command = ["git", "-C", str(clone), *who, "commit", "-qm", day]
        subprocess.run(command, check=True, env={**os.environ, **when})
        assert ingest(lake, "git", clone).records == 1
    assert lake.read("changes")["message"].to_list() == ["2025-03-01", "2025-03-12"]


@pytest.mark.parametrize(
    ("paths", "service"),
    [
        (["services/cart/a.py", "services/cart/b.py"], "cart"),
        (["services/cart/a.py", "services/pay/b.py"], None),
        (["README.md"], None),
    ],
)
def test_service_of_a_commit(paths: list[str], service: str | None) -> None:
    assert service_of(paths) == service


def test_deploys_of_wrong_form_are_refused_and_unknown_columns_named(tmp_path: Path) -> None:
    file = tmp_path / "deploys.jsonl"
    file.write_text(
        '{"ts": "2025-03-11T14:00:00Z", "kind": "deploy", "service": "cart", "ref": "cart@2"}\n'
        '{"kind": "deploy"}\n'
        '{"ts": "yesterday", "kind": "deploy"}\n'
        "rubbish\n"
    )
    lake = Lake(tmp_path / "lake")
    landed = ingest(lake, "changes", file)
    assert (landed.records, landed.rows, landed.quarantined) == (4, 1, 3)
    file.write_text('{"ts": "2025-03-11T14:00:00Z", "kind": "deploy", "sevrice": "cart"}\n')
    with pytest.raises(UserError, match=r"line 1: changes has no column 'sevrice'"):
        ingest(lake, "changes", file)


def test_edges_from_csv(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    file.write_text("minute,caller,callee,calls\n2025-03-11T14:00:00Z,a,b,12\n")
    lake = Lake(tmp_path / "lake")
    assert ingest(lake, "edges", file).rows == 1
    assert lake.read("raw_edges").select("caller", "callee", "calls").rows() == [("a", "b", 12.0)]


def test_rollouts_tell_the_images_before_and_after() -> None:
    def replica_set(name: str, made: str, image: str) -> dict[str, object]:
        meta = {"name": name, "namespace": "shop", "creationTimestamp": made}
        owner = {"ownerReferences": [{"kind": "Deployment", "name": "cart"}]}
        return {
            "metadata": {
                **meta,
                **owner,
                "annotations": {"deployment.kubernetes.io/revision": "3"},
            },
            "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
        }

    items = [
        replica_set("b", "2025-03-11T14:00:00Z", "cart:2"),
        replica_set("a", "2025-03-01T14:00:00Z", "cart:1"),
    ]
    body = json.dumps({"kind": "ReplicaSetList", "items": items}).encode()
    row = k8s.decode(body, Place("eu-1"), "x").rows.row(0, named=True)
    assert (row["kind"], row["service"], row["ref"]) == ("deploy", "cart", "cart@3")
    assert (row["before"], row["after"], row["cluster"]) == ("cart:1", "cart:2", "eu-1")


def test_what_is_no_list_of_objects_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no list of Kubernetes objects"):
        k8s.decode(b'{"kind": "Pod"}', Place(), "x")


def event(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "eventID": "e1",
        "projectSlug": "cart",
        "dateCreated": "2025-03-11T14:05:00Z",
        "dateReceived": "2025-03-11T14:05:01Z",
        "title": "PoolTimeout: none free",
        "user": {"id": "4711", "email": "a@example.com"},
        "contexts": {"trace": {"trace_id": "ab", "span_id": "cd"}},
        "tags": [{"key": "environment", "value": "production"}],
        "entries": [
            {
                "type": "exception",
                "data": {
                    "values": [
                        {
                            "type": "PoolTimeout",
                            "value": "none free",
                            "stacktrace": {
                                "frames": [{"filename": "a.py", "lineNo": 3, "inApp": True}]
                            },
                        }
                    ]
                },
            }
        ],
    }
    return {**base, **changes}


def test_an_event_becomes_a_row_without_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTLAKE_SALT", "salt")
    batch = sentry.decode(json.dumps([event(), event(dateCreated="soon")]).encode(), Place(), "x")
    assert (batch.records, batch.rows.height, batch.rejected.height) == (2, 1, 1)
    row = batch.rows.row(0, named=True)
    assert (row["type"], row["trace_id"], row["environment"]) == ("PoolTimeout", "ab", "production")
    assert row["stacktrace"] == [{"file": "a.py", "function": None, "line": 3, "in_app": True}]
    assert "4711" not in str(row)
    assert "example.com" not in str(row)
    again = sentry.decode(json.dumps([event()]).encode(), Place(), "x").rows
    assert again["user_hash"][0] == row["user_hash"]
    monkeypatch.setenv("ROOTLAKE_SALT", "other")
    other = sentry.decode(json.dumps([event()]).encode(), Place(), "x").rows
    assert other["user_hash"][0] != row["user_hash"]


def test_the_salt_is_made_once_and_readable_by_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROOTLAKE_SALT", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    one = sentry._salt()
    assert one == sentry._salt()
    assert (tmp_path / "rootlake" / "salt").stat().st_mode & 0o777 == 0o600


def test_errors_land(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTLAKE_SALT", "salt")
    file = tmp_path / "events.json"
    file.write_text(json.dumps([event()]))
    lake = Lake(tmp_path / "lake")
    assert ingest(lake, "sentry", file).rows == 1
    assert lake.scan("raw_errors").select(
        pl.col("tags").map.get("environment")
    ).collect().item() == ("production")
