"""AUTOMATIC1111's `txt2img` and `img2img`, translated into one request of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from api import accepting, submission
from api.answers import JSON, Written, answer
from api.call import Call
from api.clients import pictures
from api.clients.a1111_schemas import ONLY, Drawing, Drawn, ImageToImage, TextToImage, WebUiError
from api.schemas.jobs import problem_of
from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GenerationRequest, Job
from darkroom.errors import InvalidParameter, OutOfRange, Problem
from darkroom.parsing import from_validation, parse_request
from darkroom.sizes import nearest

SAMPLERS = {"Euler a": "euler_a", "Euler": "euler", "DPM++ 2M": "dpmpp_2m", "DDIM": "ddim", "LCM": "lcm"}
_MOST_IMAGES = 8
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^>]*>")
_EMPHASIS = re.compile(r"(?<!\\)[(\[].*?[)\]]", re.DOTALL)
_CHANGE_NOTHING = ("mask_blur", "inpaint_full_res")  # where an image is drawn again in part


@dataclass(frozen=True)
class _Asked:
    """What the answer says of the request; its images are not in it."""

    parameters: Mapping[str, Any]
    sampler: str
    images: bool
    warnings: tuple[str, ...]


async def txt2img(call: Call) -> Response:
    """POST /sdapi/v1/txt2img"""
    return await _drawn(call, TextToImage)


async def img2img(call: Call) -> Response:
    """POST /sdapi/v1/img2img"""
    return await _drawn(call, ImageToImage)


async def _drawn(call: Call, kind: type[Drawing]) -> Response:
    services = call.services
    asked, job = await _accepted(call, kind)
    await call.forget_body()
    if not job.status.finished:
        with services.at_work.on(call.tenant, job.id):
            (job,) = await accepting.waited_for(call, [job], services.settings.max_wait_seconds, kept=False)
    if not job.status.finished:
        raise pictures.still_at_work(job)
    if job.result is None:
        return call.answers.problem(problem_of(job))
    return answer(200, await services.run(_answer, call, asked, job))


async def _accepted(call: Call, kind: type[Drawing]) -> tuple[_Asked, Job]:
    value = await call.services.turns.take(call.tenant, _read, call, kind)
    return await call.services.run(_created, call, value)


def _read(call: Call, kind: type[Drawing]) -> Drawing:
    try:
        drawing = kind.model_validate(submission.json_body(call.body, call.headers))
    except ValidationError as refused:
        raise from_validation(refused) from None
    for name, allowed in ONLY.items():
        given = (drawing.model_extra or {}).get(name)
        if given is not None and given not in allowed:
            raise InvalidParameter(f"{name} cannot be done here; leave it out.", field=f"/{name}")
    for name, script in (drawing.alwayson_scripts or {}).items():
        if _asks_for_something(script):
            raise InvalidParameter("There are no scripts here.", field=f"/alwayson_scripts/{name[:100]}")
    if network := _EXTRA_NETWORK.search(drawing.prompt):
        raise InvalidParameter(f"There are no networks to add here, as {network[0][:60]} asks for.", field="/prompt")
    return drawing


def _asks_for_something(script: Any) -> bool:
    """Clients send a script that is off as one without arguments, or with `false` alone."""
    arguments = script.get("args") if isinstance(script, dict) else script
    return arguments not in (None, [], [False], {})


def _created(call: Call, drawing: Drawing) -> tuple[_Asked, Job]:
    named = (drawing.override_settings or {}).get("sd_model_checkpoint")
    manifest = call.manifest_of(model_named(named) if isinstance(named, str) and named else "m")
    request, asked = _understood(drawing, manifest)
    return asked, accepting.accepted(call, manifest, request).job


def model_named(title: str) -> str:
    """The model that a title means, as the web UI writes it: `name [hash]`, perhaps with a file's ending."""
    return title.partition(" [")[0].removesuffix(".safetensors")


