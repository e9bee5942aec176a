"""Just enough SVG: elements that escape their text, scales with round ticks, and PNG for pixels.

Colours are left to the page's style sheet through classes, so that one drawing serves light and dark.
"""

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray


class Drawing:
    """An SVG under construction; `label` is what a screen reader says of it."""

    def __init__(self, width: float, height: float, label: str, css: str = "") -> None:
        """Start an empty drawing of `width` × `height` user units that scales with the page."""
        self.root = ElementTree.Element(
            "svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": label, "class": css}
        )

    def add(
        self, tag: str, css: str = "", text: str = "", hover: str = "", **attributes: float | str
    ) -> None:
        """Append one element; `text` is its content, `hover` shows under the pointer."""
        element = ElementTree.SubElement(self.root, tag, {"class": css} if css else {})
        for name, value in attributes.items():
            plain = value if isinstance(value, str) else short(value)
            element.set(name.rstrip("_").replace("_", "-"), plain)
        element.text = text or None
        if hover:
            ElementTree.SubElement(element, "title").text = hover

    def scales(self, across: "Scale", up: "Scale", x_title: str, y_title: str) -> None:
        """Say what positions mean, so that the page can tell the values of a line's points."""
        for name, one, title in (("x", across, x_title), ("y", up, y_title)):
            ends = " ".join(f"{float(v):.10g}" for v in (one.low, one.high, one.start, one.end))
            self.root.set(f"data-{name}", f"{ends} {int(one.log)}")
            self.root.set(f"data-{name}-title", title)

    def file(self, style: str) -> str:
        """The finished drawing as a file of its own, at its natural width, with `style` for its colours."""
        width = self.root.attrib["viewBox"].split()[2]
        alone = ElementTree.Element(
            "svg", {"xmlns": "http://www.w3.org/2000/svg", **self.root.attrib, "width": width}
        )
        ElementTree.SubElement(alone, "style").text = style
        alone.extend(self.root)
        ElementTree.indent(alone, " ")
        return ElementTree.tostring(alone, encoding="unicode") + "\n"

    def markup(self) -> Markup:
        """The finished drawing, safe to put into a page."""
        return Markup(ElementTree.tostring(self.root, encoding="unicode"))  # noqa: S704 - ElementTree escapes


def short(value: float) -> str:
    """At most two decimals, no trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def path(points: Iterable[tuple[float, float]]) -> str:
    """An SVG path through `points`."""
    return "M" + "L".join(f"{short(x)} {short(y)}" for x, y in points)


@dataclass(frozen=True)
class Scale:
    """A map from values in [low, high] to positions in [start, end], linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of `value`."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        """About `count` round values within the scale."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = [m * 10.0**p for p in powers for m in (1, 2, 5)]
            inside = [v for v in steps if self.low <= v <= self.high]
            decades = [v for v in inside if math.log10(v) % 1 == 0]
            return decades if len(decades) >= 3 else inside
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        magnitude = 10.0 ** math.floor(math.log10(span / count))
        step = next((m * magnitude for m in (1, 2, 2.5, 5, 10) if span / (m * magnitude) <= count), span)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * k, 12) for k in range(first, last + 1)]


def scale(
    values: Iterable[float], start: float, end: float, margin: float = 0.06, log: bool = False
) -> Scale:
    """A scale that holds all `values` with a `margin` at both ends."""
    numbers = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    if log and low > 0:
        factor = (high / low) ** margin if high > low else 2.0
        return Scale(low / factor, high * factor, start, end, log=True)
    slack = (high - low) * margin or abs(high) * margin or 1.0
    return Scale(low - slack, high + slack, start, end)


def png(pixels: NDArray[np.uint8]) -> str:
    """A `data:` address that holds `pixels` [height, width, 4], red-green-blue-alpha, as PNG."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode("ascii")


def strip(images: NDArray[np.float32], gap: int = 1) -> str:
    """Images [n, C, H, W] with values in [0, 1], side by side with clear gaps, as a `data:` address.

    One channel is shown as grey, three as colour; of any other number the first is shown.
    """
    n, channels, height, width = images.shape
    shades = (np.clip(np.nan_to_num(images), 0, 1) * 255).round().astype(np.uint8)
    colour = shades if channels == 3 else np.repeat(shades[:, :1], 3, axis=1)
    canvas = np.zeros((height, n * (width + gap) - gap, 4), dtype=np.uint8)
    for k in range(n):
        left = k * (width + gap)
        canvas[:, left : left + width, :3] = colour[k].transpose(1, 2, 0)
        canvas[:, left : left + width, 3] = 255
    return png(canvas)


def dots(points: Sequence[tuple[float, float]]) -> str:
    """A path of zero-length strokes: with round caps, one dot a point."""
    return "".join(f"M{short(x)} {short(y)}h0" for x, y in points)
