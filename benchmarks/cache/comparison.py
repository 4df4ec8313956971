"""The approximate cache: three traces through four policies, as look-ups of every request and images of a sample."""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cache.load import LOAD, poisson
from benchmarks.cache.picture import GOAL_QUALITY, GOAL_SAVED, Point, at_quality, draw
from benchmarks.cache.policies import QUALITY, Policies, Unmoved
from benchmarks.cache.quality import ATTRIBUTES, Quality, Studio
from benchmarks.cache.replay import Prompts, Replay, saved
from benchmarks.cache.traces import TRACES, trace
from benchmarks.measure import ROOT, Row, judged, keep, machine
from benchmarks.subjects.engine import BUNDLE, InProcess
from darkroom.storage.directory import DirectoryStore

COMMAND = "make bench PART=cache"
WORK = Path(".darkroom") / "bench" / "cache"
TARGET = "openvino-bf16"
BUDGET = 4 << 20  # bytes of memory for every policy: what the published one needs for 6 % of a trace's prompts
BUDGETS = (1 << 14, 1 << 18, 4 << 20)  # the least holds 8 of ours
_EXCHANGE = 25  # requests between two exchanges of replicas with the store: 5 s at 5 requests a second
_SAMPLE, _CURVE_SAMPLE = 400, 100
_FIRST = 1500  # requests of a trace, where policies are taken apart, varied and timed
_VARIETY = 24  # prompts, with two seeds each
_QUICK = 8  # times fewer of both


class Bench:
    """What all sections share. A section that is finished is kept until all are, so that a run that was broken off goes
    on where it was; what was measured by other code, or of another bundle, is measured again.
    """

    def __init__(self, quick: bool, store: Path) -> None:
        self.engine = InProcess(TARGET, store=store)
        self.prompts = Prompts(self.engine)
        self.policies = Policies(self.engine)
        self.replay = Replay(self.engine, self.prompts)
        self.traces = {kind: trace(kind) for kind in TRACES}
        self.studios = {kind: Studio(self.engine, self.prompts, requests) for kind, requests in self.traces.items()}
        self.quick = quick
        self.work = WORK / ("quick" if quick else "full")
        self.rows: list[Row] = []
        self.raw: dict[str, Any] = {"budget_bytes": BUDGET, "requests": {k: len(a) for k, a in self.traces.items()}}
        self._of = [self.engine.manifest.version, machine(), _code()]

    def section(self, name: str, measure: Callable[[Bench], dict[str, Any]]) -> None:
        """Add its rows, and what `measure` returns (JSON) to the raw figures."""
        kept = self.work / f"{name}.json"
        record = json.loads(kept.read_text()) if kept.exists() else {}
        if record.get("of") == self._of:
            print(f"{name}: measured before", flush=True)
        else:
            before = len(self.rows)
            record = {"of": self._of, "raw": measure(self), "rows": [asdict(row) for row in self.rows[before:]]}
            del self.rows[before:]
            self.work.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(record))
        self.rows += [Row(**row) for row in record["rows"]]
        self.raw |= record["raw"]

    def sample(self, kind: str, count: int, among: int | None = None) -> list[int]:
        """Requests to draw, of all or of the first `among`: the same ones for every policy."""
        count = count // _QUICK if self.quick else count
        return sorted(random.Random(f"sample of {kind}").sample(range(among or len(self.traces[kind])), count))

    def row(self, metric: str, measured: float, unit: str, **goal: float | None) -> None:
        self.rows.append(judged("cache", COMMAND, metric, measured, unit, **goal, digits=4))


