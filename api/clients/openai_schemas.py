"""OpenAI's images API as it is written down (api reference, `images/create`): what it is asked, and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from api.schemas import Document
from darkroom.contracts import MAX_PROMPT_CHARACTERS, MAX_SEED, Contract, OutputFormat

MAX_IMAGES = 8


class ImagesRequest(Contract):
    """`quality`, `style`, `moderation`, `user` and `safety_identifier` are taken and change nothing; the members below
    them are ours. A `size` that the model cannot make is made as the nearest that it can, and a warning says so."""

    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
    model: Annotated[str, Field(max_length=100)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    size: Annotated[str, Field(pattern=r"^(auto|[1-9]\d{0,3}x[1-9]\d{0,3})$", examples=["512x512"])] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Annotated[OutputFormat | None, Field(strict=False)] = None
    background: Literal["auto", "opaque"] | None = None
    quality: Annotated[str, Field(max_length=20)] | None = None
    style: Annotated[str, Field(max_length=20)] | None = None
    moderation: Annotated[str, Field(max_length=20)] | None = None
    user: Annotated[str, Field(max_length=500)] | None = None
    safety_identifier: Annotated[str, Field(max_length=500)] | None = None
    stream: Literal[False] | None = None

    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] = ""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = None
    sampler: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")] | None = None
    cache: Literal["auto", "on", "off"] = "auto"


class EditsRequest(ImagesRequest):
    """What a form says beside its files: numbers are texts there. `strength` is ours: how much is drawn again."""

    model_config = ConfigDict(strict=False)

    input_fidelity: Annotated[str, Field(max_length=20)] | None = None
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None


class EditsForm(EditsRequest):
    """A form as it is sent, files among its members (for /openapi.json)."""

    image: Annotated[bytes, Field(description="the image: PNG, JPEG or WebP; also as `image[]`")]
    mask: Annotated[bytes | None, Field(description="as large as the image; transparent: draw again")] = None


class ImageData(Document):
    b64_json: str | None = None
    url: str | None = None


class ImagesAnswer(Document):
    """`warnings`, `id` and `seed` are ours: what was not as asked for, and what makes the same images again."""

    created: int
    data: list[ImageData]
    size: str
    output_format: str
    background: str = "opaque"
    warnings: list[str]
    id: Annotated[str, Field(description="the job, for GET /v1/jobs/{id}")]
    seed: int


class OpenAIError(Document):
    message: str
    type: str
    param: str | None
    code: str
    request_id: str | None = None


class OpenAIProblem(Document):
    error: OpenAIError

    def model_dump_json(self, **_: Any) -> str:
        """`param` is there also where it is null."""
        return super().model_dump_json()
