"""The studio page in a real browser: type, develop, watch, look."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from crayon.judge.judge import read
from crayon.scenes.grammar import Background, Colour, Shape

STAR = Path(__file__).parent.parent.parent / "docs" / "images" / "star.png"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture
def page(deployment: Any) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        opened = browser.new_page(viewport={"width": 390, "height": 844})  # a phone
        complaints: list[str] = []
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.goto(str(deployment.client.base_url))
        yield opened
        assert not complaints
        browser.close()


def shown(page: Page, deployment: Any) -> list[Any]:
    """The pictures on the tray."""
    urls = [picture.get_attribute("src") for picture in page.locator("#tray img").all()]
    return [
        np.asarray(Image.open(io.BytesIO(deployment.client.get(url).content)).convert("RGB")) for url in urls if url
    ]


def seen(image: Any) -> tuple[Background, list[tuple[Shape, Colour]]]:
    (reading,) = read(image[None])
    return reading.background, [(found.shape, found.colour) for found in reading.objects]


def test_a_picture_develops_and_its_curl_line_makes_it_again(page: Page, deployment: Any) -> None:
    page.fill("#prompt", "a large blue fish on a yellow background")
    page.fill("#seed", "5")
    page.click("#go")
    expect(page.locator("#status")).to_contain_text("Seed 5", timeout=30_000)
    picture = page.locator("#tray img")
    expect(picture).to_have_js_property("naturalWidth", 128)
    shown = deployment.client.get(picture.get_attribute("src")).content
    told = page.locator("#curl").inner_text()
    assert "a large blue fish on a yellow background" in told
    again = deployment.client.post(
        "/v1/models/crayon:predict", json={"prompt": "a large blue fish on a yellow background", "seed": 5}
    ).json()
    assert deployment.client.get(again["image"]).content == shown


def test_the_edges_of_a_picture_in_the_prompts_colours(page: Page, deployment: Any) -> None:
    page.click("#from summary")
    expect(page.locator("#use")).to_be_hidden()
    page.set_input_files("#picture", STAR)
    expect(page.locator("#given")).to_have_js_property("naturalWidth", 128)
    page.select_option("#use", "control:canny")
    expect(page.locator("#strength")).to_be_hidden()
    page.fill("#prompt", "a large purple star on a yellow background")
    page.fill("#seed", "1")
    page.click("#go")
    expect(page.locator("#status")).to_contain_text("Seed 1", timeout=60_000)
    made, edges = shown(page, deployment)
    assert seen(made) == (Background.YELLOW, [(Shape.STAR, Colour.PURPLE)])
    assert set(np.unique(edges)) == {0, 255}
    assert '"control":{"type":"canny"}' in page.locator("#curl").inner_text()


def test_a_part_of_a_picture_is_drawn_again(page: Page, deployment: Any) -> None:
    page.click("#from summary")
    page.set_input_files("#picture", STAR)
    page.select_option("#use", "part")
    page.fill("#prompt", "a small green circle on a gray background")
    page.fill("#seed", "1")
    page.click("#go")
    expect(page.locator("#problem")).to_contain_text("Paint over")
    expect(page.locator("#mask")).to_have_js_property("width", 128)
    page.locator("#mask").scroll_into_view_if_needed()
    box = page.locator("#mask").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.click("#go")
    expect(page.locator("#status")).to_contain_text("Seed 1", timeout=60_000)
    (made,), star = shown(page, deployment), np.asarray(Image.open(STAR).convert("RGB"))
    assert np.array_equal(made[:, :48], star[:, :48])
    assert np.array_equal(made[96:], star[96:])
    assert (made[40:56, 60:68] != star[40:56, 60:68]).any()
    page.click("#forget")
    expect(page.locator("#given")).to_be_hidden()


def test_a_refusal_is_said_on_the_page(page: Page) -> None:
    page.fill("#seed", "99999999999")
    page.click("#go")
    expect(page.locator("#problem")).not_to_be_empty()


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
