"""Which SageMaker endpoint serves a model: the one place that knows."""

from __future__ import annotations

from collections.abc import Mapping

from darkroom.errors import ModelNotFound


class Endpoints:
    def __init__(self, by_model: Mapping[str, str]) -> None:
        self._by_model = dict(by_model)

    def of(self, model: str) -> str:
        """Raises: ModelNotFound."""
        if model not in self._by_model:
            raise ModelNotFound("This deployment has no endpoint for the model.")
        return self._by_model[model]
