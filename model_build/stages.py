"""Stages: each keyed by a content hash of all it depends on, its outputs written aside and moved in whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import file_sha256
from model_build.hardware import installed
from model_build.imports import closure

_RECORD = "stage.json"
_ASIDE = ".unfinished-"


@dataclass(frozen=True)
class Stage:
    """What a stage's outputs depend on; its key is a hash over all of it.

    `code` names the modules that do the work, and covers all they import (`imports.closure`); `libraries` are the
    distributions whose version counts, `inputs` the digests of what is read, `parameters` whatever else (JSON).
    """

    name: str
    code: Sequence[str]
    libraries: Sequence[str] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        content = {
            "code": {module: file_sha256(path) for module, path in closure(*self.code).items()},
            "libraries": {library: installed(library) for library in self.libraries},
            "inputs": dict(self.inputs),
            "parameters": dict(self.parameters),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FinishedStage:
    """A stage's outputs: the SHA-256 of every file by its path in `folder`. `skipped`: nothing had to be done."""

    folder: Path
    files: dict[str, str]
    skipped: bool

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()


Work = Callable[[Path, Callable[[], None]], None]  # writes a stage's outputs into a folder, and calls as it advances


class RunStage(Protocol):
    """Runs a stage, or finds it unchanged; `total` is how often its work advances."""

    def __call__(self, stage: Stage, work: Work, total: int | None = None) -> FinishedStage: ...


class Workspace:
    """The folder of one bundle's stages, one subfolder each; held by one build at a time (`with`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[Workspace]:
        """Raises BuildRefused when another build holds the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BuildRefused(f"Another build is at work in {self.folder}; wait for it or use --work.") from None
            self._clear()  # of a build that was killed
            try:
                yield self
            finally:
                self._clear()  # Ctrl-C may come before `run` guards the folder it made, or while it removes it

    def unchanged(self, stage: Stage) -> FinishedStage | None:
        """The outputs of an earlier run with the same key, if each still has the bytes it was written with."""
        folder = self._place(stage)
        try:
            record = json.loads((folder / _RECORD).read_text())
            if record["key"] != stage.key():
                return None
            files = {str(path): str(digest) for path, digest in record["files"].items()}
            intact = all(file_sha256(folder / path) == digest for path, digest in files.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return FinishedStage(folder, files, skipped=True) if intact else None

    def run(self, stage: Stage, work: Callable[[Path], None]) -> FinishedStage:
        """Let `work` write into a folder aside, then move it into the stage's place; interrupted, nothing stays."""
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self.folder))
        try:
            done, place = aside / "done", self._place(stage)
            done.mkdir()
            work(done)
            files = {path: file_sha256(done / path) for path in _files(done)}
            (done / _RECORD).write_text(json.dumps({"key": stage.key(), "files": files}, indent=1, sort_keys=True))
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                place.rename(aside / "before")
            done.rename(place)
        finally:
            shutil.rmtree(aside)
        return FinishedStage(place, files, skipped=False)

    def _clear(self) -> None:
        for left in self.folder.glob(f"{_ASIDE}*"):
            shutil.rmtree(left)

    def _place(self, stage: Stage) -> Path:
        return self.folder / stage.name


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
