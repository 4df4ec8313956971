"""The `webuiapi` client, unchanged but for the port, against the whole deployment."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import webuiapi

from tests.fakes.deployment import Running, running


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("web-ui"), api_keys="ann=a-key,bob=b-key", max_wait_seconds=60) as deployment:
        yield deployment


@pytest.fixture
def client(deployment: Running) -> Iterator[webuiapi.WebUIApi]:
    client = webuiapi.WebUIApi(host="127.0.0.1", port=deployment.port, username="ann", password="a-key")
    yield client
    client.session.close()


def test_what_it_looks_up(client: webuiapi.WebUIApi) -> None:
    assert client.util_get_model_names() == ["crayon"]
    assert client.util_get_current_model() == "crayon"
    client.util_set_model("crayon")
    assert "DDIM" in client.util_get_sampler_names()
    assert client.util_get_scheduler_names() == ["automatic"]
    for names in (client.get_loras(), client.get_upscalers(), client.get_sd_vae(), client.get_prompt_styles()):
        assert names == []


def test_an_image_of_its_defaults(client: webuiapi.WebUIApi) -> None:
    drawn = client.txt2img(prompt="a dog", negative_prompt="a cat", seed=7, steps=4)
    assert drawn.image.format == "PNG"
    assert (drawn.info["seed"], drawn.info["prompt"], drawn.parameters["steps"]) == (7, "a dog", 4)


def test_progress_and_interrupt_are_of_the_caller(deployment: Running, client: webuiapi.WebUIApi) -> None:
    refused: list[Exception] = []

    def draw() -> None:
        try:
            client.txt2img(prompt="hold", steps=4)
        except Exception as error:
            refused.append(error)

    looking = webuiapi.WebUIApi(host="127.0.0.1", port=deployment.port, username="ann", password="a-key")
    other = webuiapi.WebUIApi(host="127.0.0.1", port=deployment.port, username="bob", password="b-key")
    drawing = threading.Thread(target=draw)
    drawing.start()
    deployment.until(lambda: looking.get_progress()["progress"] == 0.25)
    assert looking.get_progress()["state"]["job_count"] == 1
    assert other.get_progress()["state"]["job_count"] == 0
    other.interrupt()
    assert looking.get_progress()["state"]["job_count"] == 1
    looking.interrupt()
    drawing.join(60)
    assert "job_cancelled" in str(refused[0])
    looking.util_wait_for_ready()
    for session in (looking.session, other.session):
        session.close()


def test_a_refusal_says_why(client: webuiapi.WebUIApi) -> None:
    with pytest.raises(RuntimeError, match="enable_hr cannot be done here"):
        client.txt2img(prompt="a dog", enable_hr=True)
