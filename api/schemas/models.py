"""Models that can be asked for, and whether the deployment answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas import Document
from darkroom.bundles.manifest import Defaults, EngineManifest, Limits


class TargetDocument(Document):
    name: str
    precision: str


class ModelDocument(Document):
    """A model that can be asked for, its defaults and its limits.

    `id`, `object`, `created` and `owned_by` are what OpenAI's clients read of a model.
    """

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, Field(description="not known: 0")] = 0
    owned_by: str = "darkroom"
    name: str
    version: str
    default: Annotated[bool, Field(description="whether the name `m` stands for it")]
    pipeline: str
    targets: list[TargetDocument]
    samplers: list[str]
    max_steps: int
    controls: Annotated[list[str], Field(description="types of the model's ControlNets, for `control.type`")]
    image_to_image: Annotated[bool, Field(description="whether `strength` and `mask` can be given")]
    defaults: Defaults
    limits: Limits


class ModelList(Document):
    """The models, as `models` and, for OpenAI's clients, as `data`."""

    object: Literal["list"] = "list"
    models: list[ModelDocument]
    data: list[ModelDocument]


class Health(Document):
    status: Annotated[str, Field(examples=["ready", "starting", "draining", "stopped", "unavailable"])]
    detail: Annotated[str | None, Field(description="what does not answer")] = None


def model_document(manifest: EngineManifest, *, default: bool) -> ModelDocument:
    return ModelDocument(
        id=manifest.model,
        name=manifest.model,
        version=manifest.version,
        default=default,
        pipeline=manifest.pipeline,
        targets=[TargetDocument(name=target.name, precision=target.precision) for target in manifest.targets],
        samplers=manifest.samplers.names,
        max_steps=manifest.samplers.max_steps,
        controls=manifest.control_types,
        image_to_image=manifest.samplers.entries,
        defaults=manifest.defaults,
        limits=manifest.limits,
    )
