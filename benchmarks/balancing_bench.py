"""Drives the two workers of the balancing benchmark through a plan and makes its rows."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import balancing_floor as floor
from benchmarks.balancing_cases import Plan, Ratio
from benchmarks.balancing_data import batches, distinct
from benchmarks.machine import ticks
from benchmarks.peak import of_workers
from benchmarks.report import Row
from benchmarks.spread import Spread, ratio, spread
from benchmarks.turns import Entry, Samples, Unavailable, Worker, interleave

BENCH, SAMPLE = "balancing", 0.3  # seconds that a sample lasts at least
Say = Callable[[str], None]


class Bench:
    """Both workers, what was found so far, and what could not be had.

    busy: share of the machine that others may have during a sample.
    """

    def __init__(self, ours: Worker, theirs: Worker, say: Say, busy: float, quick: bool) -> None:
        self.ours, self.theirs, self.say = ours, theirs, say
        self.busy, self.quick = busy, quick
        self.pids = (ours.pid, theirs.pid)
        self.rows: list[Row] = []
        self.missing: dict[str, str] = {}
        self.best: dict[tuple[str, str], list[list[Any]]] = {}
        self.tuning: dict[str, Any] = {}
        self.dropped: dict[str, int] = {}
        self.busiest = 0.0
        self.summed: float | None = None  # seconds of our summed step at T = 8, 200k
        self.peak: dict[str, Any] = {}
        self.measure_peak()

    def measure_peak(self) -> None:
        """GF/s and GB/s of each worker and the best of both; again later, the highest counts."""
        why = of_workers((self.ours, self.theirs), self.peak)
        if why:
            self.missing["peak"] = why

    def world(self, plan: Plan) -> None:
        """Opens, checks, prepares and times all that a world has, and makes its rows."""
        where = f"T{plan.world.tasks}-{plan.world.rows}"
        self.say(f"{where}: opening")
        shape = {"tasks": plan.world.tasks, "rows": plan.world.rows}
        mine = self.ours.call("open", **shape)
        if plan.theirs:
            try:
                yours = self.theirs.call("open", **shape)
                if not np.allclose(mine, yours, rtol=1e-4, atol=0):
                    raise AssertionError(f"{where}: the models differ: {mine} and {yours}")
            except Unavailable as error:
                self.missing |= {t.name: str(error) for t in plan.theirs}
                plan = dataclasses.replace(plan, theirs=[])
        entries = [*self._ours(plan, where), *self._theirs(plan, where)]
        self.say(f"{where}: timing {len(entries)} steps")
        rounds = 3 if self.quick or plan.world.rows > 1_000_000 else 7
        got = interleave(entries, rounds, self.pids, self.busy)
        self.measure_peak()
        self.dropped[where] = got.dropped
        self.busiest = max(self.busiest, got.busiest)
        if where == "T8-200000" and (times := _known(got.seconds.get("ew", []))):
            self.summed = float(np.median(times))
        self.rows += [self._row(r, plan, got) for r in plan.rows]

    def failed(self, plan: Plan, why: str) -> None:
        """Rows that say why there is nothing of a whole world."""
        about = {"T": plan.world.tasks, "V": plan.world.rows}
        for r in plan.rows:
            self.rows.append(Row(BENCH, r.case, r.kind, None, r.wanted, why, more=about))

    def _ours(self, plan: Plan, where: str) -> list[Entry]:
        entries, made = [], {}
        for o in plan.ours:
            key = (o.method, o.level, o.gram_every)
            try:
                if key not in made:
                    made[key] = o.name
                    self.say(f"{where}: compiling {o.name}")
                    words = {"method": o.method, "level": o.level, "gram_every": o.gram_every}
                    self.ours.call("prepare", name=o.name, **words)
                words = {"name": made[key], "loader": o.loader}
                few = o.gram_every
                self.ours.call("run", steps=few, **words)
                once = self.ours.call("run", steps=few, **words) / few
            except Unavailable as error:
                self.missing[o.name] = str(error)
                continue
            steps = few * math.ceil(SAMPLE / once / few)
            entries.append(Entry(o.name, self.ours, words, steps))
        return entries

    def _theirs(self, plan: Plan, where: str) -> list[Entry]:
        entries = []
        for t in plan.theirs:
            self.say(f"{where}: tuning {t.name}")
            key = (t.kind, t.method)
            few = 1 if plan.world.rows > 1_000_000 else 2
            only = self.best[key][:few] if key in self.best else None
            words = {"only": only, "fuse": only is None and not self.quick}
            try:
                got = self.theirs.call(
                    "prepare", name=t.name, kind=t.kind, method=t.method, **words
                )
            except Unavailable as error:
                self.missing[f"{where} {t.name}"] = str(error)
                continue
            done = [x[:3] for x in got["tried"] if not isinstance(x[3], str)]
            self.best.setdefault(key, done)
            self.tuning[f"{where} {t.name}"] = got["tried"]
            steps = max(1, math.ceil(SAMPLE / got["seconds"]))
            entries.append(Entry(t.name, self.theirs, {"name": t.name}, steps))
        return entries

    def _row(self, r: Ratio, plan: Plan, got: Samples) -> Row:
        above, below = got.seconds.get(r.above), got.seconds.get(r.below)
        where = f"T{plan.world.tasks}-{plan.world.rows}"
        about: dict[str, Any] = {"T": plan.world.tasks, "V": plan.world.rows}
        if above is None or below is None:
            name = r.above if above is None else r.below
            why = self.missing.get(f"{where} {name}") or self.missing.get(name, "not measured")
            return Row(BENCH, r.case, r.kind, None, r.wanted, why, more=about)
        value = ratio(above, below)
        if value is None:
            why = "others used the machine during every sample"
            return Row(BENCH, r.case, r.kind, None, r.wanted, why, more=about)
        ours, base = (below, above) if r.kind == "speedup" else (above, below)
        mine = float(np.median(_known(ours)))
        about |= {"ours_ms": 1e3 * mine, "base_ms": 1e3 * float(np.median(_known(base)))}
        if r.kind == "speedup":
            variant, threads, fused, _ = self.tuning[f"{where} {r.above}"][0]
            about |= {"variant": variant, "threads": threads, "compiled": fused}
        least = None
        if r.level:
            touched = distinct(batches(plan.world)[0])
            n = len(touched["uniq/user"]) + len(touched["uniq/item"])
            least = mine / floor.seconds(plan.world, r.level, n, **self.peak["best"])
        return Row(BENCH, r.case, r.kind, value, r.wanted, "", least, about)

    def solvers(self, tasks: tuple[int, ...], wanted_case: str) -> None:
        """Time of every Gram method's update over our summed step's at T = 8."""
        if self.summed is None:
            return
        for method in self.ours.call("gram_methods"):
            for T in tasks:
                case, wanted = f"solver-{method}-T{T}", 0.02 if T == 8 else None
                if not re.search(wanted_case, case):
                    continue
                self.say(f"solver {method}, T = {T}")
                try:
                    found = self._quiet("solver", method=method, tasks=T)
                except Unavailable as error:
                    self.rows.append(Row(BENCH, case, "share", None, wanted, str(error)))
                    continue
                value = spread([s / self.summed for s in found])
                more = {"ours_ms": 1e3 * float(np.median(found)), "base_ms": 1e3 * self.summed}
                self.rows.append(Row(BENCH, case, "share", value, wanted, more={"T": T, **more}))

    def _quiet(self, do: str, times: int = 5, **words: Any) -> list[float]:
        """Values of undisturbed calls, or of all where there were none."""
        found, all_of_them = [], []
        for _ in range(times):
            before = ticks(self.pids)
            all_of_them.append(float(self.ours.call(do, **words)))
            after = ticks(self.pids)
            if after.busy - before.busy - sum(after.own.values()) + sum(before.own.values()) <= (
                self.busy * (after.total - before.total) + 1
            ):
                found.append(all_of_them[-1])
        return found or all_of_them

    def compiling(self, tasks: tuple[int, ...]) -> None:
        """Compile time at level shared against the number of tasks, and of the summed step."""
        found: dict[tuple[str, int], list[float]] = {}
        for method, level in (("upgrad", "shared"), ("ew", "representation")):
            for T in tasks:
                self.say(f"compiling {method} at T = {T}")
                words = {"method": method, "level": level, "tasks": T}
                found[level, T] = self._quiet(
                    "compile", times=1 if self.quick or T > 16 else 2, **words
                )
        first = found["shared", tasks[0]]
        for T in tasks:
            took, summed = found["shared", T], found["representation", T]
            value = spread([x / y for x in took for y in first])
            more = {"T": T, "ours_ms": 1e3 * min(took), "base_ms": 1e3 * min(first)}
            more |= {"summed_ms": 1e3 * min(summed), "over_summed": min(took) / min(summed)}
            wanted = 8.0 if T == 16 else None
            self.rows.append(Row(BENCH, f"compile-T{T}", "growth", value, wanted, more=more))


def _known(values: list[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def worst_representation(rows: list[Row]) -> list[Row]:
    """`representation-T<T>`: the method that costs most there."""
    found: dict[str, Row] = {}
    for r in rows:
        m = re.fullmatch(r"(representation-T\d+)-(\w+)", r.case)
        if m and r.value is not None:
            old = found.get(m[1])
            if old is None or _median(old.value) < r.value.median:
                more = {**r.more, "method": m[2]}
                found[m[1]] = dataclasses.replace(r, case=m[1], more=more)
    return list(found.values())


def _median(value: Spread | None) -> float:
    return -math.inf if value is None else value.median
