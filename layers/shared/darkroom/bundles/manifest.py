"""EngineManifest: the only meeting point of the build stage and the runtime.

A bundle is `models/{model}/{version}/` in an object store. Its `manifest.json` is written last and is what makes the
version exist; `models/{model}/current.json` names the version that is served.
"""

from __future__ import annotations

import hashlib
import operator
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from darkroom.bundles.fingerprint import Fingerprint, Profile, canonical
from darkroom.contracts import MODEL_NAME
from darkroom.storage import keys as object_keys

SCHEMA_VERSION: Literal[1] = 1
MANIFEST = "manifest.json"
VERSION = r"^[0-9a-f]{16}$"


# What a UNet may take besides latents, timestep and prompt_embeds, float32 each: `text_embeds` [rows, pooled_dim] is
# the text encoder's second output and `time_ids` [rows, 6] are SDXL's sizes (Podell et al. 2023, 2.2): original height
# and width, top and left of the crop, target height and width; `guidance` [rows] is the guidance scale where it is an
# input, as in latent consistency models, and then there is no second row for the negative prompt.
Condition = Literal["text_embeds", "time_ids", "guidance"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _inside(path: str) -> str:
    if not object_keys.is_valid(path) or path == MANIFEST:
        raise ValueError("a bundle file must lie inside the bundle and may not be its manifest")
    return path


BundlePath = Annotated[str, AfterValidator(_inside)]


class BundleFile(Part):
    """One file of the bundle, by its path inside it."""

    path: BundlePath
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Requirements(Part):
    """What a machine must have for a target: the engine library with its version, and hardware features."""

    library: str
    version: str
    cpu_features: list[str] = []
    gpu_architecture: str | None = None
    tensorrt: str | None = None
    cuda: Annotated[str | None, Field(exclude_if=operator.not_)] = None


class Signature(Part):
    """Ed25519 over `EngineManifest.signed_content`, and the first 16 hex digits of the public key's SHA-256."""

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    value: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Target(Part):
    """One way to run the checkpoint: engine format, precision and hardware.

    `components` maps a component (`text_encoder`, `unet`, `vae_decoder`, `vae_encoder`) to the file that is opened;
    `files` lists all that must be there and verified first (weights beside the graph, ...).
    `profile` bounds UNet calls where the engine has bounds of its own. A target with `fingerprints` has one for each
    component.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    format: Literal["openvino", "onnxruntime"]
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    components: dict[str, BundlePath]
    files: list[BundlePath]
    requires: Requirements
    options: dict[str, str] = {}
    profile: Annotated[Profile | None, Field(exclude_if=operator.not_)] = None
    fingerprints: Annotated[list[Fingerprint], Field(exclude_if=operator.not_)] = []


class TextSpec(Part):
    """How a prompt becomes token ids: int64 [1, max_length], right-padded with `pad_token_id`.

    `pooled_dim` is the width of a checkpoint's `text_embeds`; with `zero_negative` the embeddings of an empty negative
    prompt are zeros (diffusers' `force_zeros_for_empty_prompt`).
    """

    tokenizer: BundlePath
    max_length: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    embedding_dim: int
    pooled_dim: Annotated[int | None, Field(exclude_if=operator.not_)] = None
    zero_negative: Annotated[bool, Field(exclude_if=operator.not_)] = False


class LatentSpec(Part):
    """Latents are float32 [rows, channels, height / downscale, width / downscale]; image = decode(x / scaling + shift).

    `preview` is a [channels + 1][3] affine map from latents to RGB in [-1, 1] (last row: the constant), good enough to
    show progress without running the decoder.
    """

    channels: int
    downscale: int
    scaling_factor: float
    shift_factor: float = 0.0
    preview: list[list[float]]


class SamplerSpec(Part):
    """The sampler tables: a safetensors file with one float64 tensor `{sampler}/{steps}` for 1 to `max_steps` steps.

    `entries`: there are also the tables of entering at any step, `{sampler}/{steps}/entry`; image-to-image needs them.
    """

    tables: BundlePath
    names: list[str]
    max_steps: int
    entries: Annotated[bool, Field(exclude_if=operator.not_)] = False


class Residual(Part):
    """One output of every ControlNet and input of the UNet: float32 [rows, channels, height / shrink, width / shrink].

    Height and width are those of the latents; the quotients are rounded up.
    """

    name: str
    channels: int
    shrink: int


class ControlNet(Part):
    """A ControlNet's type and the component that is its engine."""

    type: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
    component: str


class ControlSpec(Part):
    """The bundle's ControlNets. A ControlNet's engine takes what the UNet takes, and `control_image`, float32
    [rows, 3, H, W] in [0, 1]; its outputs, scaled, are the UNet's inputs of the same names.
    """

    nets: Annotated[list[ControlNet], Field(min_length=1)]
    residuals: Annotated[list[Residual], Field(min_length=1)]


class Defaults(Part):  # by the names of what a request may leave open
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    sampler: str


class Limits(Part):
    """Sizes in pixels; every size is a multiple of `multiple_of`."""

    min_size: int
    max_size: int
    max_pixels: int
    multiple_of: int = 8


class CacheLevel(Part):
    """How often an image that enters at `timestep` from a prompt at squared distance d is not what was asked for, and
    would be without the cache: 1 / (1 + exp(-(intercept + slope * log d))), fitted to distances up to `farthest`.
    """

    timestep: float
    intercept: float
    slope: Annotated[float, Field(gt=0)]
    farthest: Annotated[float, Field(gt=0)]


class CacheSpec(Part):
    """What the build measured so that similar prompts may share work; it holds at this size, from this guidance on.

    `tensors` is a safetensors file with the map from prompts to mean images; `criterion` says what judged the images,
    `failing` the share that it found wrong without a cache; `random_distance` is two prompts' mean squared distance.
    """

    tensors: BundlePath
    criterion: str
    width: int
    height: int
    guidance_scale: float
    failing: Annotated[float, Field(ge=0, lt=1)]
    random_distance: Annotated[float, Field(gt=0)]
    levels: Annotated[list[CacheLevel], Field(min_length=1)]


class EngineManifest(Part):
    """All that a runtime needs to know of a bundle; everything it opens is listed in `files` with size and SHA-256.

    `token_merging` is the share of the tokens that the UNet merges around its finest self-attention. `loras` names the
    LoRAs in the weights, each as `SHA-256:scale`.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model: Annotated[str, Field(pattern=MODEL_NAME)]
    version: Annotated[str, Field(pattern=VERSION)]
    pipeline: Literal["stable-diffusion", "stable-diffusion-xl"]
    prediction_type: Literal["epsilon", "v_prediction"]
    checkpoint_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    files: list[BundleFile]
    targets: Annotated[list[Target], Field(min_length=1)]
    text: TextSpec
    latents: LatentSpec
    samplers: SamplerSpec
    defaults: Defaults
    limits: Limits
    built_with: dict[str, str]
    signature: Annotated[Signature | None, Field(exclude_if=operator.not_)] = None
    control: Annotated[ControlSpec | None, Field(exclude_if=operator.not_)] = None
    token_merging: Annotated[float, Field(ge=0, le=1, exclude_if=operator.not_)] = 0.0
    loras: Annotated[list[str], Field(exclude_if=operator.not_)] = []
    cache: Annotated[CacheSpec | None, Field(exclude_if=operator.not_)] = None
    conditions: Annotated[list[Condition], Field(exclude_if=operator.not_)] = []

    @property
    def guidance_is_an_input(self) -> bool:
        return "guidance" in self.conditions

    @property
    def control_types(self) -> list[str]:
        return [net.type for net in self.control.nets] if self.control else []

    @model_validator(mode="after")
    def _complete(self) -> EngineManifest:
        known = {file.path for file in self.files}
        used = {path for target in self.targets for path in (*target.files, *target.components.values())}
        used |= {self.cache.tensors} if self.cache else set()
        missing = (used | {self.text.tokenizer, self.samplers.tables}) - known
        if missing:
            raise ValueError(f"not listed in files: {sorted(missing)}")
        if len(known) != len(self.files):
            raise ValueError("a file is listed twice")
        for target in self.targets:
            if not set(target.components.values()) <= set(target.files):  # it would be opened without being verified
                raise ValueError(f"{target.name} opens a file that is not one of its files")
            if not {net.component for net in (self.control.nets if self.control else ())} <= set(target.components):
                raise ValueError(f"{target.name} lacks a ControlNet")
            _check_fingerprints(target, self.checkpoint_sha256)
        return self

    def content_version(self) -> str:
        """The version this content must carry: 16 hex digits of SHA-256 over all but the version and its signature."""
        content = self.model_dump(mode="json", exclude={"version", "signature"})
        return hashlib.sha256(canonical(content)).hexdigest()[:16]

    def signed_content(self) -> bytes:
        """What a signature is over: all but the signature itself."""
        return canonical(self.model_dump(mode="json", exclude={"signature"}))

    def file(self, path: str) -> BundleFile:
        return next(file for file in self.files if file.path == path)


def _check_fingerprints(target: Target, checkpoint_sha256: str) -> None:
    """Raises ValueError where a fingerprint contradicts its target, or is not that of the file it stands for."""
    needs = target.requires
    declared = [checkpoint_sha256, target.precision, target.profile, needs.library, needs.version]
    declared += [needs.cuda, needs.tensorrt, needs.gpu_architecture]
    if target.fingerprints and {one.component for one in target.fingerprints} != set(target.components):
        raise ValueError(f"{target.name} has not one fingerprint for each engine")
    for one in target.fingerprints:
        actual = [one.checkpoint_sha256, one.precision, one.profile, one.library, one.version]
        actual += [one.cuda, one.tensorrt, one.gpu_architecture]
        if actual != declared or target.components[one.component].split("/")[-2:-1] != [one.digest()]:
            raise ValueError(f"the {one.component} of {target.name} is not what its fingerprint says")
