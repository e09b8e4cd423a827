"""`rootlake run`: one cycle over all configured sources, whatever becomes of each of them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest.run import ingest
from ingest.source import made, registered, source_class
from ingest.web import WebOptions
from lake import TABLES, Lake, UserError
from lake.migrate import Step, migrate, pending
from lake.tables import FORMAT_KEY
from rootlake.cli import main
from rootlake.config import Config, Expected, Source, load
from rootlake.cycle import Cycle, cycle
from rootlake.template import template

from .conftest import ROOT, rootlake
from .test_land import traces

DEPLOY = ROOT / "deploy"


def settings(folder: Path, *sources: str, run: str = "") -> Path:
    file = folder / "rootlake.toml"
    whole = "".join(f"\n[[sources]]\n{one}\n" for one in sources)
    file.write_text(f'lake = "lake"\n[run]\nmetrics = "own.om"\n{run}\n{whole}')
    return file


def ran(file: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = rootlake("--config", file, "--json", "run", *words)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_cycle_pulls_repairs_and_detects_and_a_second_changes_nothing(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=2, spans=40)
    file = settings(tmp_path, 'kind = "jaeger"\ntarget = "traces"')
    code, first = ran(file)
    assert (code, first["sources"][0]["counts"]["rows"], first["failed"]) == (0, 80, [])
    assert list(first["steps"]) == ["repair", "quality", "detect", "diagnose"]
    versions = Lake(tmp_path / "lake").versions(*TABLES)
    code, again = ran(file)
    assert (code, again["sources"][0]["counts"]["rows"]) == (0, 0)
    assert Lake(tmp_path / "lake").versions(*versions) == versions


def test_one_source_that_fails_stops_no_other_and_is_named(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=40)
    file = settings(
        tmp_path,
        'kind = "prometheus"\nname = "prod"\ntarget = "http://127.0.0.1:9"\nattempts = 1',
        'kind = "jaeger"\ntarget = "traces"',
    )
    code, done = ran(file)
    assert (code, done["failed"]) == (1, ["ingest prod"])
    assert "no Prometheus server answers" in done["sources"][0]["error"]
    assert done["sources"][1]["counts"]["rows"] == 40
    own = (tmp_path / "own.om").read_text()
    assert 'rootlake_source_up{source="prod",kind="prometheus"} 0' in own
    assert 'rootlake_source_rows{source="jaeger",kind="jaeger"} 40' in own
    assert own.endswith("# EOF\n")


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """Settings of a lake with spans that `run` has still to make something of."""
    traces(tmp_path / "traces", files=1, spans=40)
    ingest(Lake(tmp_path / "lake"), "jaeger", tmp_path / "traces")
    return settings(tmp_path)


def followed(file: Path, more: str = "") -> Cycle:
    file.write_text(file.read_text() + more)
    return cycle(load(str(file)), Lake(file.parent / "lake"), [], pull=False)


def test_a_check_that_fails_is_kept_and_told_and_stops_nothing(
    pulled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = '[[expectations]]\nname = "quick"\ntable = "spans"\npredicate = "duration_ns < 0"\n'
    pulled.write_text(pulled.read_text() + own)
    words = ["--config", str(pulled), "run", "--no-ingest"]
    assert main(words) == 0
    assert re.search(r"quality .* FAILED: .*spans\.quick", capsys.readouterr().out)
    assert main([*words, "--strict"]) == 3
    told = capsys.readouterr().out
    assert "spans.quick" in told
    assert "detect " in told
    assert "diagnose " in told
    kept = Lake(pulled.parent / "lake").read("scorecard")
    mine = kept.filter(pl.col("check_name") == "expect quick")
    assert mine["faulty"].sum() == 40
    assert "rootlake_checks_failed " in (pulled.parent / "own.om").read_text()


@pytest.mark.parametrize(
    ("more", "failed", "says"),
    [
        pytest.param(
            "predicate = 'speed < 1'", "quality", "speed", id="a predicate that cannot be"
        ),
        pytest.param(
            "predicate = 'duration_ns < 0'\naction = 'fail'",
            "repair",
            "an expectation refused",
            id="a day that is refused",
        ),
    ],
)
def test_a_step_that_fails_is_named_and_the_others_run(
    pulled: Path, more: str, failed: str, says: str
) -> None:
    done = followed(pulled, f"[[expectations]]\nname = 'x'\ntable = 'spans'\n{more}\n")
    assert done.failed == [failed]
    assert says in done.steps[failed]["error"]
    assert list(done.steps) == ["repair", "quality", "detect", "diagnose"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_its_own_metrics_are_sound(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    ran(settings(tmp_path, 'kind = "jaeger"\ntarget = "traces"'))
    text = (tmp_path / "own.om").read_text().replace("# EOF\n", "")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_source_fallen_silent_is_said(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    file = settings(tmp_path, 'kind = "jaeger"\ntarget = "traces"\nsilent = 1')
    done = rootlake("--config", file, "--strict", "run")
    assert done.returncode == 3
    assert re.search(r"newest \d+ d ago  SILENT", done.stdout)


def test_a_second_cycle_beside_the_first_stops_with_a_message(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    file = settings(tmp_path, 'kind = "jaeger"\ntarget = "traces"')
    ran(file)
    with Lake(tmp_path / "lake").lock("rootlake run"):
        done = rootlake("--config", file, "run")
    assert done.returncode == 1
    assert "another rootlake run is running" in done.stderr


def test_a_source_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    file = settings(tmp_path, 'kind = "jaeger"\ntarget = "traces"', run="timeout = 0.01")
    code, done = ran(file)
    assert code == 1
    assert "took longer than 0.01 s" in done["sources"][0]["error"]


def test_a_cycle_told_to_stop_stops_its_pulls(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        source = f'kind = "jaeger"\ntarget = "http://127.0.0.1:{port}"\ntimeout = 60'
        file = settings(tmp_path, source)
        command = [sys.executable, "-m", "rootlake.cli", "--config", str(file), "run"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as cycle:
            peer, _ = silent.accept()  # its pull has asked the server, which never answers
            cycle.terminate()
            assert cycle.stderr is not None
            assert "interrupted; what landed stays" in cycle.stderr.read()
        assert cycle.returncode == 130
        with peer:
            peer.settimeout(20)
            while peer.recv(4096):
                pass  # until the pull is gone


def test_a_window_of_a_file_is_refused(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    done = rootlake(
        "--lake", tmp_path / "lake", "ingest", "jaeger", tmp_path / "traces", "--since=2h"
    )
    assert done.returncode == 2
    assert "--since and --until are for servers" in done.stderr


def test_what_follows_runs_without_a_pull(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    file = settings(tmp_path, 'kind = "jaeger"\ntarget = "traces"')
    assert rootlake("--config", file, "ingest", "jaeger").returncode == 0
    code, done = ran(file, "--no-ingest")
    assert (code, done["sources"]) == (0, [])
    assert done["steps"]["repair"]["days"] == 1


def test_init_writes_a_commented_file_and_tries_each_source(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    file = tmp_path / "rootlake.toml"
    done = rootlake("--config", file, "init", "--add", f"jaeger={tmp_path / 'traces'}")
    assert done.returncode == 0
    assert "jaeger: readable:" in done.stdout
    assert load(str(file)).sources[0].kind == "jaeger"
    before = file.read_text()
    done = rootlake("--config", file, "init", "--add", "prometheus=http://127.0.0.1:9")
    assert done.returncode == 1
    assert "failed prometheus: no Prometheus server answers" in done.stdout
    assert file.read_text().startswith(before)
    assert not (tmp_path / "lake").exists()


def test_the_file_that_init_writes_shows_every_setting_there_is(tmp_path: Path) -> None:
    file, text = tmp_path / "rootlake.toml", template()
    file.write_text(text)
    assert load(str(file)) == Config().model_copy(update={"lake": str(tmp_path / "lake")})
    file.write_text(re.sub(r"^# (?=\w+ = |\[\[)", "", text, flags=re.MULTILINE))
    told, config = tomllib.loads(file.read_text()), load(str(file))
    assert told.keys() == Config.model_fields.keys()
    for name in ("run", "quality", "maintain", "workspace", "model"):
        assert told[name].keys() == type(getattr(config, name)).model_fields.keys(), name
    assert told["expectations"][0].keys() == Expected.model_fields.keys()
    shared = {*Source.model_fields, *WebOptions.model_fields}
    assert told["sources"][0].keys() >= shared
    for one, source in zip(told["sources"], config.sources, strict=True):
        made(source.kind, source.options)
        assert source_class(source.kind).options.model_fields.keys() <= one.keys() | shared
    own = {name for name, point in registered().items() if point.module.startswith("ingest.")}
    assert {one["kind"] for one in told["sources"]} == own


def test_a_second_source_of_a_kind_gets_a_name_of_its_own(tmp_path: Path) -> None:
    traces(tmp_path / "traces", files=1, spans=4)
    words = ["--add", f"jaeger={tmp_path / 'traces'}"]
    assert main(["--config", str(tmp_path / "r.toml"), "init", *words, *words]) == 0
    assert main(["--config", str(tmp_path / "r.toml"), "init", *words]) == 0
    names = [one.called for one in load(str(tmp_path / "r.toml")).sources]
    assert names == ["jaeger", "jaeger-2", "jaeger-3"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[run]\nparallel = 0", "run.parallel = 0: input should be greater than or equal to 1"),
        ("[run]\nsteps = ['fly']", "run.steps.0 = 'fly': input should be 'repair'"),
        ("[[sources]]\nkind = 'jaeger'", "sources.0.target"),
        ("lakes = 'x'", "there is no setting 'lakes'"),
        ("lake = ", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "rootlake.toml").write_text(text)
    with pytest.raises(UserError, match=re.escape(says)):
        load(str(tmp_path / "rootlake.toml"))


def test_an_older_lake_is_migrated_step_by_step_only_when_asked(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    told: list[int] = []
    steps = [
        Step(2, "second", lambda _lake: told.append(2)),
        Step(1, "first", lambda _lake: told.append(1)),
    ]
    for name in ("spans", "cases"):
        lake.open(name).alter.set_table_properties({FORMAT_KEY: "0"}, raise_if_not_exists=False)
    assert [step.target for step in pending(lake, steps[1:])] == [1]
    migrate(lake, steps[1:])
    assert told == [1]
    assert not pending(lake, steps[1:])


def test_the_cron_job_is_whole_and_its_settings_load() -> None:
    assert load(str(DEPLOY / "kubernetes" / "rootlake.toml")).sources
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: the kustomization is not built")
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text in ("kind: CronJob", "concurrencyPolicy: Forbid", "ROOTLAKE_SALT", "kind = "):
        assert text in done.stdout


def test_the_airflow_example_calls_what_there_is() -> None:
    text = (DEPLOY / "airflow" / "rootlake_dag.py").read_text()
    compile(text, "rootlake_dag.py", "exec")
    assert rootlake("run", "--help").stdout.count("--no-ingest")
    unit = (DEPLOY / "systemd" / "rootlake.service").read_text()
    assert "rootlake --config /etc/rootlake/rootlake.toml run" in unit
