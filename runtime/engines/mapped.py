"""Files mapped into this process: their pages leave memory once an engine library has copies of what it needs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from pathlib import Path

_PROCESS = Path("/proc/self")
_PAGE_OUT = 21  # MADV_PAGEOUT, asm-generic/mman-common.h; since Linux 5.4


def let_go(files: Collection[Path]) -> None:
    """Have the pages of `files` leave this process's memory; what is read again comes from the file.

    Between reading what is mapped and the advice, another thread may map something else there. So the advice is one
    that loses nothing whatever is there: pages that are nowhere else are kept. It is without effect on what another
    process has mapped too, on files of another user, and where the system does not tell what is mapped.
    Source: madvise(2), MADV_PAGEOUT; proc_pid_maps(5).
    """
    paths = {str(file.resolve()) for file in files}
    try:
        mappings = os.fsdecode((_PROCESS / "maps").read_bytes()).splitlines()
    except OSError:
        return
    for span, *_, path in (mapping.split(maxsplit=5) for mapping in mappings):
        if path in paths:
            start, end = (int(edge, 16) for edge in span.split("-"))
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _PAGE_OUT)
