"""Compiled graphs on the local disk: what an engine library worked out at one start is there for the next."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from runtime.engines.mapped import let_go

_SUFFIX = ".graph"
_DIGEST = hashlib.sha256().digest_size


class CompiledGraphs:
    """One file a graph, under a byte budget that the longest unused leave first. Safe to use from several threads and
    processes.

    No method raises for what a disk does: without it graphs are compiled. A compiled graph is as good as code, so only
    a folder that nobody else may write to is used, and only files whose SHA-256 holds are given out.
    """

    def __init__(self, folder: Path, budget: int, made_for: Sequence[str]) -> None:
        """`budget` in bytes of files; `made_for` tells the engines and the machine apart from all others."""
        self._budget = budget
        self._made_for = list(made_for)
        self._log = structlog.get_logger()
        self._folder = self._open(folder)

    def name(self, component: str, library: str, properties: Mapping[str, str]) -> str:
        """Where a component's graph is kept, compiled by this version of a library with these properties."""
        identity = json.dumps([self._made_for, component, library, dict(properties)], sort_keys=True)
        return f"{component}-{hashlib.sha256(identity.encode()).hexdigest()[:32]}{_SUFFIX}"

    def read(self, name: str) -> memoryview | None:
        """The graph as it was written, None where there is none; one that is damaged is removed.

        It is mapped from the file, which may leave its folder meanwhile: a whole Stable Diffusion's is half a gigabyte.
        """
        if self._folder is None:
            return None
        path = self._folder / name
        try:
            with path.open("rb") as file:
                # What writes to it, as an engine library may, has a copy of that page.
                content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            os.utime(path)
        except OSError:
            return None
        except ValueError:  # nothing in it
            content = memoryview(b"")
        graph, digest = content[:-_DIGEST], content[-_DIGEST:]
        if hashlib.sha256(graph).digest() != digest:
            self._log.warning("compiled graph damaged", file=name)
            self.remove(name)
            return None
        return graph

    def write(self, name: str, graph: bytes | memoryview) -> None:
        """Keep a graph, whole or not at all; one that is larger than the budget would only drive out all others."""
        if self._folder is None:
            return
        if len(graph) + _DIGEST > self._budget:
            self._log.warning("compiled graph not kept", file=name, reason=f"{len(graph) >> 20} MB are over its budget")
            return
        try:
            with tempfile.NamedTemporaryFile(suffix=".partial", dir=self._folder, delete=False) as file:
                aside = Path(file.name)
                try:
                    file.write(graph)
                    file.write(hashlib.sha256(graph).digest())  # at the end: what is mapped begins with a page
                    file.flush()
                    aside.replace(self._folder / name)
                except OSError:
                    aside.unlink()
                    raise
            self._make_room(self._folder)
        except OSError as failure:  # full, read-only, gone
            self._log.warning("compiled graph not kept", file=name, reason=os.strerror(failure.errno or 0))

    def let_go(self, name: str) -> None:
        """Let go of the memory that a graph takes which `read` gave out; what of it is looked at again comes back."""
        if self._folder is not None:
            let_go([self._folder / name])

    def remove(self, name: str) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def _open(self, folder: Path) -> Path | None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
        except OSError as failure:
            self._log.warning("compiled graphs not kept", reason=os.strerror(failure.errno or 0))
            return None
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            self._log.warning("compiled graphs not kept", reason="others may write to the folder", folder=str(folder))
            return None
        return folder

    def _make_room(self, folder: Path) -> None:
        """Remove the longest unused; what a killed writer left is among them in its turn."""
        files = []
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._budget:
                return
            path.unlink(missing_ok=True)
            total -= size
