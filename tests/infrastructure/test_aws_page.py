"""docs/aws.md: every arrow of the picture names its journeys, and the journeys are the tests that there are."""

import re

from tests.infrastructure.stack import ROOT

PAGE = (ROOT / "docs/aws.md").read_text(encoding="utf-8")


def _rows() -> dict[int, list[str]]:
    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", PAGE, re.MULTILINE)
    return {int(arrow): re.findall(r"`(test_\w+)`", tests) for arrows, tests in rows for arrow in arrows.split(",")}


def test_every_arrow_names_a_journey() -> None:
    # Brackets in a label are no picture any more, but an error message.
    arrows = [int(number) for number in re.findall(r"-->\|(\d+) [\w ,]+\| \w+$", PAGE, re.MULTILINE)]
    assert len(arrows) == PAGE.count("-->")
    assert sorted(arrows) == sorted(_rows())
    assert all(_rows().values())


def test_journeys_are_the_tests_that_there_are() -> None:
    source = "\n".join(one.read_text(encoding="utf-8") for one in (ROOT / "tests/integration/aws").glob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    assert {name for names in _rows().values() for name in names} == there
