"""The roofline: what memory and multipliers allow, and where we and the peers stand. Needs the extra `bench`.

    python bench/plot.py bench/results/compare-smollm2.json docs/pictures/roofline.svg

Across: multiplications for each byte of weights that is read, which grows with the rows in a batch. Up: tokens a
second. A batch can be no faster than its bytes can be read (the slope) nor than its products can be formed (the flat).
"""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from pictures import picture
from roofline import roofline, title

NAMES = {"decode 1": "1 stream", "decode 8": "8 streams", "decode 32": "32 streams", "prefill 700": "prefill"}
# the colours of Okabe and Ito, told apart in every common colour blindness; shapes differ as well
STYLES = {
    "twofold": ("#0072B2", "o"), "OpenVINO": ("#D55E00", "s"), "llama.cpp": ("#009E73", "^"), "vLLM": ("#CC79A7", "D"),
}  # fmt: skip
LIMIT_COLOUR = "#444444"


def draw_limits(axes: Axes, slope: float, flat: float, least: float, most: float) -> None:
    """The two lines, named on the lines."""
    ridge = flat / slope
    axes.plot([least, ridge, max(most, ridge)], [least * slope, flat, flat], color=LIMIT_COLOUR, linewidth=1.5)
    middle = (least * ridge) ** 0.5
    axes.annotate(
        "read bandwidth", (middle, middle * slope), (-6, 4), textcoords="offset points", ha="right",
        color=LIMIT_COLOUR, fontsize=9,
    )  # fmt: skip
    axes.annotate(
        "int8 rate", (max(most, ridge), flat), (0, 4), textcoords="offset points", ha="right", color=LIMIT_COLOUR,
        fontsize=9,
    )  # fmt: skip


def draw(result: dict[str, Any]) -> Figure:
    """The whole picture, on white so that it can be read in light and dark pages."""
    found = roofline(result)
    figure = Figure(figsize=(7.2, 4.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot(xscale="log", yscale="log")
    across = [x for points in found["points"].values() for _, x, _ in points]
    draw_limits(axes, found["slope"], found["flat"], min(across) / 1.3, max(across) * 1.6)
    for system, points in found["points"].items():
        colour, marker = STYLES[system]
        _, xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, marker=marker, color=colour, label=system, linewidth=0.8, linestyle=":", markersize=7)
    for name, x, y in found["points"]["twofold"]:
        axes.annotate(NAMES[name], (x, y), (6, -12), textcoords="offset points", fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("multiplications for each byte of weights read (rows in the batch)")
    axes.set_ylabel("tokens a second")
    axes.set_title(title(result), fontsize=10)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    picture(draw, __doc__)
