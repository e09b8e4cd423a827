"""Requests played in columns: for each step of a call tree, one array over the requests in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.incidents.faults import Fault
from bench.incidents.system import Call, Rng, Step, System

MS = 1e-3
DOWN = 12.0  # seconds a restarting pod refuses calls


@dataclass
class Block:
    """Spans of one step: arrays of equal length; times in seconds."""

    step: Step
    kind: str
    request: np.ndarray
    number: np.ndarray
    parent: np.ndarray  # the parent's number; -1 at the root
    pod: np.ndarray
    start: np.ndarray
    end: np.ndarray
    error: np.ndarray
    work: np.ndarray


@dataclass
class Lines:
    at: np.ndarray
    pod: np.ndarray
    request: np.ndarray
    severity: str
    template: str


@dataclass
class Played:
    blocks: list[Block] = field(default_factory=list)
    lines: list[Lines] = field(default_factory=list)
    waits: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    thrown: list[tuple[np.ndarray, np.ndarray, np.ndarray, str, str]] = field(default_factory=list)
    arrivals: np.ndarray = field(default_factory=lambda: np.empty(0))


class Play:
    """One stretch of a system's life, `minutes` long, with what goes wrong in it."""

    def __init__(
        self, system: System, faults: Sequence[Fault], start: float, minutes: float, rng: Rng
    ) -> None:
        self.system, self.faults, self.rng = system, faults, rng
        self.start, self.seconds = start, 60 * minutes
        self.out = Played()
        self.count = 0
        self.pods = {
            name: {
                cluster: np.array(
                    [
                        i
                        for i, p in enumerate(system.pods)
                        if (p.service, p.cluster) == (name, cluster)
                    ]
                )
                for cluster in {pod.cluster for pod in system.pods}
            }
            for name in system.services
        }
        self.touched = [np.isin(np.arange(len(system.pods)), fault.pods) for fault in faults]

    def run(self) -> Played:
        at = self._arrivals()
        self.out.arrivals = at
        requests = np.arange(len(at))
        clusters = sorted({pod.cluster for pod in self.system.pods})
        place = self.rng.integers(len(clusters), size=len(at))
        entry = self.rng.choice(
            len(self.system.entries), size=len(at), p=[share for _, share in self.system.entries]
        )
        self.traits = {
            name: self.rng.choice(4, size=len(at), p=[0.3, 0.3, 0.25, 0.15])
            for name, one in self.system.services.items()
            if one.attribute
        }
        for number, (step, _) in enumerate(self.system.entries):
            for where, cluster in enumerate(clusters):
                mine = np.flatnonzero((entry == number) & (place == where))
                pod = self._pick(step.service, cluster, len(mine))
                self._serve(step, requests[mine], np.full(len(mine), -1), pod, at[mine], cluster)
        return self.out

    def _arrivals(self) -> np.ndarray:
        """Poisson arrivals at a rate that swings, with now and then a burst, a fault's surge."""
        rng, rate = self.rng, self.system.rate
        top = rate * 4.5
        at = np.sort(rng.uniform(0, self.seconds, rng.poisson(top * self.seconds)))
        phase = rng.uniform(0, 2 * np.pi)
        level = 1 + 0.25 * np.sin(2 * np.pi * at / 2400 + phase)
        for _ in range(int(rng.integers(0, 3))):
            begin, long = rng.uniform(0, self.seconds), rng.uniform(60, 400)
            level *= np.where((at > begin) & (at < begin + long), rng.uniform(0.6, 1.5), 1.0)
        for fault in self.faults:
            level *= np.where(at + self.start >= fault.onset, fault.surge, 1.0)
        kept = rng.random(len(at)) < np.clip(level, 0, 4.5) * rate / top
        return self.start + at[kept]

    def _pick(self, service: str, cluster: str, count: int) -> np.ndarray:
        return self.rng.choice(self.pods[service][cluster], size=count)

    def _hits(
        self, number: int, pod: np.ndarray, at: np.ndarray, request: np.ndarray
    ) -> np.ndarray:
        """How strongly (0 … 1, by ramp) a fault is felt by what a pod does at a time."""
        fault = self.faults[number]
        felt = np.clip((at - fault.onset) / fault.ramp, 0, 1) * self.touched[number][pod]
        if fault.level == "attribute":
            felt = felt * (self.traits[fault.service][request] == 0)
        if fault.share < 1:
            felt = felt * (self.rng.random(len(at)) < fault.share)
        return felt

    def _serve(
        self,
        step: Step,
        request: np.ndarray,
        parent: np.ndarray,
        pod: np.ndarray,
        at: np.ndarray,
        cluster: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(end, failed, answered wrongly) of a step served on these pods from these times."""
        count = len(request)
        if not count:
            empty = np.zeros(0, bool)
            return at, empty, empty
        number = self._numbers(count)
        work, wait, failed, wrong = self._own(step, request, pod, at)
        cursor = at + wait + work * 0.5
        going = ~failed
        passed = np.zeros(count, bool)
        misled = np.zeros(count, bool)
        for place, call in enumerate(step.calls):
            late = place >= len(step.calls) / 2
            asks = going & ~((wrong | misled) & late) & (self.rng.random(count) < call.chance)
            mine = np.flatnonzero(asks)
            end, bad, odd = self._call(
                call, request[mine], number[mine], pod[mine], cursor[mine], cluster
            )
            cursor[mine] = end
            misled[mine] |= odd & (self.rng.random(len(mine)) < 0.6)
            hurt = mine[bad & (self.rng.random(len(mine)) >= call.fallback)]
            going[hurt], passed[hurt] = False, True
            self._complain(step, call, request[hurt], pod[hurt], cursor[hurt])
        end = cursor + work * 0.5
        self._speak(step, request, pod, end, failed | passed, wrong | misled)
        self.out.blocks.append(
            Block(step, step.kind, request, number, parent, pod, at, end, failed | passed, work)
        )
        return end, failed | passed, wrong

    def _own(  # noqa: C901 - one branch a kind of fault
        self, step: Step, request: np.ndarray, pod: np.ndarray, at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(work, waiting, failed, wrong): what a service does itself."""
        rng, count = self.rng, len(request)
        work = step.work * rng.lognormal(0, self.system.noise, count)
        work *= np.where(rng.random(count) < 0.003, 10, 1)
        wait = np.zeros(count)
        failed = rng.random(count) < self.system.services[step.service].fails
        self._report(step, request[failed], pod[failed], at[failed] + work[failed], None)
        wrong = np.zeros(count, bool)
        for place, fault in enumerate(self.faults):
            if not self.touched[place][pod].any():
                continue
            felt = self._hits(place, pod, at, request)
            hit = felt > 0
            if fault.kind == "cpu":
                work *= 1 + (fault.size - 1) * felt
            elif fault.kind == "memory":
                wait += felt * (rng.random(count) < 0.3) * rng.exponential(fault.size, count)
            elif fault.kind == "disk" and not self._asks_store(step):
                wait += felt * rng.exponential(fault.size, count)
            elif fault.kind == "capacity":
                wait += felt * (rng.random(count) < 0.7) * rng.exponential(fault.size, count)
            elif fault.kind == "dependency" and not self._asks_store(step):
                work = np.where(hit, work * fault.size + 0.02, work)
            elif fault.kind == "wrong_return":
                wrong |= hit
            breaks = {"exception": 1.0, "config": 1.0, "capacity": 0.3, "memory": 0.03}
            if fault.kind in breaks and (fault.fails or breaks[fault.kind] == 1.0):
                ends = hit & ~failed & (rng.random(count) < breaks[fault.kind])
                failed |= ends
                self._report(
                    step, request[ends], pod[ends], at[ends] + wait[ends] + work[ends], fault
                )
            if fault.line and fault.kind not in {"exception", "config", "external"}:
                told = hit & (rng.random(count) < 0.35)
                self._line(fault.line, "WARN", request[told], pod[told], at[told] + wait[told])
            self.out.waits.append((at[hit], pod[hit], wait[hit]))
        return work, wait, failed, wrong

    def _asks_store(self, step: Step) -> bool:
        return any(call.to.kind == "store" for call in step.calls)

    def _numbers(self, count: int) -> np.ndarray:
        self.count += count
        return np.arange(self.count - count, self.count)

    def _call(
        self,
        call: Call,
        request: np.ndarray,
        parent: np.ndarray,
        pod: np.ndarray,
        at: np.ndarray,
        cluster: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(end, failed, wrong) of calls, tried once more where the caller does so."""
        if call.to.kind in {"store", "external"}:
            return self._ask(call.to, request, parent, pod, at)
        end, bad, odd = self._once(call, request, parent, pod, at, cluster)
        if call.retry and bad.any():
            again = np.flatnonzero(bad)
            later = end[again] + self.rng.uniform(0.02, 0.1, len(again))
            end[again], bad[again], odd[again] = self._once(
                call, request[again], parent[again], pod[again], later, cluster
            )
        return end, bad, odd

    def _once(
        self,
        call: Call,
        request: np.ndarray,
        parent: np.ndarray,
        pod: np.ndarray,
        at: np.ndarray,
        cluster: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(request)
        number = self._numbers(count) if self.system.clients else parent
        callee = self._pick(call.to.service, cluster, count)
        there, lost = self._wire(callee, pod, at, request)
        back, _ = self._wire(callee, pod, at, request)
        refused = self._refused(callee, at)
        end = at + there + np.where(lost, 0.3 * call.patience, 0.002)
        bad, odd = lost | refused, np.zeros(count, bool)
        goes = np.flatnonzero(~bad)
        done, failed, wrong = self._serve(
            call.to, request[goes], number[goes], callee[goes], at[goes] + there[goes], cluster
        )
        end[goes], bad[goes], odd[goes] = done + back[goes], failed, wrong
        late = end - at > call.patience
        end, bad = np.where(late, at + call.patience, end), bad | late
        if self.system.clients:
            work = np.zeros(count)
            self.out.blocks.append(
                Block(call.to, "client", request, number, parent, pod, at, end, bad, work)
            )
        words = (("connection refused by {}", refused), ("timeout waiting for {}", lost | late))
        for text, which in words:
            self._line(text.format(call.to.service), "WARN", request[which], pod[which], end[which])
        return end, bad, odd

    def _wire(
        self, callee: np.ndarray, caller: np.ndarray, at: np.ndarray, request: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(seconds one way, lost)."""
        rng, count = self.rng, len(at)
        took = rng.gamma(2.0, 0.18 * MS, count) + 0.1 * MS
        lost = np.zeros(count, bool)
        for place, fault in enumerate(self.faults):
            if not fault.kind.startswith("network"):
                continue
            felt = self._hits(place, callee, at, request) > 0
            if fault.both_ways or fault.level == "node":
                felt |= self._hits(place, caller, at, request) > 0
            if fault.kind == "network_delay":
                more = np.clip(rng.normal(fault.size, fault.size / 5, count), 0, None) / 2
                took += felt * more
            else:
                slow = felt & (rng.random(count) < fault.size / 2)
                took += slow * 0.2 * 2.0 ** rng.geometric(0.7, count)
                lost |= slow & (rng.random(count) < 0.12)
        return took, lost

    def _refused(self, callee: np.ndarray, at: np.ndarray) -> np.ndarray:
        out = np.zeros(len(at), bool)
        for place, fault in enumerate(self.faults):
            for begin in fault.restarts:
                out |= self.touched[place][callee] & (at >= begin) & (at < begin + DOWN)
        return out

    def _ask(
        self, step: Step, request: np.ndarray, parent: np.ndarray, pod: np.ndarray, at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A store or an external party, which records nothing itself."""
        rng, count = self.rng, len(request)
        took = step.work * rng.lognormal(0, self.system.noise, count) + 0.3 * MS
        bad = np.zeros(count, bool)
        for place, fault in enumerate(self.faults):
            wanted = {"disk": "store", "dependency": "store", "external": "external"}
            if wanted.get(fault.kind) != step.kind:
                continue
            felt = self._hits(place, pod, at, request)
            hit = felt > 0
            if fault.kind == "disk":
                took += felt * rng.exponential(fault.size, count)
            elif fault.kind == "external" and fault.fails:
                bad |= hit & (rng.random(count) < 0.7)
            else:
                took = np.where(hit, took * fault.size, took)
            if fault.line and fault.kind == "external":
                told = hit & (bad | (rng.random(count) < 0.3))
                self._line(fault.line, "ERROR", request[told], pod[told], (at + took)[told])
        work = np.zeros(count)
        number = self._numbers(count)
        self.out.blocks.append(
            Block(step, "client", request, number, parent, pod, at, at + took, bad, work)
        )
        return at + took, bad, np.zeros(count, bool)

    def _line(
        self, text: str, severity: str, request: np.ndarray, pod: np.ndarray, at: np.ndarray
    ) -> None:
        if len(request):
            self.out.lines.append(Lines(at, pod, request, severity, text))

    def _speak(
        self,
        step: Step,
        request: np.ndarray,
        pod: np.ndarray,
        end: np.ndarray,
        failed: np.ndarray,
        wrong: np.ndarray,
    ) -> None:
        """A service's everyday lines; a wrong answer leaves out the last and says another."""
        count = len(request)
        for place, (text, chance) in enumerate(step.says):
            said = ~failed & (self.rng.random(count) < chance)
            if place == len(step.says) - 1:
                said &= ~wrong
            self._line(text, "INFO", request[said], pod[said], end[said])
        odd = wrong & (self.rng.random(count) < 0.6)
        self._line(f"nothing to do for {step.operation}", "INFO", request[odd], pod[odd], end[odd])
        grumbles = self.rng.random(count) < self.system.services[step.service].grumble
        for text, which in (
            ("slow consumer, buffer at <n> percent", 0),
            ("deprecated header ignored", 1),
        ):
            some = grumbles & (request % 2 == which)
            self._line(text, "WARN", request[some], pod[some], end[some])

    def _complain(
        self, step: Step, call: Call, request: np.ndarray, pod: np.ndarray, at: np.ndarray
    ) -> None:
        """A caller says that what it called failed."""
        if self.system.services[step.service].quiet or call.to.kind == "external":
            return
        said = self.rng.random(len(request)) < 0.8
        name = call.to.peer or call.to.service
        self._line(
            f"call to {name} failed with status <n>", "ERROR", request[said], pod[said], at[said]
        )

    def _report(
        self, step: Step, request: np.ndarray, pod: np.ndarray, at: np.ndarray, fault: Fault | None
    ) -> None:
        """A service's own failure, in its log and in the error tracker."""
        service = self.system.services[step.service]
        text = fault.line if fault and fault.line else "temporary failure, code <n>"
        if not service.quiet:
            self._line(text, "ERROR", request, pod, at)
        if self.system.tracker and len(request):
            thrown = fault.thrown if fault else "TemporaryFailure"
            self.out.thrown.append((at, pod, request, thrown, text))
