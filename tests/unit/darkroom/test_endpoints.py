"""Which endpoint serves a model."""

import pytest

from darkroom.endpoints import Endpoints
from darkroom.errors import ModelNotFound


def test_each_model_has_its_own() -> None:
    endpoints = Endpoints({"sd15": "darkroom-sd15", "crayon": "darkroom-crayon"})
    assert endpoints.of("crayon") == "darkroom-crayon"
    assert endpoints.of("sd15") == "darkroom-sd15"


@pytest.mark.parametrize("name", ["", "other", "../crayon"])
def test_a_model_without_one_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound):
        Endpoints({"crayon": "darkroom-crayon"}).of(name)
