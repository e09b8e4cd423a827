"""Metrics of what was played: per pod and scrape, with a few hours of quiet history before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bench.incidents.faults import Fault
from bench.incidents.play import Played
from bench.incidents.system import Rng, System

HISTORY = 2.5 * 3600


@dataclass(frozen=True)
class Reading:
    name: str
    type: str
    place: np.ndarray  # pod numbers
    values: np.ndarray  # (pods, times)


def samples(
    system: System, played: Played, faults: Sequence[Fault], start: float, seconds: float, rng: Rng
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(samples, series): ts in seconds, metric, series number, value; and each series' labels."""
    times = np.arange(start - HISTORY, start + seconds, system.scrape)
    rows, series = [], []
    for reading in _readings(system, played, faults, times, rng):
        metric = system.names[reading.name]
        labels = _labels(system, reading)
        for _place, label in enumerate(labels):
            series.append({"metric": metric, "type": reading.type, **label})
        count = len(labels)
        rows.append(
            pl.DataFrame(
                {
                    "at": np.tile(times + rng.uniform(0, 1), count),
                    "metric": metric,
                    "row": np.repeat(np.arange(len(series) - count, len(series)), len(times)),
                    "value": reading.values.reshape(-1),
                },
                schema_overrides={"metric": pl.String},
            )
        )
    return pl.concat(rows), pl.DataFrame(series).with_row_index("row")


def _labels(system: System, reading: Reading) -> list[dict[str, str | None]]:
    if reading.name == "node_cpu":
        nodes = sorted({pod.node for pod in system.pods})
        return [{"service": None, "pod": None, "node": node, "cluster": None} for node in nodes]
    return [
        {"service": p.service, "pod": p.name, "node": p.node, "cluster": p.cluster}
        for p in (system.pods[i] for i in reading.place)
    ]


def _readings(
    system: System, played: Played, faults: Sequence[Fault], times: np.ndarray, rng: Rng
) -> list[Reading]:
    everyone = np.arange(len(system.pods))
    shape = (len(everyone), len(times))
    busy, running, calls = _busy(system, played, times)
    felt = [_felt(fault, times) for fault in faults]
    cores = np.array([system.services[pod.service].cores for pod in system.pods])[:, None]
    cpu = 0.03 * cores + busy + rng.normal(0, 0.01, shape) * cores
    memory = np.array([system.services[pod.service].memory for pod in system.pods])[:, None]
    memory = memory * (1 + 0.03 * _walk(rng, shape) + 0.01 * rng.normal(size=shape))
    disk = rng.uniform(0.2, 0.7, (shape[0], 1)) + 0.01 * _walk(rng, shape)
    io = np.clip(0.03 + 0.02 * rng.normal(size=shape) + 0.05 * busy, 0, 1)
    lost = rng.poisson(0.3, shape).astype(float)
    restarts = np.zeros(shape)
    for fault, on in zip(faults, felt, strict=True):
        mine = fault.pods
        if fault.kind == "cpu":
            full = np.where(rng.random((len(mine), 1)) < 0.5, 0.95, 0.75) * cores[mine]
            cpu[mine] = np.maximum(
                cpu[mine], on * full * rng.uniform(0.9, 1.05, (len(mine), len(on)))
            )
        elif fault.kind == "memory":
            _leak(memory, restarts, fault, times, rng)
        elif fault.kind == "disk":
            io[mine] = np.maximum(io[mine], on * rng.uniform(0.7, 1.0, (len(mine), len(on))))
            disk[mine] = np.where(on > 0, np.maximum(disk[mine], 0.97), disk[mine])
        elif fault.kind == "network_loss":
            lost[mine] += (on > 0) * rng.poisson(25, (len(mine), len(on)))
    cpu = _strays(rng, np.clip(cpu, 0.001, None), faults)
    out = [
        _cpu(system, cpu, times),
        Reading("memory", "gauge", everyone, memory),
        Reading("disk", "gauge", everyone, disk),
        Reading("io", "gauge", everyone, io),
        Reading("busy", "gauge", everyone, np.round(running + rng.poisson(0.2, shape))),
        Reading("received", "gauge", everyone, 900 * calls + rng.normal(0, 150, shape)),
        Reading("retransmits", "counter", everyone, np.cumsum(lost, axis=1)),
        Reading("restarts", "counter", everyone, restarts),
        _pools(system, running, faults, felt, rng),
        _nodes(system, cpu, rng),
    ]
    return [one for one in out if len(one.values)]


