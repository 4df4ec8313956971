"""Files mapped into this process: their pages are let go of once an engine library has copies of what it needs."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from collections.abc import Collection
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_EACH = re.compile(r"^(?=[0-9a-f]+-[0-9a-f]+ )", re.MULTILINE)
_OWN = ("Anonymous", "Swap")  # what a process wrote into a private mapping is nowhere else


def let_go(files: Collection[Path]) -> None:
    """Let go of the pages of `files` in this process's memory; what is read again comes from the page cache.

    A mapping that was written to stays as it is. Where the system does not tell what is mapped nothing happens.
    Source: madvise(2), MADV_DONTNEED; proc_pid_smaps(5).
    """
    try:
        mappings = _EACH.split(os.fsdecode(_SMAPS.read_bytes()))
    except OSError:
        return
    paths = {str(file.resolve()) for file in files}
    advise = ctypes.CDLL(None).madvise
    for header, *fields in (mapping.splitlines() for mapping in mappings if mapping):
        span, *_, path = header.split(maxsplit=5)
        sizes = {name: size.split() for name, _, size in (field.partition(":") for field in fields)}
        if path in paths and all(sizes.get(kind) == ["0", "kB"] for kind in _OWN):
            start, end = (int(edge, 16) for edge in span.split("-"))
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
