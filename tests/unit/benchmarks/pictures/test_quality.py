"""The quality table from made-up readings."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pictures.quality import FP32, Read, Variant, losses, passage, psnr, rows, table

INT8 = Variant("int8", allowed=0.01)
MERGED = Variant("int8", 0.4, allowed=0.02)
PICTURES = np.zeros((2, 4, 4, 3), np.uint8)
READS = {
    FP32: Read({"object": 1.0, "colour": 0.99, "all": 0.98}, PICTURES),
    INT8: Read({"object": 0.995, "colour": 0.992, "all": 0.97}, PICTURES),
    MERGED: Read({"object": 0.97, "colour": 0.99, "all": 0.95}, PICTURES),
}
SECONDS = {str(setting): 0.5 for setting in READS}
AGREEMENTS = {INT8: 30.0, MERGED: 25.0}


def test_a_setting_meets_its_goal_where_no_attribute_loses_more_than_it_may() -> None:
    assert losses(READS[INT8], READS[FP32]) == {"object": 0.005, "colour": -0.002}
    judged = [row for row in rows(READS, SECONDS, AGREEMENTS) if row.goal]
    assert [(row.measured, row.goal, row.met) for row in judged] == [(0.005, "<= 0.01", True), (0.03, "<= 0.02", False)]
    assert all("(object)" in row.metric for row in judged)


def test_the_table_has_a_line_for_each_setting() -> None:
    lines = table(READS, SECONDS, AGREEMENTS).splitlines()
    assert lines[0].startswith("|  | seconds an image | PSNR")
    assert lines[-1] == "| int8 + token merging 0.4 | 0.500 | 25.0 | 97.0 % | 99.0 % | 95.0 % |"


def test_the_table_stands_apart_from_the_text_and_the_picture() -> None:
    text, lines, picture = passage(READS, SECONDS, AGREEMENTS).split("\n\n")
    assert text.startswith("What speed costs")
    assert lines + "\n" == table(READS, SECONDS, AGREEMENTS)
    assert picture.startswith("![")


def test_agreement_is_the_mean_over_pictures() -> None:
    other = PICTURES.copy()
    other[1] = 255
    assert psnr(other, PICTURES) == pytest.approx((99 + 0) / 2)
