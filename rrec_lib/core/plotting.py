"""How the book's figures look in light and in dark, and how each carries a sentence that says what it shows."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from rrec_lib.core.paths import replacing

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DARK = "image/png;theme=dark"  # of a notebook's output; who doesn't know it shows the light PNG
DARK_GROUND, DARK_INK = 0x12 / 255, 0.92  # the book's page in the dark, and what is black in the light


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
    """Display a figure in a notebook with an alternative text of its own; the rendered book has it in the dark, too.

    Args:
        figure: closed after display, so that it appears once.
        alt: a sentence of at least 40 characters that states the finding, with a figure from this run.

    Raises:
        ValueError: if ``alt`` is shorter than a sentence or has no figure in it.
    """
    if len(alt) < 40 or not any(character.isdigit() for character in alt):
        raise ValueError(f"alt text must be a sentence of at least 40 characters with a measured figure, got {alt!r}")
    from IPython.display import display  # only notebooks need IPython

    light = _png(figure)
    darken(figure)
    data = {"image/png": light, DARK: _png(figure), "text/plain": alt}
    plt.close(figure)
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", facecolor=figure.get_facecolor())
    return buffer.getvalue()


def save(figure: Figure, path: Path, both: bool = False) -> None:
    """Write a figure, whole or not at all, and close it; the file's ending says its format, PNG without one.

    Args:
        figure: as drawn for the light.
        path: its file.
        both: whether to write the figure in the dark, too, for ``path`` ``a.png`` into ``a-dark.png``.
    """
    try:
        _write(figure, path)
        if both:
            darken(figure)
            _write(figure, path.with_stem(f"{path.stem}-dark"))
    finally:
        plt.close(figure)


def _write(figure: Figure, path: Path) -> None:
    with replacing(path, path.suffix or ".png") as temporary:
        figure.savefig(temporary, facecolor=figure.get_facecolor())


def darken(figure: Figure) -> None:
    """Give a drawn figure a dark ground: greys change places, black with white; colours stay, and so do images."""
    shapes: Any = (*figure.findobj(Patch), *figure.findobj(Collection))
    texts: Any = figure.findobj(Text)
    for shape in shapes:
        shape.set(facecolor=_dark(shape.get_facecolor()), edgecolor=_dark(shape.get_edgecolor()))
    for text in texts:
        text.set(color=_dark(text.get_color()))
    for line in figure.findobj(Line2D):
        parts = ("color", "markerfacecolor", "markeredgecolor")
        line.set(**{part: _dark(getattr(line, f"get_{part}")()) for part in parts})


def _dark(given: Any) -> Any:
    """The colour or colours that stand in the dark for those given."""
    rgba = np.array(colors.to_rgba_array(given))
    if not rgba[:, 3].any():
        return "none"  # a shape's own alpha would bring it to light
    grey = np.ptp(rgba[:, :3], axis=1) < 0.1
    rgba[grey, :3] = DARK_INK - (DARK_INK - DARK_GROUND) * rgba[grey, :3]
    return rgba if np.ndim(given) == 2 else tuple(rgba[0])


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


def tree(axes: Axes, parents: Sequence[int], labels: Sequence[str]) -> None:
    """Draw a tree from left to right; where it goes on in several ways the mark is larger.

    Args:
        axes: to draw into; they lose their frame.
        parents: of each node, numbered depth first from the root, 0, which is its own.
        labels: of each node.
    """
    nodes, rows = range(len(parents)), 0
    below = [[child for child in nodes[1:] if parents[child] == node] for node in nodes]
    across, down = np.zeros(len(parents)), np.zeros(len(parents))
    for node in nodes[1:]:
        across[node] = across[parents[node]] + 1
    for node in reversed(nodes):
        down[node] = np.mean(down[below[node]]) if below[node] else rows
        rows += not below[node]
    for node in nodes:
        start, end = across[int(parents[node])], across[node]
        way = [down[int(parents[node])], down[node], down[node]]
        axes.plot([start, start, end], way, color="black", linewidth=1, linestyle="-", zorder=1)
        size, color = (60, OKABE_ITO[1]) if len(below[node]) > 1 else (14, "black")
        axes.scatter(end, down[node], size, color=color, zorder=2)
        axes.annotate(labels[node], (end, down[node]), (-6, 3), textcoords="offset points", ha="right")
    axes.set(xlim=(-0.2, across.max() + 0.4), ylim=(-0.5, rows - 0.2))
    axes.axis("off")
