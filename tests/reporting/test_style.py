"""Marks stand out from the page in both schemes. Of text a browser says so (test_browser)."""

import re

import pytest

from latentops.reporting.page import TEMPLATES

CLASSES, GRADES = ([f"{kind}{k}" for k in range(many)] for kind, many in (("c", 10), ("g", 8)))
MARKS = ("accent", "variant", "floor", "pass", "fail", *CLASSES, *GRADES)
ENOUGH = 3.0  # WCAG 2.2, 1.4.11
DOTS = 0.85  # how opaque the dots of a map are

Colour = tuple[float, float, float]


def colours(scheme: str) -> dict[str, Colour]:
    text = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", text, flags=re.S)
    found = re.findall(r"--([\w-]+): #([0-9a-f]{6})", light if scheme == "light" else dark)
    return {name: tuple(int(code[k : k + 2], 16) / 255 for k in (0, 2, 4)) for name, code in found}  # type: ignore[misc]


def luminance(colour: Colour) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_stand_out_from_the_page(scheme: str, name: str) -> None:
    known = colours(scheme)
    paper, mark = known["paper"], known[name]
    if name[1:].isdigit():
        mark = tuple(DOTS * m + (1 - DOTS) * p for m, p in zip(mark, paper, strict=True))  # type: ignore[assignment]
    assert contrast(mark, paper) >= ENOUGH


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_higher_a_number_the_more_its_grade_stands_out(scheme: str) -> None:
    """So that the order of the grades can be told without telling hues apart."""
    known = colours(scheme)
    marks = [contrast(known[name], known["paper"]) for name in GRADES]
    assert marks == sorted(marks)


def test_contrast_is_that_of_the_guideline() -> None:
    assert contrast((1, 1, 1), (0, 0, 0)) == pytest.approx(21)
    assert contrast((0x76 / 255,) * 3, (1, 1, 1)) == pytest.approx(4.54, abs=0.01)
