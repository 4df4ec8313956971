"""The studio page in a real browser: type, develop, watch, look."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

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


def test_a_refusal_is_said_on_the_page(page: Page) -> None:
    page.fill("#seed", "99999999999")
    page.click("#go")
    expect(page.locator("#problem")).not_to_be_empty()


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
