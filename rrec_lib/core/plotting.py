"""How the book's figures look, and how each carries a sentence that says what it shows."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rrec_lib.core.paths import replacing

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_style() -> None:
    """Set the book's figure style: Okabe–Ito colours, each with its own line style, on opaque white."""
    lines = ["-", "--", "-.", ":", (0, (3, 1, 1, 1)), (0, (5, 1)), (0, (1, 1))]
    plt.rcParams.update(
        {
            "figure.figsize": (7, 3.5),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "axes.prop_cycle": plt.cycler(color=OKABE_ITO) + plt.cycler(linestyle=lines),
            "axes.formatter.useoffset": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 10,
            "legend.frameon": False,
        }
    )


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook with an alternative text of its own.

    Args:
        figure: closed after display, so that it appears once.
        alt: a sentence of at least 40 characters that states the finding, with a figure from this run.

    Raises:
        ValueError: if ``alt`` is shorter than a sentence or has no figure in it.
    """
    if len(alt) < 40 or not any(character.isdigit() for character in alt):
        raise ValueError(f"alt text must be a sentence of at least 40 characters with a measured figure, got {alt!r}")
    from IPython.display import display  # only notebooks need IPython

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    display({"image/png": buffer.getvalue(), "text/plain": alt}, raw=True, metadata={"image/png": {"alt": alt}})


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all, and close it; the file's ending says its format, PNG without one."""
    try:
        with replacing(path, path.suffix or ".png") as temporary:
            figure.savefig(temporary)
    finally:
        plt.close(figure)


def intervals(
    axes: Axes, labels: Sequence[str], means: Sequence[float], lows: Sequence[float], highs: Sequence[float]
) -> None:
    """Draw one point with its interval per label, first label on top, each with its own marker."""
    style: Any
    positions = np.arange(len(labels))[::-1]
    for i, position in enumerate(positions):
        error = [[means[i] - lows[i]], [highs[i] - means[i]]]
        style = {"color": OKABE_ITO[i % len(OKABE_ITO)], "marker": MARKERS[i % len(MARKERS)], "capsize": 3}
        axes.errorbar([means[i]], [position], xerr=error, linestyle="none", **style)
    axes.set_yticks(positions, labels)
    axes.set_ylim(-0.6, len(labels) - 0.4)
