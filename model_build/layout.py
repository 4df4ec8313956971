"""Layout: what every bundle holds and where; torch-free, so that a build with nothing to do is done at once."""

from __future__ import annotations

COMPONENTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
SAMPLERS = ("ddim", "euler", "euler_a", "dpmpp_2m", "lcm")
MAX_STEPS = 100

TOKENIZER = "tokenizer.json"
TABLES = "samplers.safetensors"
CACHE = "cache.safetensors"
REPORT = "report.json"  # beside the manifest's files and not one of them: measurements are no content
NOTES = "notes.json"  # beside a stage's outputs, for the report

# An int8 target is calibrated on so many steps of one image a prompt.
CALIBRATED = ("unet", "vae_decoder")
CALIBRATION_STEPS = 8
PROMPTS = (
    "a photograph of an old fisherman mending a net, harbour at dawn",
    "a cute corgi running through shallow water, golden hour",
    "an oil painting of a mountain village in winter",
    "a bowl of ramen on a wooden table, top view, studio light",
    "a futuristic city street at night, neon signs, rain",
    "a flat vector illustration of a red rocket on a blue background",
)
