"""Checkpoint: a diffusers folder or hub id -> what the build needs of it, or why it cannot be built."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from darkroom.bundles.manifest import Condition
from model_build import BuildRefused
from model_build.checkpoints.scheduler import refuse_other_noise

VAES = ("AutoencoderKL", "AutoencoderTiny")
_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_CLASSES = {
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": _TOKENIZERS,
    "unet": ("UNet2DConditionModel",),
    "vae": VAES,
}
_SECOND = {"text_encoder_2": ("CLIPTextModelWithProjection",), "tokenizer_2": _TOKENIZERS}
# A pipeline's parts. LatentConsistencyModelPipeline is StableDiffusionPipeline with its own defaults.
_PIPELINES = {
    "StableDiffusionPipeline": _CLASSES,
    "LatentConsistencyModelPipeline": _CLASSES,
    "StableDiffusionXLPipeline": {**_CLASSES, **_SECOND},
}
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_POINTER = b"version https://git-lfs"
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
READ = (".json", ".safetensors", ".txt")  # nothing else of a checkpoint is downloaded, hashed or opened
_HUB_PATTERNS = [
    "model_index.json",
    *(f"{part}/*{end}" for part in (*_CLASSES, *_SECOND, "scheduler") for end in READ),
]
_UNET_CONDITIONS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
TIME_IDS = 6  # of SDXL: original height and width, top and left of the crop, target height and width
_NEEDED = {"text_encoder": "hidden_size", "text_encoder_2": "projection_dim", "vae": "block_out_channels"}
# What AutoencoderTiny takes where its config says nothing of it.
_TINY: dict[str, Any] = {"decoder_block_out_channels": [64] * 4, "latent_channels": 4, "scaling_factor": 1.0}


@dataclass(frozen=True)
class Checkpoint:
    """A Stable Diffusion checkpoint on disk: parsed configs, and the SHA-256 of every file that is read of it.

    `vae` is the folder of its autoencoder where that is not its own. Nothing here needs torch, so a build with nothing
    to do is done at once.
    """

    folder: Path
    files: dict[str, str]
    configs: dict[str, dict[str, Any]]
    index: dict[str, Any] = field(default_factory=dict)
    vae: Path | None = None

    @property
    def pipeline(self) -> Literal["stable-diffusion", "stable-diffusion-xl"]:
        return "stable-diffusion-xl" if "text_encoder_2" in self.configs else "stable-diffusion"

    @property
    def conditions(self) -> list[Condition]:
        """What the UNet takes besides latents, timestep and prompt_embeds."""
        unet = self.configs["unet"]
        guidance: list[Condition] = ["guidance"] if unet.get("time_cond_proj_dim") is not None else []
        return ["text_embeds", "time_ids", *guidance] if unet.get("addition_embed_type") else guidance

    @property
    def zero_negative(self) -> bool:
        """Whether the embeddings of an empty negative prompt are zeros; diffusers' default of SDXL."""
        return self.pipeline == "stable-diffusion-xl" and bool(self.index.get("force_zeros_for_empty_prompt", True))

    @property
    def pooled_dim(self) -> int | None:
        """Width of `text_embeds`, where the UNet takes them."""
        return int(self.configs["text_encoder_2"]["projection_dim"]) if "text_encoder_2" in self.configs else None

    @cached_property
    def sha256(self) -> str:
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def prediction_type(self) -> Literal["epsilon", "v_prediction"]:
        kind = self.configs["scheduler"].get("prediction_type", "epsilon")
        return "v_prediction" if kind == "v_prediction" else "epsilon"

    @property
    def sampler_config(self) -> dict[str, Any]:
        """The scheduler config as StableDiffusionPipeline itself corrects it when it is loaded.

        SDXL's does not; but a sampler made from a config that says nothing of it would clip, which is no linear table.
        """
        corrected = {} if self.pipeline == "stable-diffusion-xl" else {"steps_offset": 1}
        return {**self.configs["scheduler"], **corrected, "clip_sample": False}

    @property
    def latent_channels(self) -> int:
        return int(self.configs["vae"].get("latent_channels", 4))

    @property
    def downscale(self) -> int:
        return int(2 ** (len(self.configs["vae"]["block_out_channels"]) - 1))

    @property
    def scaling_factor(self) -> float:
        return float(self.configs["vae"].get("scaling_factor", 0.18215))

    @property
    def vae_overflows(self) -> bool:
        """Whether its config says that the autoencoder must stay in float32, as SDXL's does."""
        return self.configs["vae"].get("force_upcast") is True

    @property
    def native_size(self) -> int:
        """Side in pixels of the square images the UNet was made for."""
        unet = self.configs["unet"]
        size = unet.get("sample_size") or 64
        side = max(size) if isinstance(size, list) else int(size)
        # Files of diffusers before 0.9.0 say 32 and mean 64; StableDiffusionPipeline reads them so.
        version = _VERSION.match(str(unet.get("_diffusers_version", "")))
        misled = side < 64 and version is not None and (int(version[1]), int(version[2])) < (0, 9)
        return (64 if misled else side) * self.downscale

    @property
    def embedding_dim(self) -> int:
        encoders = (part for part in ("text_encoder", "text_encoder_2") if part in self.configs)
        return sum(int(self.configs[part]["hidden_size"]) for part in encoders)

    @property
    def max_length(self) -> int:
        """Tokens of a prompt. A tokenizer config without a length says 1e30, hence the minimum."""
        positions = int(self.configs["text_encoder"].get("max_position_embeddings", 77))
        return min(positions, int(self.configs["tokenizer"].get("model_max_length", positions)))

    def variant(self, part: str = "unet") -> str | None:
        """`fp16` where the weights of a part exist in that variant only, as hub repositories name them."""
        names = [path for path in self.files if path.startswith(f"{part}/") and path.endswith(".safetensors")]
        return "fp16" if all(".fp16." in name for name in names) else None


