"""`rootlake evidence ID`: a claim's query is run again at the versions it cites, and judged."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import polars as pl
import pytest

from lake import TABLES, Lake, empty
from rca import evidence
from rca.diagnose import diagnose
from rca.question import Question

from .conftest import rootlake

AT = datetime(2025, 3, 11, 14, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, str]:
    """A copy of the demo's lake with a diagnosis of its own, newest of all, and its incident."""
    copy = tmp_path_factory.mktemp("evidence") / "lake"
    shutil.copytree(demo_folder / "lake", copy)
    lake = Lake(copy)
    return lake, str(diagnose(lake, Question(AT))["incident_id"])


@pytest.fixture
def fresh(made: tuple[Lake, str], tmp_path: Path) -> Lake:
    """A copy to spoil."""
    shutil.copytree(made[0].root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def asked(lake: Lake, *words: str) -> CompletedProcess[str]:
    return rootlake("--lake", lake.root, "evidence", *words)


def entry_of(lake: Lake, table: str) -> dict[str, Any]:
    """The first piece of evidence of the newest diagnosis that cites one table alone."""
    answer = json.loads(lake.scan("diagnoses").sort("recorded_at").collect()["answer"][-1])
    return next(one for one in answer["evidence"] if list(one["tables"]) == [table])


def grown(lake: Lake, table: str) -> None:
    """The table doubled: a newer version that gives other counts."""
    lake.append(table, lake.read(table))


def test_without_an_id_the_evidence_is_listed(made: tuple[Lake, str]) -> None:
    done = asked(made[0])
    assert done.returncode == 0, done.stderr
    assert made[1] in done.stdout
    listed = json.loads(asked(made[0], "--json").stdout)
    assert [one["id"] for one in listed] == [f"e{n + 1}" for n in range(len(listed))]


def test_a_piece_of_evidence_still_holds(made: tuple[Lake, str]) -> None:
    lake, incident = made
    done = asked(lake, "e1", "--strict")
    assert done.returncode == 0, done.stderr
    assert f"{incident}/e1: " in done.stdout
    assert "it still holds; the newest versions give the same." in done.stdout
    found = json.loads(asked(lake, f"{incident}/e1", "--json").stdout)
    assert found["holds"] is True
    assert found["fresh"] == found["newest"] == found["result"]
    assert found["incident_id"] == incident


def test_the_cited_versions_are_judged_by_not_the_newest(fresh: Lake) -> None:
    entry = entry_of(fresh, "spans")
    grown(fresh, "spans")
    done = asked(fresh, entry["id"], "--json", "--strict")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["holds"] is True
    assert found["tables"]["spans"] < found["versions"]["spans"]
    assert found["fresh"] == entry["result"] != found["newest"]
    assert found["says"].startswith("it still holds; the newest versions give something else")


def tampered(lake: Lake) -> None:
    """The newest diagnosis said something else than its query gives."""
    kept = lake.scan("diagnoses").sort("recorded_at").collect()
    answer = json.loads(kept["answer"][-1])
    first = answer["evidence"][0]
    first["result"] = [["another"] * len(first["columns"])]
    row = kept.tail(1).with_columns(
        recorded_at=pl.col("recorded_at") + pl.duration(days=1), answer=pl.lit(json.dumps(answer))
    )
    lake.append("diagnoses", row.select(TABLES["diagnoses"].schema.names))


def test_evidence_that_does_not_hold_is_said_and_needs_a_look(fresh: Lake) -> None:
    tampered(fresh)
    done = asked(fresh, "e1")
    assert done.returncode == 0
    assert "it does not hold: the same versions give something else" in done.stdout
    assert asked(fresh, "e1", "--strict").returncode == 3
    assert json.loads(asked(fresh, "e1", "--json").stdout)["holds"] is False


def vacuumed(lake: Lake, table: str) -> None:
    """The files of the version so far are gone, as a vacuum without regard would do."""
    old = lake.open(table).file_uris()
    lake.replace_day(table, lake.read(table)["date"][0], empty(TABLES[table]))
    left = set(lake.open(table).file_uris())
    for file in set(old) - left:
        Path(file.removeprefix("file://")).unlink()


def test_a_version_that_is_gone_is_said_and_fails(fresh: Lake) -> None:
    entry = entry_of(fresh, "spans")
    vacuumed(fresh, "spans")
    done = asked(fresh, entry["id"])
    assert done.returncode == 1, done.stderr
    version = entry["tables"]["spans"]
    assert f"spans at version {version} cannot be read any more: vacuum removed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    found = json.loads(asked(fresh, entry["id"], "--json").stdout)
    assert (found["holds"], found["fresh"]) == (None, None)
    assert found["result"] == entry["result"]


def test_one_cited_table_that_is_gone_is_named_and_the_other_is_not(fresh: Lake) -> None:
    versions = fresh.versions("spans", "edges")
    vacuumed(fresh, "spans")
    assert evidence.gone(fresh, versions) == [f"spans at version {versions['spans']}"]
    assert evidence.gone(fresh, {"edges": 999}) == ["edges at version 999"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("e999", "has no evidence 'e999'; it has e1, "),
        ("INC-0/e1", "there is no diagnosis of INC-0; there is one of"),
    ],
)
def test_an_id_that_is_not_there_is_one_line(made: tuple[Lake, str], name: str, says: str) -> None:
    done = asked(made[0], name)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_lake_without_diagnoses_says_what_to_do(tmp_path: Path) -> None:
    done = asked(Lake(tmp_path / "lake").create(), "e1")
    assert done.returncode == 1
    assert "there is no diagnosis yet; `rootlake diagnose` makes one" in done.stderr
