"""A bundle that only the control plane can read: a true manifest over files that no engine would open."""

import hashlib
from pathlib import Path

from darkroom.bundles import catalog
from darkroom.bundles.manifest import (
    BundleFile,
    Defaults,
    EngineManifest,
    LatentSpec,
    Limits,
    Requirements,
    SamplerSpec,
    Target,
    TextSpec,
)
from darkroom.storage import ObjectStore

FILES = {"unet.xml": b"graph", "tokenizer.json": b"{}", "samplers.safetensors": b"tables"}


def manifest(model: str = "crayon", *, checkpoint: str = "0" * 64) -> EngineManifest:
    files = [
        BundleFile(path=path, size=len(body), sha256=hashlib.sha256(body).hexdigest()) for path, body in FILES.items()
    ]
    unversioned = EngineManifest(
        model=model,
        version="0" * 16,
        pipeline="stable-diffusion",
        prediction_type="epsilon",
        checkpoint_sha256=checkpoint,
        files=files,
        targets=[
            Target(
                name="fake",
                format="openvino",
                precision="fp32",
                components={"unet": "unet.xml"},
                files=["unet.xml"],
                requires=Requirements(library="fake", version="1"),
            )
        ],
        text=TextSpec(
            tokenizer="tokenizer.json", max_length=77, bos_token_id=1, eos_token_id=2, pad_token_id=0, embedding_dim=8
        ),
        latents=LatentSpec(channels=4, downscale=8, scaling_factor=1.0, preview=[[0.0] * 3] * 5),
        samplers=SamplerSpec(tables="samplers.safetensors", names=["ddim", "euler"], max_steps=100, entries=True),
        defaults=Defaults(width=64, height=64, num_inference_steps=4, guidance_scale=2.0, sampler="ddim"),
        limits=Limits(min_size=32, max_size=128, max_pixels=128 * 96),
        built_with={},
    )
    return unversioned.model_copy(update={"version": unversioned.content_version()})


def publish(store: ObjectStore, scratch: Path, model: str = "crayon", *, checkpoint: str = "0" * 64) -> EngineManifest:
    """Store the bundle and serve it; `scratch` is a directory for its files."""
    files = {}
    for path, body in FILES.items():
        files[path] = scratch / path
        files[path].write_bytes(body)
    made = manifest(model, checkpoint=checkpoint)
    catalog.publish(store, made, files)
    return made
