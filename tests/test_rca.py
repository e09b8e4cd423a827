"""Diagnosis: the planted cause first, every claim cited, and an answer for odd input too."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import TABLES, Lake, UserError
from rca import changes, evidence, onset, verdict
from rca.detect import detect
from rca.diagnose import diagnose, look
from rca.evidence import UncitedClaim
from rca.question import Question, of_alert, of_incident

from .conftest import ROOT, rootlake

TRUTH = json.loads((ROOT / "sample_data" / "truth" / "incidents.json").read_text())
KEYS = {
    *("incident_id", "at", "onset", "verdict", "confidence", "suspects", "root_cause_change"),
    *("changes", "propagation", "blast_radius", "remediation", "ruled_out", "missing"),
    *("evidence", "similar_cases", "model", "duration_ms"),
}
FAULTS = {
    *("cpu", "memory", "network_delay", "network_loss", "disk", "exception", "wrong_return"),
    *("config", "dependency", "capacity", "external", "unknown"),
}


@pytest.fixture(scope="module")
def lake(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A copy of the demo's lake, to write diagnoses to."""
    copy = tmp_path_factory.mktemp("rca") / "lake"
    shutil.copytree(demo_folder / "lake", copy)
    return Lake(copy)


@pytest.fixture(scope="module")
def answers(lake: Lake) -> dict[str, dict[str, Any]]:
    return {
        one["id"]: diagnose(lake, Question(datetime.fromisoformat(one["at"]), one["symptom"]))
        for one in TRUTH
    }


@pytest.mark.parametrize("told", TRUTH, ids=lambda one: one["id"])
def test_the_planted_cause_is_named_first(told: dict[str, Any], answers: dict[str, Any]) -> None:
    found = answers[told["id"]]
    assert found["suspects"][0]["service"] == told["service"]
    assert found["suspects"][0]["fault"] == told["fault"]
    assert found["remediation"] == told["remediation"]
    change = found["root_cause_change"]
    if told["change"] is None:
        assert change is None
    else:
        assert change["ref"] in {told["change"]["ref"], *told["change"]["also"]}
    began = datetime.fromisoformat(found["onset"])
    assert abs(began - datetime.fromisoformat(told["onset"])) < timedelta(seconds=45)


@pytest.mark.parametrize("told", TRUTH, ids=lambda one: one["id"])
def test_the_decoys_are_looked_at_and_not_blamed(
    told: dict[str, Any], answers: dict[str, Any]
) -> None:
    found = answers[told["id"]]
    shown = {change["ref"]: change["score"] for change in found["changes"]}
    assert len(shown) > 1
    assert all(shown.get(ref, 0.0) < changes.EXPLAINS for ref in told["decoys"])


@pytest.mark.parametrize("told", TRUTH, ids=lambda one: one["id"])
def test_the_answer_has_its_form(told: dict[str, Any], answers: dict[str, Any]) -> None:
    found = answers[told["id"]]
    assert set(found) >= KEYS
    assert json.loads(json.dumps(found)) == found
    scores = [one["score"] for one in found["suspects"]]
    services = [one["service"] for one in found["suspects"]]
    assert scores == sorted(set(scores), reverse=True)
    assert len(set(services)) == len(services)
    assert {one["fault"] for one in found["suspects"]} <= FAULTS
    evidence.check(found)


def test_the_attribute_that_sets_bad_requests_apart_is_named(answers: dict[str, Any]) -> None:
    attribute = answers["runtime-upgrade"]["suspects"][0]["attribute"]
    assert "aurora-2-large-20250301" in attribute
    assert "us-1" in attribute


def test_evidence_can_be_run_again(lake: Lake, answers: dict[str, Any]) -> None:
    for found in answers.values():
        for entry in found["evidence"]:
            assert sorted(map(str, evidence.rerun(lake, entry))) == sorted(
                map(str, entry["result"])
            )


def test_a_claim_without_evidence_is_refused(answers: dict[str, Any]) -> None:
    found = json.loads(json.dumps(answers["bad-commit"]))
    found["suspects"][0]["evidence"] = ["e99"]
    with pytest.raises(UncitedClaim):
        evidence.check(found)


def test_detect_finds_the_incidents_and_again_the_same(lake: Lake) -> None:
    first = detect(lake)
    assert first["onset"].dt.strftime("%Y-%m-%d %H:%M").to_list() == [
        "2025-03-11 14:05",
        "2025-03-12 09:20",
        "2025-03-13 16:30",
    ]
    version = lake.version("incidents")
    assert detect(lake).equals(first)
    assert lake.version("incidents") == version
    late = detect(lake, datetime(2025, 3, 12, 12, tzinfo=UTC))
    assert late.height == 1


