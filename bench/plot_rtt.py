"""Time a token over the round trip time, measured and bound. Needs the extra `bench`.

python bench/plot_rtt.py bench/results/rtt.json docs/pictures/rtt.svg
"""

from typing import Any

from matplotlib.figure import Figure
from pictures import picture

BOUND_COLOUR, TOKEN_COLOUR = "#444444", "#0072B2"


def draw(result: dict[str, Any]) -> Figure:
    """The curve, on white so that it can be read in light and dark pages."""
    curve = result["curve"]
    figure = Figure(figsize=(7.2, 4.2), layout="constrained", facecolor="white")
    axes = figure.add_subplot(xscale="log", yscale="log")
    across = [point["rtt_ms"] for point in curve]
    axes.plot(across, [point["bound_ms"] for point in curve], color=BOUND_COLOUR, label="bound")
    axes.plot(across, [point["token_ms"] for point in curve], "o", color=TOKEN_COLOUR, label="measured")
    for point in curve:
        axes.annotate(
            f"{point['token_ms']:.0f} ms, {point['ratio']:.2f}", (point["rtt_ms"], point["token_ms"]), (8, -12),
            textcoords="offset points", fontsize=9,
        )  # fmt: skip
    axes.set_xlabel("round trip time, ms")
    axes.set_ylabel("time a token, ms")
    axes.set_title(
        f"{result['model']}, {result['round trips']} round trips a token, {result['date'][:10]}", fontsize=10
    )
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    picture(draw, __doc__)
