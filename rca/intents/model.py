"""The offline model: weights made by `python -m rca.intents.train`, shipped with the package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from rca.intents import features, phrases
from rca.intents.fit import Array, chances, scores
from rca.intents.taxonomy import INTENTS, UNKNOWN

FILE = Path(__file__).parent / "weights.npz"
NAME = "offline-model@2"
SURE = 0.9  # less sure, and the template stays unknown
_AT_ONCE = 5_000
_SHOWN = 600  # characters of a template that are looked at


class Model(NamedTuple):
    """weights: a row per feature and one for the constant, a column per intent (in INTENTS'
    order); temperature: what scores are divided by."""

    weights: Array
    temperature: float


@cache
def load(file: Path = FILE) -> Model:
    """The shipped model."""
    with np.load(file) as held:
        return Model(held["weights"].astype(np.float64), float(held["temperature"]))


def scored(texts: Sequence[str], weights: Array) -> Array:
    """How much speaks for each intent, a row per text."""
    return scores(features.matrix(texts), weights) + phrases.worth(texts)


def classify(templates: Sequence[str], model: Model | None = None) -> pl.DataFrame:
    """intent and intent_confidence of each template, in order; `unknown`, with the confidence of
    the best guess, where that is below SURE."""
    held = model or load()
    parts = [
        _classified(held, templates[low : low + _AT_ONCE])
        for low in range(0, len(templates), _AT_ONCE)
    ]
    schema = {"intent": pl.String, "intent_confidence": pl.Float64}
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def _classified(model: Model, templates: Sequence[str]) -> pl.DataFrame:
    told = scored([text[:_SHOWN] for text in templates], model.weights)
    found = chances(told, model.temperature)
    names = np.array(list(INTENTS))[found.argmax(axis=1)]
    sure = found.max(axis=1)
    intents = np.where(sure >= SURE, names, UNKNOWN)
    return pl.DataFrame({"intent": intents.tolist(), "intent_confidence": sure})
