"""A store whose process may write no file larger than a limit, until the limit is lifted: `disk_full.py FOLDER`."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from darkroom.errors import StorageFull
from darkroom.storage.directory import DirectoryStore


def main(folder: Path) -> None:
    store = DirectoryStore(folder / "objects")
    store.put("image", b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        store.put("image", b"x" * 5000)
        said = None
    except StorageFull as full:
        said = full.problem().model_dump()
    left = sorted(path.name for path in (folder / "objects").rglob("*") if path.is_file())
    during = store.get("image").decode()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.put("image", b"x" * 5000)
    print(json.dumps({"said": said, "left": left, "during": during, "after": len(store.get("image"))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