def _understood(drawing: Drawing, manifest: EngineManifest) -> tuple[GenerationRequest, _Asked]:
    warnings: list[str] = []
    count = (drawing.batch_size or 1) * (drawing.n_iter or 1)
    if count > _MOST_IMAGES:
        raise OutOfRange(f"batch_size x n_iter may be at most {_MOST_IMAGES}.", field="/n_iter")
    request: dict[str, Any] = {
        "prompt": drawing.prompt,
        "negative_prompt": drawing.negative_prompt or "",
        "num_images": count,
        "num_inference_steps": drawing.steps,
        "guidance_scale": drawing.cfg_scale,
        "seed": None if drawing.seed in (None, -1) else drawing.seed,
        "sampler": _sampler(drawing, manifest, warnings),
        **_size(drawing, manifest, warnings),
    }
    if _EMPHASIS.search(drawing.prompt):
        warnings.append("Brackets in a prompt weigh nothing here; they are read as they stand.")
    if isinstance(drawing, ImageToImage):
        request["image"], request["strength"] = _source(drawing.init_images[0]), drawing.denoising_strength
        if drawing.mask is not None:
            request["mask"] = _source(drawing.mask)
            request["mask_alpha"] = "opaque"  # what was painted: modules/processing.py, `create_binary_mask`
            extra = drawing.model_extra or {}
            warnings += [f"{name} changes nothing here." for name in _CHANGE_NOTHING if extra.get(name)]
    parsed = parse_request(request)
    sampler = parsed.sampler or manifest.defaults.sampler
    shown = drawing.model_dump(mode="json", exclude={"init_images", "mask"})
    return parsed, _Asked(shown, _name_of(sampler), drawing.send_images is not False, tuple(warnings))


def _sampler(drawing: Drawing, manifest: EngineManifest, warnings: list[str]) -> str | None:
    """None: the model's own."""
    wanted = drawing.sampler_name or drawing.sampler_index
    if not wanted:
        return None
    ours = {name.lower(): sampler for name, sampler in SAMPLERS.items()}.get(wanted.lower(), wanted.lower())
    if drawing.scheduler not in (None, "", "automatic", "Automatic"):
        warnings.append("scheduler changes nothing here: a model's noise levels are its own.")
    if ours in manifest.samplers.names:
        return ours
    warnings.append(f"This model has no sampler {wanted[:60]}; its own was used.")
    return None


def _name_of(sampler: str) -> str:
    return next((name for name, ours in SAMPLERS.items() if ours == sampler), sampler)


def _size(drawing: Drawing, manifest: EngineManifest, warnings: list[str]) -> dict[str, int]:
    defaults = manifest.defaults
    asked = drawing.width or defaults.width, drawing.height or defaults.height
    made = nearest(*asked, manifest.limits, defaults.width * defaults.height)
    if made != asked:
        warnings.append(f"This model makes {made[0]}x{made[1]} instead of {asked[0]}x{asked[1]}.")
    return {"width": made[0], "height": made[1]}


def _source(image: str) -> str:
    """An image in base64, bare or as a data URI. A URL would be one of theirs too, but ours to fetch."""
    return image if ":" in image[:20] else f"data:image/png;base64,{image}"  # its bytes tell what it is


def _answer(call: Call, asked: _Asked, job: Job) -> Drawn:
    """Raises: ValueError for a job without a result; ObjectNotFound, StorageUnavailable."""
    result, made = job.result, job.readable_request()
    if result is None:
        raise ValueError("only a succeeded job has images")
    warnings = [*asked.warnings, *(warning.detail for warning in result.warnings)]
    seeds = [image.seed for image in result.images]
    said = f"Sampler: {asked.sampler}, CFG scale: {made.guidance_scale}, Size: {made.width}x{made.height}"
    said = f"{made.prompt}\nSteps: {made.num_inference_steps}, {said}, Model: {result.model}"
    info = {
        "prompt": made.prompt,
        "all_prompts": [made.prompt] * len(seeds),
        "negative_prompt": made.negative_prompt,
        "all_negative_prompts": [made.negative_prompt] * len(seeds),
        "seed": seeds[0],
        "all_seeds": seeds,
        "width": made.width,
        "height": made.height,
        "sampler_name": asked.sampler,
        "cfg_scale": made.guidance_scale,
        "steps": made.num_inference_steps,
        "batch_size": len(seeds),
        "sd_model_name": result.model,
        "sd_model_hash": result.version,
        "denoising_strength": made.strength,
        "index_of_first_image": 0,
        "infotexts": [f"{said}, Seed: {seed}" for seed in seeds],
        "is_using_inpainting_conditioning": False,
        "job": job.id,
        "warnings": warnings,
    }
    images = [pictures.encoded(call, image.key) for image in result.images] if asked.images else []
    return Drawn(images=images, parameters=dict(asked.parameters), info=json.dumps(info), warnings=warnings)


def written(problem: Problem) -> Written:
    """An error, as the web UI's clients read it."""
    return Written(problem.status, WebUiError(error=problem.code, detail=problem.detail), {}, JSON)
