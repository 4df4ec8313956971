"""The words that travel between rooms: a request, its result, and the job that carries both."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from darkroom.errors import Problem, Unreadable
from darkroom.images.source import ImageSource

MAX_PROMPT_CHARACTERS = 10_000
MAX_SEED = 2**32 - 1
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class Contract(BaseModel):
    """Strict, frozen, and unknown fields refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class OutputFormat(StrEnum):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def content_type(self) -> str:
        return f"image/{self.value}"


def _unset(value: Any) -> bool:
    """Members that most requests lack are left out of JSON, as if they did not exist."""
    return value is None or value == []


class Control(Contract):
    """One ControlNet on one image. `type` may be left out where the model has one ControlNet.

    It acts from the fraction `start` to the fraction `end` of the steps. A `canny` control image is the image's edges,
    drawn between the two thresholds, unless `preprocess` is false: then the image already is a map of edges.
    """

    type: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$", examples=["canny"])] | None = None
    image: Annotated[ImageSource | None, Field(description="default: the request's image")] = None
    scale: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    start: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    end: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    low_threshold: Annotated[int, Field(ge=0, le=255)] = 100
    high_threshold: Annotated[int, Field(ge=0, le=255)] = 200
    preprocess: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Control:
        if self.start >= self.end:
            raise PydanticCustomError("out_of_range", "control.start must lie before control.end")
        if self.low_threshold > self.high_threshold:
            raise PydanticCustomError("out_of_range", "control.low_threshold may not exceed control.high_threshold")
        return self


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict | Control) else value


class GenerationRequest(Contract):
    """What a caller asks for. None means: as the model's manifest says by default.

    Image `i` of `num_images` is made from seed `seed + i` (modulo 2**32), so each can be made again alone.

    `image` with `control` keeps what the control image shows; with `strength` the image is noised and drawn again
    (image-to-image), with `mask` only where the mask is white (inpainting). Alone, it is the control image of a model
    with one ControlNet, and is drawn again with strength 0.8 by a model with none. Without `width` and `height` the
    size made is that of `image` (or of the first control image), as near to it as the model can.
    """

    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS, examples=["a large red heart on a blue background"])]
    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] = ""
    width: Annotated[int, Field(ge=8, le=8192, description="pixels, a multiple of 8")] | None = None
    height: Annotated[int, Field(ge=8, le=8192, description="pixels, a multiple of 8")] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = None
    sampler: Annotated[str, Field(pattern=r"^[A-Za-z0-9_ +.-]{1,64}$", examples=["ddim"])] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    num_images: Annotated[int, Field(ge=1, le=8)] = 1
    output_format: Annotated[OutputFormat, Field(strict=False)] = OutputFormat.PNG
    cache: Annotated[
        Literal["auto", "on", "off"],
        Field(
            description="may an image start from that of a similar prompt: auto, where no seed is named (the same seed "
            "is then the same image, whatever was made before); on, with a named seed too; off, never"
        ),
    ] = "auto"
    image: Annotated[ImageSource | None, Field(exclude_if=_unset)] = None
    strength: Annotated[
        Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None,
        Field(exclude_if=_unset, description="how much of the image is drawn again; 1: all of it"),
    ] = None
    mask: Annotated[
        ImageSource | None, Field(exclude_if=_unset, description="white or transparent: draw again; black: keep")
    ] = None
    mask_alpha: Annotated[
        Literal["transparent", "opaque"],
        Field(
            exclude_if=lambda alpha: alpha == "transparent",
            description="which part of a mask with transparency is drawn again, whatever its colours",
        ),
    ] = "transparent"
    control: Annotated[
        Annotated[
            list[Control],
            Field(min_length=1, max_length=4),
            BeforeValidator(
                _listed,
                json_schema_input_type=Control | Annotated[list[Control], Field(min_length=1, max_length=4)],
            ),
        ]
        | None,
        Field(exclude_if=_unset, description="one ControlNet, or a list of them whose effects add up"),
    ] = None

    @model_validator(mode="after")
    def _every_image_has_one_source(self) -> GenerationRequest:
        """Every use of an image has one, and every image a use."""
        controls = self.control or []
        missing = next((name for name in ("strength", "mask") if getattr(self, name) is not None), None)
        if self.image is None and missing:
            raise _conflict(f"{missing} needs an image; give one as image.", "image")
        if self.image is None and any(control.image is None for control in controls):
            raise _conflict("control needs an image; give one as image or as control.image.", "control")
        if self.image is not None and not missing and controls and all(control.image for control in controls):
            raise _conflict("image has no use: every control has its own. Leave one out, or give strength.", "image")
        return self

    @property
    def brings_images(self) -> bool:
        return self.image is not None or self.control is not None

    @property
    def sources(self) -> list[str]:
        """Where its images come from."""
        sources = (self.image, self.mask, *(control.image for control in self.control or ()))
        return [source for source in sources if source is not None]

    @property
    def names_urls(self) -> bool:
        """Whether images of it lie on somebody's server."""
        return any(source[:4].lower() == "http" for source in self.sources)

    def with_sources(self, change: Callable[[str], str]) -> GenerationRequest:
        """The same request with each of its images from where `change` says."""

        def changed(source: str | None) -> str | None:
            return None if source is None else change(source)

        controls = self.control and [
            control.model_copy(update={"image": changed(control.image)}) for control in self.control
        ]
        return self.model_copy(update={"image": changed(self.image), "mask": changed(self.mask), "control": controls})

    def seeded(self) -> GenerationRequest:
        """The same request with its seed drawn, so that a retry makes the same image; `auto` then means `on`."""
        if self.seed is not None:
            return self
        cache = "on" if self.cache == "auto" else self.cache
        return self.model_copy(update={"seed": secrets.randbelow(MAX_SEED + 1), "cache": cache})