def test_an_incident_is_diagnosed_by_its_id_and_kept(lake: Lake) -> None:
    incident = detect(lake)["incident_id"][1]
    found = diagnose(lake, of_incident(lake, incident))
    assert (found["incident_id"], found["suspects"][0]["service"]) == (incident, "cart")
    kept = lake.read("diagnoses").sort("recorded_at").row(-1, named=True)
    assert json.loads(kept["answer"]) == found
    with pytest.raises(UserError, match="there is no incident 'INC-1'"):
        of_incident(lake, "INC-1")


@pytest.mark.parametrize(
    "body",
    [
        {"service": "checkout", "fired_at": "2025-03-11T14:08:00Z", "metric": "latency"},
        {
            "alerts": [
                {
                    "status": "firing",
                    "startsAt": "2025-03-11T14:08:00Z",
                    "labels": {"service": "checkout"},
                }
            ]
        },
    ],
)
def test_an_alert_asks_the_question(tmp_path: Path, body: dict[str, Any]) -> None:
    file = tmp_path / "alert.json"
    file.write_text(json.dumps(body))
    asked = of_alert(str(file))
    assert (asked.service, asked.at) == ("checkout", datetime(2025, 3, 11, 14, 8, tzinfo=UTC))


def test_a_time_without_telemetry_is_one_sentence(lake: Lake) -> None:
    with pytest.raises(UserError, match="no repaired telemetry around 2024-01-02"):
        diagnose(lake, Question(datetime(2024, 1, 2, 12, tzinfo=UTC)))


def only(lake: Lake, folder: Path, *tables: str) -> Lake:
    """A lake with some of another's tables filled."""
    made = Lake(folder / "-".join(tables)).create()
    for name in tables:
        made.append(name, lake.read(name))
    return made


AT = datetime(2025, 3, 12, 9, 23, tzinfo=UTC)


def test_metrics_alone_give_a_careful_answer(lake: Lake, tmp_path: Path) -> None:
    found = diagnose(only(lake, tmp_path, "samples", "series"), Question(AT))
    assert found["verdict"] != "confirmed"
    assert any("traces" in one for one in found["missing"])


def test_traces_alone_are_enough_for_a_network_delay(lake: Lake, tmp_path: Path) -> None:
    found = diagnose(only(lake, tmp_path, "spans", "red", "edges"), Question(AT))
    assert found["suspects"][0]["service"] == "cart"
    assert {"no logs in the incident's window", "no metrics in the incident's window"} <= set(
        found["missing"]
    )


def test_logs_alone_do_not_break_it(lake: Lake, tmp_path: Path) -> None:
    found = diagnose(only(lake, tmp_path, "logs", "templates"), Question(AT))
    assert found["verdict"] == "inconclusive"


def test_a_healthy_time_blames_nobody_surely(lake: Lake) -> None:
    found = diagnose(lake, Question(datetime(2025, 3, 12, 9, 16, tzinfo=UTC)))
    assert found["verdict"] == "inconclusive"
    assert found["root_cause_change"] is None


def test_an_alert_opens_an_incident_where_none_is_known(lake: Lake, tmp_path: Path) -> None:
    bare = only(lake, tmp_path, "spans", "red", "edges", "logs", "templates")
    file = tmp_path / "alert.json"
    alert = {"status": "firing", "startsAt": "2025-03-12T09:23:00Z"}
    labels = {"alertname": "SlowCheckout", "service": "checkout"}
    file.write_text(json.dumps({"alerts": [alert], "commonLabels": labels}))
    found = diagnose(bare, of_alert(str(file)))
    assert found["suspects"][0]["service"] == "cart"
    opened = bare.read("incidents").row(0, named=True)
    assert (opened["incident_id"], opened["status"]) == (found["incident_id"], "open")
    assert opened["trigger"] == "alert SlowCheckout"
    assert detect(bare).filter(pl.col("onset").dt.date() == AT.date()).height == 1


def pruned(lake: Lake, folder: Path, name: str, keep: pl.Expr, *others: str) -> Lake:
    """A lake with the spans that are kept, and other tables whole."""
    made = only(lake, folder / name, *others)
    made.append("spans", lake.scan("spans").filter(keep).collect())
    return made


def test_one_service_alone_is_looked_at(lake: Lake, tmp_path: Path) -> None:
    keep = pl.col("service") == "cart"
    found = diagnose(pruned(lake, tmp_path, "one", keep), Question(AT))
    assert {one["service"] for one in found["suspects"]} <= {"cart"}
    assert found["verdict"] != "confirmed"


