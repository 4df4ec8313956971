"""What AUTOMATIC1111's web UI is asked for over its API (its /docs; modules/api/models.py), and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Document
from darkroom.contracts import MAX_PROMPT_CHARACTERS, MAX_SEED

Text = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=1, le=8)]
Side = Annotated[int, Field(ge=1, le=8192)]

# Members that change the picture there and cannot here: with any other value than these the request is refused.
ONLY: dict[str, tuple[Any, ...]] = {
    "enable_hr": (False,),
    "restore_faces": (False,),
    "tiling": (False,),
    "styles": ([],),
    "script_name": ("",),
    "script_args": ([],),
    "subseed_strength": (0,),
    "seed_resize_from_h": (0, -1),
    "seed_resize_from_w": (0, -1),
    "refiner_checkpoint": ("",),
    "inpainting_mask_invert": (0, False),
    "initial_noise_multiplier": (1,),
    "latent_mask": (),
    "firstpass_image": (),
    "firstphase_width": (0,),
    "firstphase_height": (0,),
    "s_churn": (0,),
    "s_noise": (1,),
    "s_min_uncond": (0,),
}


class Drawing(BaseModel):
    """What `txt2img` and `img2img` have in common. Members that we do not know are ignored, as the web UI ignores them,
    but those of `ONLY`."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    prompt: Text = ""
    negative_prompt: Text | None = ""
    seed: Annotated[int, Field(ge=-1, le=MAX_SEED)] | None = -1
    sampler_name: Name | None = None
    sampler_index: Name | None = None
    scheduler: Name | None = None
    batch_size: Count | None = 1
    n_iter: Count | None = 1
    steps: Annotated[int, Field(ge=1, le=100)] | None = None
    cfg_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = None
    width: Side | None = None
    height: Side | None = None
    override_settings: dict[str, Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = True


class TextToImage(Drawing):
    pass


class ImageToImage(Drawing):
    init_images: Annotated[list[str], Field(min_length=1, max_length=1)]
    mask: str | None = None
    denoising_strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.75


class Drawn(Document):
    """`info` is JSON in a string, as there; `warnings`, in it and beside it, say what is not as it was asked for."""

    images: list[str]
    parameters: dict[str, Any]
    info: str
    warnings: list[str]


class WebUiError(Document):
    error: str
    detail: str
    body: str = ""
    errors: str = ""
