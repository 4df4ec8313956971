"""Files mapped into this process: their pages are let go of once an engine library has copies of what it needs."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

_PROCESS = Path("/proc/self")
_ENTRY = np.dtype(np.uint64)  # one a page, as Documentation/admin-guide/mm/pagemap.rst of Linux has it
_OF_A_FILE, _SWAPPED, _PRESENT = (np.uint64(1 << bit) for bit in (61, 62, 63))


def let_go(files: Collection[Path]) -> None:
    """Let go of the pages of `files` in this process's memory; what is read again comes from the page cache.

    A mapping that was written to stays as it is. Where the system does not tell what is mapped nothing happens.
    Source: madvise(2), MADV_DONTNEED; proc_pid_maps(5).
    """
    paths = {str(file.resolve()) for file in files}
    try:
        mappings = os.fsdecode((_PROCESS / "maps").read_bytes()).splitlines()
        for span, permissions, *_, path in (mapping.split(maxsplit=5) for mapping in mappings):
            if path not in paths:
                continue
            start, end = (int(edge, 16) for edge in span.split("-"))
            if permissions.endswith("p") and _written(start, end):
                continue
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
    except OSError:
        return


def _written(start: int, end: int) -> bool:
    """Whether a private mapping has pages of its own, which are nowhere else."""
    with (_PROCESS / "pagemap").open("rb") as pagemap:
        pagemap.seek(start // mmap.PAGESIZE * _ENTRY.itemsize)
        pages = np.frombuffer(pagemap.read((end - start) // mmap.PAGESIZE * _ENTRY.itemsize), _ENTRY)
    own = (pages & _PRESENT != 0) & (pages & _OF_A_FILE == 0)
    return bool((own | (pages & _SWAPPED != 0)).any())