def test_without_healthy_time_nothing_is_sure(lake: Lake, tmp_path: Path) -> None:
    keep = pl.col("start") >= datetime(2025, 3, 12, 9, 21, tzinfo=UTC)
    found = diagnose(pruned(lake, tmp_path, "fresh", keep), Question(AT))
    assert found["verdict"] == "inconclusive"
    assert "no traces of healthy time to compare with" in found["missing"]


def test_a_gap_in_the_clock_breaks_nothing(lake: Lake, tmp_path: Path) -> None:
    at = pl.col("start")
    gap = at.is_between(AT - timedelta(minutes=14), AT - timedelta(minutes=3))
    found = diagnose(pruned(lake, tmp_path, "gap", ~gap), Question(AT))
    assert found["suspects"][0]["service"] == "cart"


def test_the_onset_is_found_before_the_first_look_where_healthy_time_is_named(lake: Lake) -> None:
    began = datetime.fromisoformat(TRUTH[0]["onset"])
    usual = (began - timedelta(minutes=40), began - timedelta(minutes=10))
    seen, _ = look(lake, Question(began + timedelta(minutes=5), baselines=(usual,)))
    assert abs(seen.window[0] - began) < timedelta(seconds=45)


def test_the_onset_is_where_the_share_rises() -> None:
    start = datetime(2025, 3, 11, tzinfo=UTC)
    flags = [place % 17 == 0 for place in range(60)] + [place % 5 != 0 for place in range(40)]
    events = pl.DataFrame(
        {"ts": [start + timedelta(seconds=place) for place in range(100)], "abnormal": flags}
    )
    found = onset.change_point(events.sample(fraction=1.0, shuffle=True, seed=3))
    assert found is not None
    assert abs((found - start).total_seconds() - 61) <= 1
    assert onset.change_point(events.with_columns(abnormal=pl.lit(value=False))) is None


@pytest.mark.parametrize(
    ("diff", "fault", "reason"),
    [
        ("-POOL_SIZE = 20\n+POOL_SIZE = 2", "capacity", "pool"),
        ("+    for line in lines:\n+        db.query(line)", "dependency", "loop"),
        ("-create index on orders (id)", "dependency", "index"),
        ("-  if user is None:\n-    return", "exception", "check for nothing"),
        ("-requests==2.31\n+requests==2.32", "exception", "version"),
    ],
)
def test_a_diff_is_read_for_what_it_does(diff: str, fault: str, reason: str) -> None:
    row = {"kind": "commit", "diff": f"diff --git a/x.py b/x.py\n{diff}", "files": ["x.py"]}
    assert any(reason in one for one in changes.does(row, fault))


@pytest.mark.parametrize("path", ["docs/a.md", "tests/test_a.py", "README.md"])
def test_documents_and_tests_do_not_run(path: str) -> None:
    row = {
        "kind": "commit",
        "diff": f"diff --git a/{path} b/{path}\n-POOL_SIZE = 20\n+POOL_SIZE = 2",
    }
    assert changes.does(row, "capacity") == []


def test_little_healthy_time_never_confirms() -> None:
    loud = {"loud": 4.5, "lead": 0.9, "agree": 3.0}
    assert verdict.verdict(verdict.confidence(loud, 500)) == "confirmed"
    assert verdict.verdict(verdict.confidence(loud, 5)) == "inconclusive"


def test_the_command_prints_one_object(demo_folder: Path) -> None:
    words = ["diagnose", "--at", "2025-03-11T14:08Z", "--json"]
    words += ["--baseline", "2025-03-11T13:45Z/2025-03-11T14:00Z"]
    done = rootlake("--lake", demo_folder / "lake", *words)
    assert json.loads(done.stdout)["suspects"][0]["service"] == "inventory", done.stderr


def test_no_name_of_a_system_under_test_is_in_the_code() -> None:
    services = {one["service"] for one in TRUTH} | {"checkout", "frontend", "train-ticket"}
    prefixed = re.compile(r"\bts-[a-z0-9]+-service|train.?ticket|nezha", re.IGNORECASE)
    for file in (ROOT / "rca").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not set(text.replace('"', " ").replace("'", " ").split()) & services, file
        assert not prefixed.search(text), file


def test_the_confidence_says_how_it_was_fitted() -> None:
    fitted = verdict.calibration()
    assert sum(fitted["rows"].values()) >= 150
    assert fitted["error"] <= 0.05
    sure = {"loud": 0.5, "lead": 0.3, "agree": 1.0}
    for name in sure:
        assert verdict.confidence({**sure, name: 0.0}, 500) < verdict.confidence(sure, 500)


def test_diagnoses_fit_their_table(lake: Lake) -> None:
    assert lake.read("diagnoses").columns == TABLES["diagnoses"].schema.names
