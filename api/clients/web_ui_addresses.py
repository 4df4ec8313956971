"""Where AUTOMATIC1111's clients look."""

from __future__ import annotations

PREFIX = "/sdapi/v1"
# What can be looked up; there is none of most.
LISTS = (
    *("options", "progress", "samplers", "schedulers", "sd-models", "loras", "scripts", "script-info", "embeddings"),
    *("sd-vae", "upscalers", "latent-upscale-modes", "hypernetworks", "face-restorers", "realesrgan-models"),
    *("prompt-styles", "cmd-flags", "memory"),
)
