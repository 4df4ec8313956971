"""A stage is skipped when its key and its outputs are unchanged, and for no other reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from model_build import BuildRefused
from model_build.stages import FinishedStage, Stage, Workspace

STAGE = Stage("export/unet", code=("model_build.graphs.weights",), libraries=("numpy",), inputs={"checkpoint": "ab"})


def write(folder: Path) -> None:
    (folder / "unet.onnx").write_bytes(b"graph")
    (folder / "parts").mkdir()
    (folder / "parts" / "weights").write_bytes(b"weights")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.fixture
def done(workspace: Workspace) -> FinishedStage:
    with workspace.held():
        return workspace.run(STAGE, write)


def test_a_first_run(workspace: Workspace, done: FinishedStage) -> None:
    assert not done.skipped
    assert list(done.files) == ["parts/weights", "unet.onnx"]
    assert (done.folder / "parts/weights").read_bytes() == b"weights"
    assert [path.name for path in workspace.folder.iterdir() if path.name.startswith(".unf")] == []


def test_unchanged(workspace: Workspace, done: FinishedStage) -> None:
    again = workspace.unchanged(STAGE)
    assert again is not None
    assert again.skipped
    assert (again.folder, again.files, again.digest) == (done.folder, done.files, done.digest)


@pytest.mark.parametrize(
    "changed",
    [
        Stage(STAGE.name, ("model_build.proof.trial",), STAGE.libraries, STAGE.inputs),
        Stage(STAGE.name, STAGE.code, ("numpy", "onnx"), STAGE.inputs),
        Stage(STAGE.name, STAGE.code, STAGE.libraries, {"checkpoint": "cd"}),
        Stage(STAGE.name, STAGE.code, STAGE.libraries, STAGE.inputs, {"opset": 20}),
    ],
    ids=["code", "libraries", "inputs", "parameters"],
)
@pytest.mark.usefixtures("done")
def test_whatever_a_stage_depends_on(workspace: Workspace, changed: Stage) -> None:
    assert workspace.unchanged(changed) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record", "no record", "other record"])
def test_damaged_outputs_are_made_again(workspace: Workspace, done: FinishedStage, damage: str) -> None:
    graph, record = done.folder / "unet.onnx", done.folder / "stage.json"
    if damage == "flip":
        graph.write_bytes(b"grapi")
    elif damage == "truncate":
        graph.write_bytes(b"")
    elif damage == "remove":
        graph.unlink()
    elif damage == "record":
        record.write_text("{")
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text(json.dumps([]))
    assert workspace.unchanged(STAGE) is None
    with workspace.held():
        assert workspace.run(STAGE, write).files == done.files
    assert workspace.unchanged(STAGE) is not None


def test_an_interrupted_stage_leaves_the_one_before(workspace: Workspace, done: FinishedStage) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "unet.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    changed = Stage(STAGE.name, STAGE.code, parameters={"opset": 20})
    with workspace.held(), pytest.raises(KeyboardInterrupt):
        workspace.run(changed, interrupted)
    assert workspace.unchanged(changed) is None
    assert workspace.unchanged(STAGE) is not None
    assert (done.folder / "unet.onnx").read_bytes() == b"graph"
    assert sorted(path.name for path in workspace.folder.iterdir()) == [".lock", "export"]


@pytest.mark.parametrize("moment", ["made", "removed"])
def test_nothing_stays_of_a_stage_interrupted_as_its_folder_is(
    moment: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        monkeypatch.undo()  # Ctrl-C comes once
        raise KeyboardInterrupt

    def building() -> None:
        with workspace.held():
            if moment == "made":
                (workspace.folder / ".unfinished-abc").mkdir()
                monkeypatch.setattr(tempfile, "mkdtemp", interrupted)
            else:
                monkeypatch.setattr(shutil, "rmtree", interrupted)
            workspace.run(STAGE, write)

    with pytest.raises(KeyboardInterrupt):
        building()
    assert {path.name for path in workspace.folder.iterdir()} <= {".lock", "export"}


def test_what_a_killed_build_left_is_removed(workspace: Workspace) -> None:
    left = workspace.folder / ".unfinished-abc"
    left.mkdir(parents=True)
    (left / "unet.onnx").write_bytes(b"half")
    with workspace.held():
        assert not left.exists()


def test_one_build_at_a_time(workspace: Workspace) -> None:
    other = "import sys; from pathlib import Path; from model_build.stages import Workspace\n"
    other += "with Workspace(Path(sys.argv[1])).held(): pass"
    with workspace.held():
        found = subprocess.run(
            [sys.executable, "-c", other, str(workspace.folder)], capture_output=True, text=True, timeout=60
        )
        assert "BuildRefused: Another build is at work in" in found.stderr
        with pytest.raises(BuildRefused, match="wait for it or use --work"), Workspace(workspace.folder).held():
            pass
    with workspace.held():
        pass


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose `work` imports `near`, `near` lazily `room.far`; `other` imports `work`."""
    house = tmp_path / "a_house_of_this_test"
    (house / "room").mkdir(parents=True)
    for file, source in {
        "__init__.py": "",
        "work.py": "import json\nfrom a_house_of_this_test import near\n",
        "near.py": "def late():\n    from a_house_of_this_test.room.far import STEPS\n    return STEPS\n",
        "room/__init__.py": "",
        "room/far.py": "from .. import near  # a circle\nSTEPS = 1\n",
        "room/beside.py": "STEPS = 1\n",
        "other.py": "from a_house_of_this_test import work\n",
    }.items():
        (house / file).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return house


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        *[("__init__.py", True), ("work.py", True), ("near.py", True), ("room/__init__.py", True)],
        *[("room/far.py", True), ("room/beside.py", False), ("other.py", False)],
    ],
)
def test_the_key_covers_what_the_work_imports_and_nothing_else(house: Path, file: str, counts: bool) -> None:
    stage = Stage("x", code=("a_house_of_this_test.work",))
    before = stage.key()
    changed = house / file
    changed.write_text(changed.read_text() + "MORE = 2\n")
    assert (stage.key() != before) is counts
    assert "a_house_of_this_test" not in sys.modules, "read, and never imported"


def test_a_module_that_is_not_there() -> None:
    for name in ("no_module_of_this_name", "model_build.no_module_of_this_name"):
        with pytest.raises(ModuleNotFoundError):
            Stage("x", code=(name,)).key()
