"""Tokenizer: one tokenizer.json that the torch-free `tokenizers` library reads, and the ids around a prompt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import Checkpoint


def write(checkpoint: Checkpoint, tokenizer: Any, path: Path) -> dict[str, int]:
    """Write tokenizer.json to `path`: the checkpoint's own, or converted from its vocab.json and merges.txt.

    `tokenizer` is the loaded pipeline's; returns its bos_token_id, eos_token_id and pad_token_id.
    """
    own = checkpoint.folder / "tokenizer" / "tokenizer.json"
    if own.is_file():
        shutil.copyfile(own, path)
    else:
        tokenizer.backend_tokenizer.save(str(path))
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, value in ids.items():
        if not isinstance(value, int):
            raise BuildRefused(f"The checkpoint's tokenizer has no {name}.")
    return ids
