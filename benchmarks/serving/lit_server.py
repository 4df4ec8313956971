"""What one would write with LitServe: a diffusers pipeline behind its dynamic batching. Runs in `.venv-peers`.

`python lit_server.py FOLDER PORT BATCH`; POST /predict of a prompt and a number of steps answers a PNG.
One call of a pipeline has one number of steps, so a batch takes as many as the request in it that asks for most. At
crayon's size that is the better choice for LitServe: in bf16, the quicker precision here, a step of four images takes
half as long again as a step of one, and a call for each number of steps would make a third more steps.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import litserve

GUIDANCE = 4.0
_NAMES = {
    r"^(?!text_model\.)": "text_model."
}  # of weights, as transformers 5.5 looks for them; it was saved by a later one
Request = Mapping[str, Any]


class Pipeline(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, folder: str, batch: int) -> None:
        super().__init__(max_batch_size=batch)
        self._folder = folder

    def setup(self, device: str) -> None:
        import torch
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPTextModel

        dtype = torch.bfloat16
        text_encoder = CLIPTextModel.from_pretrained(
            self._folder, subfolder="text_encoder", dtype=dtype, key_mapping=_NAMES
        )
        pipeline = StableDiffusionPipeline.from_pretrained(self._folder, text_encoder=text_encoder, torch_dtype=dtype)
        self._pipeline = pipeline.to(device)
        self._pipeline.set_progress_bar_config(disable=True)

    def predict(self, requests: Sequence[Request]) -> Sequence[Any]:
        prompts = [request["prompt"] for request in requests]
        steps = max(request["steps"] for request in requests)
        images: Sequence[Any] = self._pipeline(prompts, num_inference_steps=steps, guidance_scale=GUIDANCE).images
        return images

    def encode_response(self, image: Any) -> dict[str, str]:
        file = io.BytesIO()
        image.save(file, "PNG")
        return {"image": base64.b64encode(file.getvalue()).decode()}


if __name__ == "__main__":
    folder, port, batch = sys.argv[1:]
    server = litserve.LitServer(Pipeline(folder, int(batch)), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
