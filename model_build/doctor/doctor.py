"""Doctor: on the user's own machine, what is missing for GPU engines; then engines built, checked and timed there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from darkroom import gpu
from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.errors import DarkroomError
from darkroom.storage.directory import DirectoryStore
from model_build import BuildRefused
from model_build.build import Build
from model_build.compile.device import Lack
from model_build.doctor.examination import REHEARSED, TARGETS, Baseline, Processor, examine, table
from model_build.hardware import hardware, software, threads
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.proof.generation import BundlePipeline, Setting
from model_build.proof.measure import IMAGE, ReferenceSide, take_turns

CRAYON = Path(__file__).resolve().parents[2] / "crayon" / "checkpoint"
_GUIDANCE = {str(CRAYON): 4.0}
_ALONE = "There is no MPS (nvidia-cuda-mps-control): several processes on one GPU would run in turns."
_CALLED = {Baseline.FP32: "diffusers fp32", Baseline.FP16: "diffusers fp16", Baseline.COMPILE: "torch.compile fp16"}
# By what a refusal says, the first that fits; the last fits all.
_REMEDIES = (
    ("agrees with diffusers", "do not serve it: try onnx-cuda-fp16-plain or tensorrt-bf16, and report what this says"),
    ("GiB of memory", "build it yourself with smaller --rows, --max-size or --max-pixels, or take a larger GPU"),
    ("being timed has died", "free memory for it; torch.compile needs a C compiler as well: apt-get install gcc"),
    ("cannot compile", "look for the provider's own words above, and try the other provider's target"),
    ("", "build it with `python -m model_build build`, which says the same, and correct what it names"),
)


class Doctor:
    """One visit; `run()` makes it. Nothing it builds stays."""

    def __init__(
        self, console: Console, device: Processor, baselines: Sequence[Baseline], *, steps: int, repeats: int
    ) -> None:
        self._console = console
        self._device = device
        self._baselines = baselines
        self._steps = steps
        self._repeats = repeats
        self._failures: list[Lack] = []
        self._rows: list[dict[str, Any]] = []

    def run(self, checkpoints: Sequence[str]) -> dict[str, Any]:
        """What was found, printed and as JSON: times in milliseconds, parity as PSNR in dB. Raises: OSError."""
        targets = self._targets()
        if targets:
            with tempfile.TemporaryDirectory(prefix="darkroom-doctor-") as work:
                for checkpoint in checkpoints:
                    for target in targets:
                        self._try(checkpoint, target, Path(work))
            self._console.print(self._table())
            if self._failures:
                self._console.print(_failed(self._failures))
        verdict = "Something is wrong, see above." if self._failures else "All is well."
        mps = gpu.find_mps()
        self._console.print(_ALONE if mps is None else f"Several processes on one GPU run at the same time: {mps}.")
        self._console.print(verdict if targets else "Nothing was built; call doctor again when this is done.")
        return {
            "hardware": {**hardware(), **self._gpu()},
            "software": software(),
            "device": self._device.value,
            "mps": None if mps is None else vars(mps),
            "engines": self._rows,
            "failures": [{"what": failure.what, "remedy": failure.remedy} for failure in self._failures],
        }

    def _targets(self) -> list[str]:
        """What can be compiled here; what is missing for the rest is printed and counts as a failure."""
        if self._device == Processor.CPU:
            return [REHEARSED]
        missing = examine()
        if any(missing.values()):
            self._console.print(table(missing))
            self._failures += dict.fromkeys(lack for each in missing.values() for lack in each)
        return [TARGETS[provider] for provider, each in missing.items() if not each]

    def _try(self, checkpoint: str, target: str, work: Path) -> None:
        name = Path(checkpoint).name if checkpoint != str(CRAYON) else "crayon"
        store = DirectoryStore(work / "store")
        plan = Plan(
            *(checkpoint, f"{len(self._rows)}-{target}", [target], work / "stages"),
            steps=self._steps,
            guidance=_GUIDANCE.get(checkpoint),
            repeats=0,
        )
        try:
            build = Build(plan, store, BuildProgress(self._console))
            manifest, report = build.run()
        except (BuildRefused, DarkroomError) as refused:
            self._failures.append(_failure(f"{name} on {target}", refused))
            return
        (checked,) = report["targets"]
        row: dict[str, Any] = {
            "checkpoint": name,
            "target": manifest.targets[0].name,
            "image": report["image"],
            "psnr": checked["psnr"][f"image/{report['image']['sampler']}"],
            "fused": checked.get("fusion", {}),
        }
        self._rows.append(
            {**row, "baselines": self._timed(row["target"], build, manifest, work / "store", report["image"])}
        )

    def _timed(
        self, target: str, build: Build, manifest: EngineManifest, store: Path, image: dict[str, Any]
    ) -> dict[str, dict[str, float]]:
        files = {
            file.path: store / catalog.bundle_key(manifest.model, manifest.version, file.path)
            for file in manifest.files
        }
        setting = Setting(
            *(image["prompt"], image["width"], image["height"], image["num_inference_steps"], image["guidance_scale"]),
            image["sampler"],
        )
        times = {}
        for baseline in self._baselines:
            reference = ReferenceSide(
                *(build.sources.checkpoint, threads(), "cuda" if self._device == Processor.GPU else "cpu"),
                half=baseline != Baseline.FP32,
                compiled=baseline == Baseline.COMPILE,
            )
            with BuildProgress(self._console).running(f"time/{_CALLED[baseline]}"):
                try:
                    turns = take_turns(
                        *(reference, partial(BundlePipeline, manifest, target, files, threads()), {IMAGE: setting}),
                        repeats=self._repeats,
                        advance=lambda: None,
                    )
                except BuildRefused as refused:
                    self._failures.append(_failure(_CALLED[baseline], refused))
                    continue
            slow, fast = (reading.seconds * 1000 for reading in turns[IMAGE])
            times[baseline.value] = {
                "baseline_ms": round(slow, 1),
                "optimised_ms": round(fast, 1),
                "speed_up": round(slow / fast, 2),
            }
        return times

    def _gpu(self) -> dict[str, Any]:
        try:
            card = gpu.find_gpu()
        except gpu.NoGpu:
            return {"gpu": None}
        return {"gpu": card.name, "gpu_memory_bytes": card.memory_bytes, "gpu_architecture": card.architecture}

    def _table(self) -> Table:
        versions, machine = software(), {**hardware(), **self._gpu()}
        place = machine["gpu"] if self._device == Processor.GPU else machine["processor"]
        libraries = ", ".join(f"{library} {versions[library]}" for library in ("torch", "diffusers", "onnxruntime"))
        shown = Table(
            *("checkpoint", "optimised by", "baseline"),
            title=f"hardware: {place}\nsoftware: {libraries}",
            caption=f"one image, {self._steps} steps, median of {self._repeats} in turns; PSNR against diffusers fp32",
            title_justify="left",
            caption_justify="left",
            box=SIMPLE,
        )
        for heading in ("baseline time", "optimised time", "speed-up", "PSNR"):
            shown.add_column(heading, justify="right", no_wrap=True)
        for row in self._rows:
            for baseline, times in row["baselines"].items():
                shown.add_row(
                    *(row["checkpoint"], row["target"], _CALLED[Baseline(baseline)]),
                    *(f"{times['baseline_ms']:,.0f} ms", f"{times['optimised_ms']:,.0f} ms"),
                    *(f"{times['speed_up']:.2f} times", f"{row['psnr']:.1f} dB"),
                )
        return shown


def _failure(work: str, refused: Exception) -> Lack:
    reason = refused.detail if isinstance(refused, DarkroomError) else str(refused)
    return Lack(f"{work}: {reason}", next(remedy for phrase, remedy in _REMEDIES if phrase in reason))


def _failed(failures: Sequence[Lack]) -> Table:
    shown = Table("what failed", "what to do", title="Failures", title_justify="left", box=SIMPLE)
    for failure in failures:
        shown.add_row(escape(failure.what), escape(failure.remedy))
    return shown
