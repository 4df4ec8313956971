"""Layout: what every bundle holds and where; torch-free, so that a build with nothing to do is done at once."""

from __future__ import annotations

COMPONENTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
SAMPLERS = ("ddim", "euler", "euler_a", "dpmpp_2m", "lcm")
MAX_STEPS = 100

TOKENIZER = "tokenizer.json"
TABLES = "samplers.safetensors"
REPORT = "report.json"  # beside the manifest's files and not one of them: measurements are no content
