"""Write the recorded incidents: `python -m sample_data.generator --seed 7 --out sample_data`."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sample_data.generator import corrupt, repo, write
from sample_data.generator.shop import SHOP, Topology
from sample_data.generator.simulate import Play, Recording
from sample_data.generator.story import STORY, Scenario

PARTS = ("jaeger", "prometheus", "sentry", "truth", *SHOP.clusters)


def generate(
    folder: Path, seed: int, scenarios: Sequence[Scenario] = STORY, topology: Topology = SHOP
) -> None:
    """Every source's files, the truth, and a list of checksums, below `folder`."""
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
    planted, clocks, played = [], {}, []
    for number, scenario in enumerate(scenarios):
        rng = np.random.default_rng([seed, number])
        recording = Play(topology, scenario, rng).run()
        faults, nodes = _telemetry(folder, scenario, recording, topology, rng, step=number == 0)
        planted += faults
        clocks[scenario.name] = nodes
        played.append((scenario, recording))
    shas = repo.bundle(folder / "shop.bundle")
    write.kubernetes(folder, topology, played)
    write.changes(folder, scenarios, shas)
    _truth(folder, scenarios, shas, planted, clocks)
    _manifest(folder)


def _telemetry(
    folder: Path,
    scenario: Scenario,
    recording: Recording,
    topology: Topology,
    rng: np.random.Generator,
    *,
    step: bool,
) -> tuple[list[dict[str, object]], dict[str, object]]:
    since = scenario.start.timestamp()
    nodes = sorted({pod.node for pod in recording.pods.values()})
    clocks = corrupt.clocks(nodes, since, rng, step=step)
    rows, truth = corrupt.spoil(write.rows_of(recording, clocks, since), rng)
    where = write.jaeger(folder, scenario.name, rows, recording.pods)
    language = {name: service.language for name, service in topology.services.items()}
    write.logs(folder, recording, clocks, since, language)
    write.metrics(folder, scenario, recording, rng)
    write.sentry(folder, scenario, recording, rng)
    for one in truth:
        one["file"], one["place"] = where[one.pop("key")]
    return truth, {node: vars(clock) for node, clock in clocks.items()}


def _truth(
    folder: Path,
    scenarios: Sequence[Scenario],
    shas: dict[str, str],
    planted: list[dict[str, object]],
    clocks: dict[str, dict[str, object]],
) -> None:
    incidents = []
    for scenario in scenarios:
        answer = {"id": scenario.name, "onset": scenario.fault.onset.isoformat(), **scenario.truth}
        change = answer.get("change")
        if isinstance(change, dict):
            answer["change"] = {**change, "ref": shas[str(change["subject"])]}
        incidents.append(answer)
    write.put(folder / "truth" / "incidents.json", json.dumps(incidents, indent=1) + "\n")
    write.put(folder / "truth" / "clocks.json", json.dumps(clocks, indent=1) + "\n")
    lines = "".join(json.dumps(one) + "\n" for one in planted)
    write.put(folder / "truth" / "spans.jsonl.gz", lines)


def _manifest(folder: Path) -> None:
    """Checksums of every recorded file."""
    files = [file for part in PARTS for file in (folder / part).rglob("*") if file.is_file()]
    files += [folder / name for name in ("shop.bundle", "deploys.jsonl", "flags.jsonl")]
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
        for file in sorted(files)
    ]
    write.put(folder / "MANIFEST.sha256", "".join(lines))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent)
    given = parser.parse_args(argv)
    generate(given.out, given.seed)


if __name__ == "__main__":
    main()
