"""Makes the shipped weights from the examples: `python -m rca.intents.train [FILE]`.

The temperature is fitted on software that no phrase was written with (`labelled.CALIBRATING`).
How right the model is: `python -m bench.intents`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rca.intents import features, labelled, phrases
from rca.intents.fit import Array, fit, temperature, without
from rca.intents.labelled import Example
from rca.intents.model import FILE, Model, scored
from rca.intents.taxonomy import INTENTS

ORDER = {name: place for place, name in enumerate(INTENTS)}


def answers(examples: Sequence[Example]) -> NDArray[np.int64]:
    return np.array([ORDER[one.intent] for one in examples], dtype=np.int64)


def trained(examples: Sequence[Example], calibrating: Sequence[Example]) -> Model:
    """The model of some examples, as sure as it is right on others of other software."""
    every = [*examples, *labelled.names()]
    weights = fit(features.matrix(_texts(every)), answers(every), len(ORDER))
    at = temperature(scored(_texts(calibrating), weights), answers(calibrating))
    return Model(weights.astype(np.float16).astype(np.float64), at)


def left_out(examples: Sequence[Example]) -> Array:
    """Scores of every example by a model that saw no example of its software."""
    every = [*examples, *labelled.names()]
    kinds = sorted({one.software for one in every})
    group = np.array([kinds.index(one.software) for one in every])
    found = without(features.matrix(_texts(every)), answers(every), len(ORDER), group)
    return found[: len(examples)] + phrases.worth(_texts(examples))


def _texts(examples: Sequence[Example]) -> list[str]:
    return [one.template for one in examples]


def main() -> None:
    model = trained(labelled.read(), labelled.read(labelled.CALIBRATING))
    save(model, Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)


def save(model: Model, file: Path) -> None:
    """The same model gives the same file."""
    np.savez_compressed(
        file, weights=model.weights.astype(np.float16), temperature=np.float64(model.temperature)
    )


if __name__ == "__main__":
    main()
