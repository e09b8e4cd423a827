"""The command line answers quickly, explains itself, and never shows a bare traceback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import polars as pl
import pytest
from deltalake import DeltaTable

from lake import TABLES, Lake, empty, fit
from rootlake.cli import COMMANDS, parser

from .conftest import ROOT, process, rootlake


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, rootlake.cli; rootlake.cli.parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"polars", "pyarrow", "duckdb", "deltalake", "langchain", "numpy", "pydantic", "rich"}
    assert not heavy & set(done.stdout.split())


def test_help_answers_at_once() -> None:
    times = []
    for _ in range(5):
        began = perf_counter()
        assert process("--help").returncode == 0
        times.append(perf_counter() - began)
    assert min(times) < 0.3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str) -> None:
    done = rootlake(command, "--help")
    assert done.returncode == 0
    assert f"example:\n  rootlake {command}" in done.stdout


def test_global_options_stand_before_or_after_the_command() -> None:
    before = parser().parse_args(["--lake", "x", "--json", "status"])
    after = parser().parse_args(["status", "--lake", "x", "--json"])
    assert (before.lake, before.json) == (after.lake, after.json) == ("x", True)
    assert parser().parse_args(["status"]).json is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nosuch"], "invalid choice: 'nosuch'"),
        (["ingest", "jaeger"], "give a PLACE"),
        (["ingest", "zipkin", "x"], "there is no source 'zipkin'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(words: list[str], says: str) -> None:
    done = process(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def one_clear_sentence(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode in {1, 2}, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for text in says:
        assert text in done.stderr


def test_input_that_cannot_be_read_leaves_no_lake(tmp_path: Path) -> None:
    where = tmp_path / "lake"
    cut = tmp_path / "cut.json"
    cut.write_text('{"data": [{"traceID": "ab", "spans": [')
    zipped = tmp_path / "cut.json.gz"
    zipped.write_bytes(gzip.compress(b'{"data": []}')[:-9])
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    odd = tmp_path / "picture.json"
    odd.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    ingest = ["--lake", where, "ingest"]
    one_clear_sentence(rootlake(*ingest, "jaeger", cut), "cut.json")
    one_clear_sentence(rootlake(*ingest, "jaeger", zipped), "cut.json.gz")
    one_clear_sentence(rootlake(*ingest, "jaeger", nothing), "nothing")
    one_clear_sentence(rootlake(*ingest, "jaeger", odd), "picture.json")
    one_clear_sentence(rootlake(*ingest, "sentry", cut), "cut.json")
    one_clear_sentence(rootlake(*ingest, "prometheus", odd), "picture.json")
    one_clear_sentence(rootlake(*ingest, "logs", nothing), "nothing")
    one_clear_sentence(rootlake(*ingest, "git", nothing), "nothing")
    one_clear_sentence(rootlake(*ingest, "jaeger", tmp_path / "absent"), "absent")
    once = ["--set", "attempts=1"]
    one_clear_sentence(rootlake(*ingest, "prometheus", "http://127.0.0.1:9", *once), "127.0.0.1:9")
    one_clear_sentence(rootlake(*ingest, "prometheus", "http://["), "http://[")
    assert not where.exists()


@pytest.mark.parametrize("command", ["status", "repair", "detect", "diagnose --at 2025-03-11"])
def test_no_lake_is_one_clear_sentence(tmp_path: Path, command: str) -> None:
    done = process("--lake", tmp_path / "absent", *command.split())
    one_clear_sentence(done, "there is no lake at")


def test_a_lake_of_a_newer_version_is_left_untouched(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    table = DeltaTable(lake.uri("raw_spans"))
    table.alter.set_table_properties({"rootlake.format": "99"}, raise_if_not_exists=False)
    before = sorted(path.name for path in Path(lake.root).rglob("*"))
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"data": []}))
    for words in (["status"], ["repair"], ["ingest", "jaeger", trace]):
        one_clear_sentence(rootlake("--lake", lake.root, *words), "format 99", "upgrade")
    assert sorted(path.name for path in Path(lake.root).rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lake = 7", "lake = 7"),
        ("lak = 'x'", "no setting 'lak'"),
        ("[workspace]\nprometheus = 1", "workspace.prometheus = 1"),
        ("lake = ", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "rootlake.toml"
    file.write_text(text)
    one_clear_sentence(rootlake("--config", file, "status"), says)


def test_settings_that_begin_with_a_mark_are_read_and_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "rootlake.toml").write_bytes(b"\xef\xbb\xbflak = 'x'\n")
    done = rootlake("--config", tmp_path / "rootlake.toml", "status")
    one_clear_sentence(done, "no setting 'lak'")
    one_clear_sentence(rootlake("--config", tmp_path, "status"), "cannot read", "Is a directory")


@pytest.mark.parametrize(
    "words",
    [
        *("repair --undo=", "repair --explain=", "repair --date="),
        *("maintain --erase=", "quality --date=", "diagnose --at=", "status --lake="),
        *("ingest jaeger x --since=", "cardinality --top=0", "detect --since=never"),
    ],
)
def test_an_option_left_empty_does_nothing_else_instead(tmp_path: Path, words: str) -> None:
    lake = Lake(tmp_path / "lake").create()
    done = rootlake("--lake", lake.root, *words.split())
    assert done.returncode == 2
    one_clear_sentence(done)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is gone"),
        (b"", "has 0 bytes where the table's log says"),
        (b"PAR1" + bytes(70), "has 74 bytes where the table's log says"),
    ],
)
@pytest.mark.parametrize("command", ["evidence", "report INC-1", "sql select+*+from+diagnoses"])
def test_a_data_file_that_is_damaged_is_named(
    tmp_path: Path, content: bytes | None, says: str, command: str
) -> None:
    lake = Lake(tmp_path / "lake").create()
    kept = {"incident_id": "INC-1", "run_id": "r", "recorded_at": datetime(2025, 3, 11, tzinfo=UTC)}
    whole = pl.concat([empty(TABLES["diagnoses"]), pl.DataFrame([kept])], how="diagonal_relaxed")
    lake.append("diagnoses", fit(TABLES["diagnoses"], whole))
    (file,) = (Path(lake.root) / "diagnoses").rglob("*.parquet")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    words = [word.replace("+", " ") for word in command.split()]
    one_clear_sentence(rootlake("--lake", lake.root, *words), file.name, "of diagnoses", says)


def test_a_pipe_that_closes_early_or_knows_few_characters_is_no_failure(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    query = "select i, 'é “”' as quoted from range(20000) t(i)"
    words = [sys.executable, "-m", "rootlake.cli", "--lake", lake.root, "sql", query, "--rows=0"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as pipe:
        assert pipe.stdout is not None
        assert pipe.stderr is not None
        assert b"?" in pipe.stdout.read(4000)
        pipe.stdout.close()
        assert pipe.stderr.read() == b""
    assert pipe.returncode == 0


def test_what_the_operating_system_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"ts": "2025-03-11T14:00:00Z", "kind": "deploy"}\n')
    name = "x" * 300
    done = rootlake("--lake", tmp_path / name, "ingest", "changes", tmp_path / "a.jsonl")
    one_clear_sentence(done, "File name too long")


def test_sql_keeps_columns_of_one_name_apart_and_its_json_is_json(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    query = "select 'x' as a, 2 as a, 'nan'::double as f, [-1e999] as l, '\\xAB'::blob as b"
    done = rootlake("--lake", lake.root, "--json", "sql", query)
    (row,) = json.loads(done.stdout, parse_constant=pytest.fail)
    assert row == {"a": "x", "a_1": 2, "f": "nan", "l": ["-inf"], "b": "ab"}
    assert "a_1" in rootlake("--lake", lake.root, "sql", query).stdout


def test_a_wide_answer_stands_line_by_line_and_a_long_cell_is_cut_and_counted(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake").create()
    wide = ", ".join(f"'value {n}' as column_{n}" for n in range(30))
    lines = rootlake("--lake", lake.root, "sql", f"select {wide}").stdout.splitlines()
    assert [line.split() for line in lines if "column_7" in line] == [["column_7", "value", "7"]]
    long = rootlake("--lake", lake.root, "sql", "select repeat('x', 5000000) as a").stdout
    assert "4,996,000 more characters" in " ".join(long.split())
    one_clear_sentence(rootlake("--lake", lake.root, "sql", "select 1", "--rows=-1"), "--rows -1")


def test_paths_in_the_settings_are_read_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "rootlake.toml").write_text('lake = "here"\n')
    Lake(tmp_path / "here").create()
    done = rootlake("--config", tmp_path / "rootlake.toml", "status", "--json")
    assert json.loads(done.stdout)["lake"] == str(tmp_path / "here")
