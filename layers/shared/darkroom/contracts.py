"""The words that travel between rooms: a request, its result, and the job that carries both."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom import errors
from darkroom.errors import Problem

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


class GenerationRequest(Contract):
    """What a caller asks for. None means: as the model's manifest says by default.

    Image `i` of `num_images` is made from seed `seed + i` (modulo 2**32), so each can be made again alone.
    """

    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS, examples=["a large red heart on a blue background"])]
    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] = ""
    width: Annotated[int, Field(ge=8, le=8192, description="pixels, a multiple of 8")] | None = None
    height: Annotated[int, Field(ge=8, le=8192, description="pixels, a multiple of 8")] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = None
    sampler: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$", examples=["ddim"])] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    num_images: Annotated[int, Field(ge=1, le=8)] = 1
    output_format: Annotated[OutputFormat, Field(strict=False)] = OutputFormat.PNG
    cache: Literal["auto", "off"] = "auto"

    def seeded(self) -> GenerationRequest:
        """The same request with its seed drawn, so that a retry makes the same image."""
        return self if self.seed is not None else self.model_copy(update={"seed": secrets.randbelow(MAX_SEED + 1)})


class Invocation(Contract):
    """What the control plane sends to a runtime: the request and the little the runtime must know about its job."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    tenant: str = "default"
    request: GenerationRequest
    deadline_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class GeneratedImage(Contract):
    """One finished image in the object store."""

    key: str
    seed: int
    width: int
    height: int
    content_type: str
    size: int
    sha256: str


class Timings(Contract):
    """Seconds spent on one request: waiting for its first step, then encoding, stepping, decoding, uploading."""

    queue: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    upload: float = 0.0
    total: float = 0.0


class CacheReport(Contract):
    """Whether the trajectory entered at a later step from another prompt's latents."""

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


class Job(BaseModel):
    """One accepted request on its way; the control plane's record. Times are seconds since the epoch, UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    tenant: str
    model: str
    request: GenerationRequest
    status: JobStatus = JobStatus.QUEUED
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    progress: Progress = Progress()
    result: GenerationResult | None = None
    error: Problem | None = None


_LONGEST_POINTER = 200  # a member's name may be the caller's invention


_CODE_OF: dict[str, type[errors.DarkroomError]] = {
    "extra_forbidden": errors.UnknownField,
    "finite_number": errors.NotFinite,
    "greater_than": errors.OutOfRange,
    "greater_than_equal": errors.OutOfRange,
    "less_than": errors.OutOfRange,
    "less_than_equal": errors.OutOfRange,
    "string_unicode": errors.InvalidUnicode,
}


def parse_request(value: Any) -> GenerationRequest:
    """A request from parsed JSON, or the first thing that is wrong with it.

    Raises: InvalidType, UnknownField, NotFinite, OutOfRange, PromptTooLong, InvalidDimensions, InvalidParameter.
    """
    try:
        return GenerationRequest.model_validate(value)
    except ValidationError as refused:
        raise from_validation(refused) from None


def from_validation(refused: ValidationError) -> errors.DarkroomError:
    """The first of pydantic's findings in our words: they name the field and the rule, never the input."""
    finding = refused.errors(include_url=False, include_input=False, include_context=True)[0]
    kind, place = finding["type"], [str(part) for part in finding["loc"]]
    field = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in place)[:_LONGEST_POINTER] or None
    name = place[-1] if place else "The body"
    said = finding["msg"][0].lower() + finding["msg"][1:]
    if not place:
        return errors.InvalidParameter("The body must be a JSON object.")
    if kind == "missing":
        return errors.InvalidParameter(f"{name} is required.", field=field)
    if kind == "extra_forbidden":
        return errors.UnknownField("This member is not part of the request; see /openapi.json.", field=field)
    if kind == "string_too_long":
        return errors.PromptTooLong(f"{name} may have at most {MAX_PROMPT_CHARACTERS} characters.", field=field)
    if kind.endswith("_type"):
        return errors.InvalidType(f"{name}: {said}.", field=field)
    if name in ("width", "height") and kind in ("greater_than_equal", "less_than_equal"):
        return errors.InvalidDimensions(f"{name}: {said}.", field=field)
    return _CODE_OF.get(kind, errors.InvalidParameter)(f"{name}: {said}.", field=field)
