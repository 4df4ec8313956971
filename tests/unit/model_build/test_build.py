"""Every stage that a build runs depends on the modules that do its work, and on none that only put stages together."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

import model_build
from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.gpu import Gpu
from darkroom.storage.directory import DirectoryStore
from model_build.build import Build
from model_build.compile.device import Device
from model_build.compile.targets import GPU_TARGETS, TARGETS, TargetSpec
from model_build.imports import closure
from model_build.layout import REPORT, TABLES, TOKENIZER
from model_build.own_engines import OwnEngines
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.publish import Outputs
from model_build.stages import FinishedStage, Stage

ROOT = Path(model_build.__file__).parent
CRAYON = ROOT.parent / "crayon"
COMPOSITION = ("build", "own_engines", "sources", "publish", "plan", "stages", "progress", "__main__", "int8.stages")
# How many modules of this house a stage may depend on, `__init__` files left out: about as many as it does.
MOST = {
    "export": 7,
    "optimize": 2,
    "halve": 2,
    "fuse": 2,
    "compile": 6,
    "samplers": 2,
    "tokenizer": 5,
    "preview": 7,
    "calibrate": 14,
    "quantize": 8,
    "pair": 10,
    "verify": 24,
    "report": 26,
}
DEVICE = Device(Gpu("NVIDIA A10", "sm86", 24 << 30, "13.0"), "onnxruntime-gpu", "13.0", "10.16.1")


class Planned(Build):
    """A build whose stages are noted instead of run."""

    def __init__(self, plan: Plan, store: DirectoryStore, outputs: Path) -> None:
        super().__init__(plan, store, BuildProgress(Console(file=io.StringIO())), DEVICE)
        self.stages: dict[str, Stage] = {}
        self._outputs = outputs

    def _run(self, stage: Stage, work: object, total: int | None = None) -> FinishedStage:
        self.stages[stage.name] = stage
        return FinishedStage(self._outputs, dict.fromkeys((TOKENIZER, TABLES), "ab" * 32), skipped=True)

    def _manifest(self, outputs: Outputs, targets: list[TargetSpec]) -> EngineManifest:
        return catalog.load_manifest(DirectoryStore(CRAYON / "bundle"), "crayon")


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    folder = tmp_path_factory.mktemp("planned")
    (folder / REPORT).write_text("{}")
    plan = Plan(
        *(str(CRAYON / "checkpoint"), "crayon", [*TARGETS, *GPU_TARGETS], folder / "work"),
        token_merging=0.5,
        controlnets={"canny": str(CRAYON / "controlnet-canny")},
        loras=[str(CRAYON / "controlnet-canny" / "diffusion_pytorch_model.safetensors")],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OwnEngines, "preflight", lambda *_: None)
        patch.setattr("model_build.build.publish", lambda *_: None)
        planned = Planned(plan, DirectoryStore(folder / "store"), folder)
        planned.run()
    return planned.stages


def test_every_kind_of_stage_is_planned(stages: dict[str, Stage]) -> None:
    assert {name.partition("/")[0] for name in stages} == set(MOST)


def test_a_stage_depends_on_few_modules_and_on_no_composition(stages: dict[str, Stage]) -> None:
    for name, stage in stages.items():
        modules = [
            module
            for module, path in closure(*stage.code).items()
            if path.name != "__init__.py" and module != "darkroom.silence"  # which every package imports
        ]
        assert {f"model_build.{each}" for each in COMPOSITION}.isdisjoint(modules), f"{name}: {modules}"
        assert len(modules) <= MOST[name.partition("/")[0]], f"{name}: {modules}"


def test_a_stage_names_all_modules_that_its_work_imports(stages: dict[str, Stage]) -> None:
    covered = {module for stage in stages.values() for module in closure(*stage.code)}
    for file in ("build.py", "own_engines.py", "int8/stages.py", "sources.py"):
        tree = ast.parse((ROOT / file).read_text())
        lazy = {
            node.module
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("model_build")
        }
        refusals = {"model_build.compile.preflight", "model_build.compile"}  # what refuses, and timings, make no output
        assert lazy - covered <= refusals, file