def _code() -> str:
    """A hash of the cache's own code and of this benchmark's."""
    files = [file for room in ("runtime", "benchmarks") for file in sorted((ROOT / room / "cache").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def run(*, quick: bool = False, store: Path = BUNDLE) -> None:
    """Measure, print and keep everything of this part, what is timed last; `quick` draws fewer images and measures no
    load.
    """
    bench = Bench(quick, store)
    for kind in TRACES:
        bench.section(kind, partial(_compared, kind=kind))
    _show(bench)
    for section in (_parts, _replicas, _curves, _costs, *(() if quick else (_load,))):
        bench.section(section.__name__.strip("_"), section)
    if not quick:
        draw({name: [Point(**point) for point in curve] for name, curve in bench.raw["curves"].items()})
        keep("cache", bench.rows, bench.raw)
    shutil.rmtree(bench.work)


def _compared(bench: Bench, kind: str) -> dict[str, Any]:
    """Savings of all requests and quality of the sample, a trace through every policy."""
    requests, raw = bench.traces[kind], dict[str, Any]()
    for name, policy in bench.policies.compared().items():
        outcomes = bench.replay.run(requests, policy(), BUDGET)
        sample = bench.sample(kind, _CURVE_SAMPLE if name == "lru" else _SAMPLE)
        print(f"{kind}, {name}: {saved(outcomes):.1%} of rows saved; drawing {len(sample)} requests", flush=True)
        hits = Counter(outcome.step for outcome in outcomes)
        raw[name] = {
            "saved": saved(outcomes),
            "hits": {str(step): hits[step] for step in sorted(hits)},
            "drawn": len(sample),
            "quality": asdict(bench.studios[kind].quality(policy(), outcomes, sample)),
        }
    ours, theirs, alike = raw["darkroom"], raw["nirvana"], kind != "uniform"
    bench.row(f"{kind}: UNet rows saved", ours["saved"], "share", at_least=GOAL_SAVED if alike else None)
    bench.row(f"{kind}: UNet rows saved, faithful Nirvana with LCBFU", theirs["saved"], "share")
    bench.row(f"{kind}: UNet rows saved, LRU", raw["lru"]["saved"], "share")
    bench.row(
        f"{kind}: rows saved, ours / Nirvana", ours["saved"] / theirs["saved"], "x", at_least=1.25 if alike else None
    )
    for name, figures in raw.items():
        quality, mine = Quality(**figures["quality"]), name == "darkroom"
        of = f"all four right, {name} / uncached ({figures['drawn']} drawn, +-{quality.margin:.3f})"
        bench.row(f"{kind}: {of}", quality.ratio, "x", at_least=GOAL_QUALITY if mine else None)
        for attribute in ATTRIBUTES if mine else ():
            ratio = quality.cached[attribute] / quality.uncached[attribute]
            bench.row(f"{kind}: {attribute} right, {name} / uncached", ratio, "x", at_least=GOAL_QUALITY)
    return {kind: raw}


def _show(bench: Bench) -> None:
    table = Table("trace", "policy", "hits", "rows saved", "goal", "all four / uncached", "goal")
    for kind in TRACES:
        for name, figures in bench.raw[kind].items():
            quality, mine = Quality(**figures["quality"]), name == "darkroom"
            hits = 1 - figures["hits"].get("0", 0) / len(bench.traces[kind])
            least = max(GOAL_SAVED, 1.25 * bench.raw[kind]["nirvana"]["saved"])
            table.add_row(
                *(kind, name, f"{hits:.1%}", f"{figures['saved']:.1%}"),
                f">= {least:.1%}" if mine and kind != "uniform" else "",
                *(f"{quality.ratio:.3f} +- {quality.margin:.3f}", f">= {GOAL_QUALITY:g}" if mine else ""),
            )
    Console().print(table)


def _parts(bench: Bench) -> dict[str, Any]:
    """What each part of ours brings: savings without it, and at other sizes of the cache."""
    for kind in ("sessions", "zipf"):
        requests, first = bench.traces[kind][:_FIRST], f"{kind}, first {_FIRST}"
        for name, policy in bench.policies.without().items():
            share = saved(bench.replay.run(requests, policy(), BUDGETS[0]))
            bench.row(f"{first}: UNet rows saved in {BUDGETS[0] >> 10} KiB, ours but {name}", share, "share")
        for budget in BUDGETS:
            for name, policy in bench.policies.compared().items():
                share = saved(bench.replay.run(requests, policy(), budget))
                bench.row(f"{first}: UNet rows saved in {budget >> 10} KiB, {name}", share, "share")
        hits = bench.replay.run(requests, bench.policies.ours(), BUDGET)
        sample = bench.sample(kind, _CURVE_SAMPLE, _FIRST)
        if kind == "sessions":
            variety = bench.studios[kind].variety(bench.policies.ours(), sample[:_VARIETY])
            bench.row("the same prompt with another seed: how far the images differ, ours / uncached", variety, "x")
        unmoved = bench.studios[kind].quality(bench.policies.ours(kind=Unmoved), hits, sample)
        bench.row(f"{kind}: all four right / uncached, ours but the image not moved", unmoved.ratio, "x")
    return {}


def _replicas(bench: Bench) -> dict[str, Any]:
    for kind in ("sessions", "zipf"):
        with tempfile.TemporaryDirectory() as folder:
            policies = [bench.policies.ours(), bench.policies.ours()]
            store = DirectoryStore(Path(folder))
            both = bench.replay.shared(bench.traces[kind], policies, BUDGET, store, _EXCHANGE)
        ratio = saved(both) / bench.raw[kind]["darkroom"]["saved"]
        bench.row(f"{kind}: rows saved, two replicas that share the store / one", ratio, "x", at_least=0.9)
    return {}


def _costs(bench: Bench) -> dict[str, Any]:
    """Seconds of the cache against those of a request; also for requests that find nothing."""
    request = _seconds_of_a_request(bench)
    beginnings = {kind: requests[:_FIRST] for kind, requests in bench.traces.items()}
    replays = {kind: bench.replay.run(beginnings[kind], bench.policies.ours(), BUDGET) for kind in TRACES}
    for kind, outcomes in replays.items():
        bench.row(
            f"{kind}: look-up and load, mean share of an uncached request",
            100 * float(np.mean([one.look_up for one in outcomes])) / request,
            "%",
            at_most=1.0,
        )
    misses = [one.overhead for one in replays["uniform"] if not one.step]
    bench.row(
        "uniform: all that the cache costs a request that misses, mean", 100 * float(np.mean(misses)) / request, "%"
    )
    slower = 100 * float(np.quantile(misses, 0.99)) / request
    bench.row("uniform: all that the cache costs a request that misses, 99 of 100", slower, "%", at_most=1.0)
    return {"request_seconds": request}


def _seconds_of_a_request(bench: Bench) -> float:
    seconds = []
    for request in bench.traces["uniform"][: 3 if bench.quick else 15]:
        started = time.perf_counter()
        bench.engine.generate([request.prompt], [request.seed])
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


def _curves(bench: Bench) -> dict[str, Any]:
    """Savings against quality, from careful to greedy, over the beginnings of the sessions and Zipf traces together."""
    points: dict[str, list[Point]] = {}
    for name, policies in bench.policies.curves().items():
        for make in policies:
            shares, qualities = [], []
            for kind in ("sessions", "zipf"):
                outcomes = bench.replay.run(bench.traces[kind][:_FIRST], make(), BUDGET)
                shares.append(saved(outcomes))
                sample = bench.sample(kind, _SAMPLE if name == "darkroom" else _CURVE_SAMPLE, _FIRST)
                qualities.append(bench.studios[kind].quality(make(), outcomes, sample))
            ratio, margin = mean(one.ratio for one in qualities), math.hypot(*(one.margin for one in qualities)) / 2
            points.setdefault(name, []).append(Point(mean(shares), ratio, margin))
            print(f"{name}: {points[name][-1]}", flush=True)
    for name, curve in points.items():
        metric = f"sessions and zipf: rows saved where {name}'s curve crosses {GOAL_QUALITY:g} x uncached"
        bench.row(metric, at_quality(curve), "share")
    return {"curves": {name: [asdict(point) for point in curve] for name, curve in points.items()}}


def _load(bench: Bench) -> dict[str, Any]:
    """The same arrivals with the cache and without."""
    by_policy = poisson(bench.engine, bench.traces["sessions"], QUALITY)
    off, ours = by_policy["off"], by_policy["darkroom"]
    under = f"sessions under Poisson load, {LOAD:.0%} of saturation"
    saved = mean(each.saved for each in ours)
    fallen = 1 - mean(each.seconds for each in ours) / mean(each.seconds for each in off)
    bench.row(f"{under}: mean latency fell by", fallen, "share", at_least=saved)
    cheaper = 1 - mean(each.cpu for each in ours) / mean(each.cpu for each in off)
    bench.row(f"{under}: CPU-seconds a request fell by", cheaper, "share")
    return {"poisson": {name: [asdict(each) for each in rounds] for name, rounds in by_policy.items()}}
