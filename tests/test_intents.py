"""Intents of log templates: the labelled sets, the shipped model, the labels in `templates`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from bench import intents as bench
from lake import TABLES, Lake
from rca import intents
from rca.intents import labelled, model, train
from rca.intents.fit import temperature
from rca.intents.taxonomy import INTENTS, UNKNOWN
from rca.suspects.words import INTENTS as TOLD

FOLDERS = (labelled.FOLDER, labelled.CALIBRATING, bench.ASIDE)


def stored(path: Path, texts: list[str]) -> Lake:
    lake = Lake(str(path)).create()
    names = TABLES["templates"].schema.names
    empty = dict.fromkeys(names)
    rows = [
        {**empty, "template_id": f"{n}", "template": text, "count": n}
        for n, text in enumerate(texts)
    ]
    schema = {**lake.read("templates").schema}
    lake.update("templates", lambda _known: pl.DataFrame(rows, schema=schema))
    return lake


def test_every_label_is_of_the_taxonomy_and_no_template_stands_in_two_sets() -> None:
    sets = [labelled.read(folder) for folder in FOLDERS]
    assert {one.intent for some in sets for one in some} <= set(INTENTS)
    assert set(TOLD) <= set(INTENTS)
    software = [{one.software for one in some} for some in sets]
    assert not software[0] & software[1]
    assert not (software[0] | software[1]) & software[2]
    assert len(sets[0]) >= 1_500
    assert len(software[0]) >= 15


def test_the_shipped_temperature_is_the_one_its_weights_give() -> None:
    held, other = model.load(), labelled.read(labelled.CALIBRATING)
    found = model.scored([one.template for one in other], held.weights)
    again = temperature(found, train.answers(other))
    assert again == pytest.approx(held.temperature, rel=0.02)


def test_the_command_makes_the_shipped_model_again(tmp_path: Path) -> None:
    file = tmp_path / "weights.npz"
    command = [sys.executable, "-m", "rca.intents.train", str(file)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent, env=env)
    texts = [one.template for folder in FOLDERS for one in labelled.read(folder)]
    again = model.classify(texts, model.load(file))
    shipped = model.classify(texts)
    assert (again["intent"] == shipped["intent"]).mean() > 0.995
    assert model.load(file).temperature == pytest.approx(model.load().temperature, rel=0.02)


def test_the_shipped_model_knows_its_examples() -> None:
    examples = labelled.read()
    found = bench.shipped(examples).argmax(axis=1)
    assert (found == train.answers(examples)).mean() > 0.98


def test_what_the_model_is_unsure_of_is_unknown() -> None:
    found = model.classify(["zyx qwv", "dial tcp <*>: connect: connection refused"])
    assert found["intent"].to_list() == [UNKNOWN, "connection_refused"]
    assert found["intent_confidence"][0] < model.SURE <= found["intent_confidence"][1]
    assert model.classify([]).height == 0


def test_new_templates_are_labelled_once_and_labels_stay(tmp_path: Path) -> None:
    lake = stored(tmp_path, ["connect: connection refused", "No space left on device"])
    assert intents.label(lake) == 2
    assert intents.of(lake).sort("template_id")["intent"].to_list() == [
        "connection_refused",
        "disk_full",
    ]
    mine = pl.DataFrame({"template_id": ["1"], "intent": ["retry"], "labelled_by": ["ann"]})
    lake.update("templates", lambda known: intents.with_labels(known, mine))
    assert intents.label(lake) == 0
    assert intents.of(lake, ["1"])["intent"].to_list() == ["retry"]
