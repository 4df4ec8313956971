"""Libraries that report their use to somebody do not, in any process of ours: nobody asked for it."""

from __future__ import annotations

import os
import sys

_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime/Privacy.md: else a device id is kept at home, and events are uploaded
    "HF_HUB_DISABLE_TELEMETRY": "1",  # for diffusers and transformers too
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DO_NOT_TRACK": "1",
}
# OpenVINO and NNCF send an event at their import, whatever is configured; without this package they use a stub.
_NOT_IMPORTED = "openvino_telemetry"


def keep() -> None:
    """Switch all of them off, for this process and those it starts; to be called before the libraries are imported."""
    os.environ.update(_SWITCHES)
    sys.modules[_NOT_IMPORTED] = None  # type: ignore[assignment] # so that importing it is an ImportError