def open_checkpoint(source: str) -> Checkpoint:
    """Read a diffusers folder, or download a hub id (safetensors only), and refuse what cannot be built.

    Raises: BuildRefused.
    """
    folder = _folder(source)
    index = read_json(folder / "model_index.json")
    kind = index.get("_class_name")
    parts = _PIPELINES.get(str(kind))
    if parts is None:
        raise BuildRefused(f"{source} is a {kind}; only {', '.join(_PIPELINES)} can be built.")
    for part, classes in parts.items():
        actual = index[part][1] if isinstance(index.get(part), list) and len(index[part]) == 2 else None
        if actual not in classes:
            raise BuildRefused(f"{source} has a {actual} as {part}; only {' or '.join(classes)} can be built.")
    configs = {}
    for part, classes in parts.items():
        if classes is _TOKENIZERS:
            configs[part] = read_json(folder / part / "tokenizer_config.json")
        else:
            refuse_pickles(folder / part, part)
            configs[part] = read_vae(folder / part) if part == "vae" else read_json(folder / part / "config.json")
    configs["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    for part, key in _NEEDED.items():
        if part in configs and key not in configs[part]:
            raise BuildRefused(f"{part}/config.json of the checkpoint has no {key}.")
    _refuse_foreign_unet(configs)
    refuse_other_noise(configs["scheduler"])
    used = _used(folder, (*parts, "scheduler"))
    return Checkpoint(folder, {path: file_sha256(folder / path) for path in used}, configs, index)


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder(source: str) -> Path:
    path = Path(source)
    if path.suffix.lower() in _PICKLES:
        raise BuildRefused(_pickled(source))
    if path.is_file():
        raise BuildRefused(f"{source} is a single file; give a diffusers folder or a hub id.")
    folder = folder_of(source, _HUB_PATTERNS)
    if folder == path and not (path / "model_index.json").is_file():
        raise BuildRefused(f"{source} is no diffusers folder: it has no model_index.json.")
    return folder


def folder_of(source: str, patterns: list[str]) -> Path:
    """A folder as it is, or what matches of a hub repository. Raises BuildRefused."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.is_absolute() or source.startswith(".") or source.count("/") > 1:
        raise BuildRefused(f"There is no folder {source}.")
    return _download(source, patterns)


def _download(hub_id: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        raise BuildRefused(f"There is no folder {hub_id}, and it cannot be downloaded from the hub.") from None


def _used(folder: Path, parts: Iterable[str]) -> list[str]:
    files = (folder / "model_index.json", *(path for part in parts for path in (folder / part).rglob("*")))
    used = (path for path in files if path.is_file() and path.suffix in READ)
    return sorted(path.relative_to(folder).as_posix() for path in used)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint. Raises BuildRefused."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BuildRefused(f"The checkpoint has no {path.parent.name}/{path.name}.") from None
    except ValueError:
        raise BuildRefused(f"{path.parent.name}/{path.name} of the checkpoint is not valid JSON.") from None
    if not isinstance(value, dict):
        raise BuildRefused(f"{path.parent.name}/{path.name} of the checkpoint is not a JSON object.")
    return value


def read_vae(folder: Path) -> dict[str, Any]:
    """The config of an autoencoder, a tiny one's with what it leaves out. Raises BuildRefused."""
    config = read_json(folder / "config.json")
    if config.get("_class_name") != "AutoencoderTiny":
        return config
    filled = {**_TINY, **config}
    return {**filled, "block_out_channels": filled["decoder_block_out_channels"]}


def _pickled(what: str) -> str:
    return (
        f"{what} is a pickle, which can run any code when it is opened; "
        "convert it to safetensors (save_pretrained with safe_serialization=True) and build that."
    )


def refuse_pickles(part: Path, name: str) -> None:
    """Raises BuildRefused where a folder has no safetensors; `name` is what the caller knows it by."""
    if weights := sorted(part.glob("*.safetensors")):
        _refuse_pointers(weights, name)
        return  # pickles beside safetensors are never opened
    pickles = sorted(path.name for path in part.glob("*") if path.suffix in _PICKLES)
    if pickles:
        raise BuildRefused(_pickled(f"{name}/{pickles[0]}"))
    raise BuildRefused(f"The checkpoint has no safetensors weights in {name}; pickles are not read.")


def _refuse_pointers(weights: list[Path], name: str) -> None:
    for path in weights:
        if not path.is_file():
            raise BuildRefused(f"{name}/{path.name} must be a file of weights.")
        with path.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise BuildRefused(f"{name}/{path.name} is a Git LFS pointer; run `git lfs pull` in the checkpoint.")


def _refuse_foreign_unet(configs: dict[str, dict[str, Any]]) -> None:
    unet, channels = configs["unet"], configs["vae"].get("latent_channels", 4)
    if unet.get("in_channels", 4) != channels or unet.get("out_channels", 4) != channels:
        raise BuildRefused(
            "The UNet takes more than latents (an inpainting or editing checkpoint), which is not supported."
        )
    for key in _UNET_CONDITIONS:
        if unet.get(key) is not None:
            raise BuildRefused(f"The UNet needs more than a prompt ({key} is set), which is not supported.")
    added = unet.get("addition_embed_type")
    if (added == "text_time") != ("text_encoder_2" in configs) or added not in (None, "text_time"):
        raise BuildRefused(f"The UNet's addition_embed_type is {added}, which this pipeline does not give.")
    if added:
        times = TIME_IDS * int(unet.get("addition_time_embed_dim") or 0)
        if unet.get("projection_class_embeddings_input_dim") != configs["text_encoder_2"]["projection_dim"] + times:
            raise BuildRefused(
                "The UNet takes other conditions than SDXL's base model (a refiner?), which is not supported."
            )
