"""Autoencoder: a diffusers folder or hub id -> the checkpoint with that one in the place of its own, or why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import READ, VAES, Checkpoint, file_sha256, folder_of, read_vae, refuse_pickles


def with_autoencoder(checkpoint: Checkpoint, source: str) -> Checkpoint:
    """The checkpoint that would have this autoencoder as its `vae`: of another hash, and all else the same.

    Raises: BuildRefused.
    """
    folder = _folder(source)
    config = read_vae(folder)
    kind = config.get("_class_name")
    if kind not in VAES:
        raise BuildRefused(f"{source} is a {kind}; only {' or '.join(VAES)} can be built as --vae.")
    refuse_pickles(folder, source)
    rest = {path: digest for path, digest in checkpoint.files.items() if not path.startswith("vae/")}
    used = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in READ)
    files = rest | {f"vae/{path.name}": file_sha256(path) for path in used}
    changed = replace(checkpoint, files=files, configs={**checkpoint.configs, "vae": config}, vae=folder)
    for what in ("latent_channels", "downscale"):
        wanted, actual = getattr(checkpoint, what), getattr(changed, what)
        if wanted != actual:
            raise BuildRefused(f"{source} was made for another checkpoint: its {what} is {actual}, not {wanted}.")
    return changed


def _folder(source: str) -> Path:
    if "/" not in source and not Path(source).is_dir():
        raise BuildRefused(f"There is no folder {source}.")
    folder = folder_of(source, [f"*{end}" for end in READ])
    if not (folder / "config.json").is_file():
        raise BuildRefused(f"{source} is no autoencoder in diffusers' form: it has no config.json.")
    return folder