def _conflict(message: str, member: str) -> PydanticCustomError:
    return PydanticCustomError("image_source_conflict", "{message}", {"message": message, "field": f"/{member}"})


class Invocation(Contract):
    """What the control plane sends to a runtime: the request and the little the runtime must know about its job."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    tenant: str = "default"
    request: GenerationRequest
    deadline_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class StoredImage(Contract):
    """One image in the object store."""

    key: str
    width: int
    height: int
    content_type: str
    size: int
    sha256: str


class GeneratedImage(StoredImage):
    """One finished image."""

    seed: int


class Timings(Contract):
    """Seconds spent on one request: waiting for its first step, then encoding, stepping, decoding, uploading."""

    queue: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    upload: float = 0.0
    total: float = 0.0


class CacheReport(Contract):
    """Whether work was saved: steps that all images together did not take, and the similarity of what they began from.

    Similarity 1 is the same prompt; of a finished image that was asked for again all steps are skipped.
    """

    hit: bool = False
    steps_skipped: int = 0
    similarity: float | None = None


class GenerationWarning(Contract):
    """Something the caller should know about an image that was made all the same."""

    code: str
    detail: str


class GenerationResult(Contract):
    """What a runtime answers."""

    images: list[GeneratedImage]
    control_images: Annotated[list[StoredImage], Field(exclude_if=_unset)] = []
    seed: int
    model: str
    version: str
    target: str
    timings: Timings = Timings()
    cache: CacheReport = CacheReport()
    warnings: list[GenerationWarning] = []


class Progress(Contract):
    """Steps done, of all images of a request together."""

    step: int = 0
    steps: int = 0


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Job(BaseModel, frozen=True, extra="forbid"):
    """One accepted request on its way; the control plane's record. Times are seconds since the epoch, UTC.

    `request` is None where this release cannot read it: another one wrote it, or the record is damaged.
    """

    id: str
    tenant: str
    model: str
    request: GenerationRequest | None
    status: JobStatus = JobStatus.QUEUED
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    progress: Progress = Progress()
    result: GenerationResult | None = None
    error: Problem | None = None

    def readable_request(self) -> GenerationRequest:
        """Raises: Unreadable."""
        if self.request is None:
            raise Unreadable("This job was accepted by another release, or its record is damaged; send it again.")
        return self.request
