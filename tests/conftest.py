"""Shared by more than one room: a tiny checkpoint, its bundle, a Postgres; and CI skips nothing that it could have."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from darkroom import silence
from tests import keyed
from tests import postgres as server
from tests.exclusive import alone_in

silence.keep()

# The same examples in every run, and no time limit for one: machines are slow at times.
settings.register_profile("darkroom", derandomize=True, deadline=None)
settings.load_profile("darkroom")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    passed = keyed.passed()
    for item in items:
        mark = item.get_closest_marker("costly") if item.nodeid in passed else None
        if mark and passed[item.nodeid] == keyed.key(item.path, mark.args, item.fixturenames):
            item.add_marker(pytest.mark.skip(reason="it passed with the very same inputs (tests/passed.json)"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A costly test may open no file of ours that its key does not cover."""
    mark = item.get_closest_marker("costly")
    if mark is None:
        return (yield)
    before = keyed.key(item.path, mark.args, item.fixturenames)
    with keyed.opened() as files:
        result = yield
    if forgotten := files - keyed.inputs(item.path, mark.args, item.fixturenames):
        names = ", ".join(sorted(str(path.relative_to(keyed.ROOT)) for path in forgotten))
        pytest.fail(f"it reads what its mark `costly` does not name: {names}")
    keyed.record(item.nodeid, before)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, a test that is skipped because it "needs" a program fails: .ci/run has to install it."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and isinstance(report.longrepr, tuple):
        _, _, reason = report.longrepr
        if reason.removeprefix("Skipped: ").startswith("needs "):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} may not be skipped in CI: {reason}"
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real Postgres, where its programs and a driver are at hand."""
    if reason := server.missing():
        pytest.skip(reason)
    with server.serving() as url:
        yield url


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random StableDiffusionPipeline (epsilon, fp16, 64x64 pixels) as a diffusers folder; not to be changed."""
    from tests.tiny_checkpoint import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def tiny_work(request: pytest.FixtureRequest) -> Path:
    """Where the tiny bundle's stages are kept from one run of the tests to the next: they are keyed by content."""
    cache = request.config.cache
    assert cache is not None
    return cache.mkdir("darkroom-build")


@pytest.fixture(scope="session")
def tiny_store(tiny_checkpoint: Path, tiny_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a DirectoryStore that serves the tiny checkpoint's bundle, with all targets, as the model `tiny`."""
    from rich.console import Console

    from darkroom.storage.directory import DirectoryStore
    from model_build.build import Build
    from model_build.compile.targets import TARGETS
    from model_build.plan import Plan
    from model_build.progress import BuildProgress

    root = tmp_path_factory.mktemp("store")
    plan = Plan(str(tiny_checkpoint), "tiny", list(TARGETS), tiny_work, verify_steps=4, repeats=0)
    with alone_in(tiny_work):
        Build(plan, DirectoryStore(root), BuildProgress(Console(file=io.StringIO()))).run()
    return root


@pytest.fixture(scope="session")
def tiny_controlnets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of two random ControlNets of the tiny checkpoint, by type; not to be changed."""
    from tests.tiny_checkpoint import write_tiny_controlnet

    root = tmp_path_factory.mktemp("controlnets")
    return {kind: str(write_tiny_controlnet(root / kind, seed)) for seed, kind in enumerate(("canny", "depth"), 1)}


@pytest.fixture(scope="session")
def controlled_store(
    tiny_checkpoint: Path, tiny_controlnets: dict[str, str], tiny_work: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The root of a DirectoryStore that serves the tiny checkpoint with both ControlNets as the model `controlled`."""
    from rich.console import Console

    from darkroom.storage.directory import DirectoryStore
    from model_build.build import Build
    from model_build.plan import Plan
    from model_build.progress import BuildProgress

    root = tmp_path_factory.mktemp("controlled")
    targets = ["openvino-fp32", "onnx-cpu"]
    plan = Plan(
        *(str(tiny_checkpoint), "controlled", targets, tiny_work),
        verify_steps=4,
        repeats=0,
        controlnets=tiny_controlnets,
    )
    with alone_in(tiny_work):
        Build(plan, DirectoryStore(root), BuildProgress(Console(file=io.StringIO()))).run()
    return root