def _busy(
    system: System, played: Played, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(CPU cores, requests running, calls) per pod and scrape; history repeats the quiet start."""
    step = times[1] - times[0]
    count, many = len(system.pods), len(times)
    cpu, running, calls = (np.zeros(count * many) for _ in range(3))
    for block in played.blocks:
        if block.kind == "client":
            continue
        place = np.clip(((block.start - times[0]) / step).astype(int) + 1, 0, many - 1)
        flat = block.pod * many + place
        cpu += np.bincount(flat, block.work / step, count * many)
        running += np.bincount(flat, (block.end - block.start) / step, count * many)
        calls += np.bincount(flat, minlength=count * many) / step
    first = int(np.searchsorted(times, times[0] + HISTORY)) + 2
    out = []
    for flat in (cpu, running, calls):
        grid = flat.reshape(count, many)
        quiet = grid[:, first : first + max(int(600 / step), 4)]
        grid[:, :first] = quiet[:, np.arange(first) % quiet.shape[1]]
        out.append(grid)
    return out[0], out[1], out[2]


def _felt(fault: Fault, times: np.ndarray) -> np.ndarray:
    return np.clip((times - fault.onset) / max(fault.ramp, 1.0), 0, 1)


def _walk(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Slow wandering of about unit size."""
    steps = rng.normal(size=shape) / np.sqrt(shape[1])
    return np.cumsum(steps, axis=1)


def _leak(
    memory: np.ndarray, restarts: np.ndarray, fault: Fault, times: np.ndarray, rng: Rng
) -> None:
    """Memory that grows to a limit and, where the pod restarts, begins again."""
    for pod in fault.pods:
        since = times - fault.onset
        for begin in fault.restarts:
            since = np.where(times >= begin, times - begin, since)
            restarts[pod] += times >= begin
        grown = 1 + np.clip(since / 90, 0, 1) * rng.uniform(0.5, 1.2)
        memory[pod] = np.where(times >= fault.onset, memory[pod] * grown, memory[pod])


def _strays(rng: Rng, cpu: np.ndarray, faults: Sequence[Fault]) -> np.ndarray:
    """Batch jobs: some pods that are not at fault have short peaks at any time."""
    guilty = {int(pod) for fault in faults for pod in fault.pods}
    for pod in range(len(cpu)):
        if pod not in guilty and rng.random() < 0.1:
            for begin in rng.integers(0, cpu.shape[1], 6):
                cpu[pod, begin : begin + 3] *= rng.uniform(1.5, 3.0)
    return cpu


def _cpu(system: System, cpu: np.ndarray, times: np.ndarray) -> Reading:
    everyone = np.arange(len(cpu))
    if system.counters:
        return Reading("cpu", "counter", everyone, np.cumsum(cpu, axis=1) * (times[1] - times[0]))
    return Reading("cpu", "gauge", everyone, cpu * (1000 if "milli" in system.names["cpu"] else 1))


def _pools(
    system: System,
    running: np.ndarray,
    faults: Sequence[Fault],
    felt: Sequence[np.ndarray],
    rng: Rng,
) -> Reading:
    mine = np.array(
        [i for i, pod in enumerate(system.pods) if system.services[pod.service].store], dtype=int
    )
    size = np.array([system.services[system.pods[i].service].pool for i in mine])[:, None]
    used = np.minimum(np.round(0.5 * running[mine] + rng.poisson(0.3, running[mine].shape)), size)
    for fault, on in zip(faults, felt, strict=True):
        if fault.kind == "capacity":
            here = np.isin(mine, fault.pods)[:, None] & (on > 0.3)[None, :]
            used = np.where(here, np.broadcast_to(size, used.shape), used)
    return Reading("pool", "gauge", mine, used)


def _nodes(system: System, cpu: np.ndarray, rng: Rng) -> Reading:
    nodes = sorted({pod.node for pod in system.pods})
    sums = np.array(
        [
            cpu[[i for i, p in enumerate(system.pods) if p.node == node]].sum(axis=0)
            for node in nodes
        ]
    )
    return Reading(
        "node_cpu",
        "gauge",
        np.arange(len(nodes)),
        sums / 16 + rng.uniform(0.05, 0.3, (len(nodes), 1)),
    )
