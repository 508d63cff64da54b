"""Figures: their sentence, and how they look in the dark."""

import io
from typing import Any

import pytest
from matplotlib import colors
from test_diagrams import contrast

from rrec_lib.core import plotting


def test_a_figure_needs_a_sentence_with_a_figure(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **kwargs: shown.append((data, kwargs)))
    plotting.use_style()
    figure, axes = plotting.plt.subplots()
    plotting.intervals(axes, ["a", "b"], [1, 2], [0.5, 1.5], [2, 3])
    for alt in ("too short 1", "a sentence that is long enough but has no figure in it"):
        with pytest.raises(ValueError, match="alt text"):
            plotting.show(figure, alt)
    alt = "The second of the two means is 2, twice the first."
    plotting.show(figure, alt)
    data, kwargs = shown[0]
    assert kwargs["metadata"] == {"image/png": {"alt": alt}}
    light, dark = (plotting.plt.imread(io.BytesIO(data[kind])) for kind in ("image/png", plotting.DARK))
    assert light.shape == dark.shape
    assert light[0, 0].tolist() == [1, 1, 1, 1]  # an opaque white ground
    assert dark[0, 0].tolist() == pytest.approx([plotting.DARK_GROUND] * 3 + [1], abs=0.01)
    assert light[..., :3].min() < 0.1  # labels
    assert dark[..., :3].min(axis=2).max() == pytest.approx(plotting.DARK_INK, abs=0.01)


def test_in_the_dark_greys_change_places_and_colours_stay():
    figure, axes = plotting.plt.subplots()
    axes.bar([1, 2], [1, 2], color="#0072B2", edgecolor="white", hatch="//")
    axes.scatter([1, 2], [1, 2], color=["black", "#D55E00"], alpha=0.5)
    axes.plot([1, 2], [1, 2], color="0.5", markerfacecolor="none", marker="o")
    span = axes.axvspan(1, 2, color="black", alpha=0.2)
    plotting.darken(figure)
    rgb = colors.to_rgb
    ink, ground = [plotting.DARK_INK] * 3, [plotting.DARK_GROUND] * 3
    assert list(axes.get_facecolor()[:3]) == pytest.approx(ground)
    assert list(rgb(axes.xaxis.get_ticklabels()[0].get_color())) == pytest.approx(ink)
    assert list(rgb(axes.patches[0].get_edgecolor())) == pytest.approx(ground)
    assert rgb(axes.patches[0].get_facecolor()) == rgb("#0072B2")
    dots = colors.to_rgba_array(axes.collections[0].get_facecolor())
    assert list(dots[0]) == pytest.approx([*ink, 0.5])
    assert list(dots[1]) == pytest.approx([*rgb("#D55E00"), 0.5])
    assert 0.4 < rgb(axes.lines[0].get_color())[0] < 0.55
    assert axes.lines[0].get_markerfacecolor() == "none"
    assert list(span.get_facecolor()) == pytest.approx([*ink, 0.2])
    assert min(contrast(color, colors.to_hex((plotting.DARK_GROUND,) * 3)) for color in plotting.OKABE_ITO[:-1]) >= 3


def test_a_saved_figure_may_have_a_twin_in_the_dark(tmp_path):
    for both, names in ((False, ["a.png"]), (True, ["a-dark.png", "a.png"])):
        figure, _ = plotting.plt.subplots()
        plotting.save(figure, tmp_path / "a.png", both=both)
        assert sorted(path.name for path in tmp_path.iterdir()) == names
    light, dark = (plotting.plt.imread(tmp_path / name)[0, 0, 0] for name in ("a.png", "a-dark.png"))
    assert (light, dark) == (1, pytest.approx(plotting.DARK_GROUND, abs=0.01))


def test_a_tree_has_a_row_for_each_leaf_and_a_larger_mark_at_each_choice():
    figure, axes = plotting.plt.subplots()
    plotting.tree(axes, [0, 0, 1, 1, 0], ["", "a", "b", "c", "d"])  # root; a with b and c behind it; d
    marks: Any = axes.collections
    places = [tuple(dots.get_offsets()[0]) for dots in marks]
    assert places == [(0, 0.75), (1, 1.5), (2, 2), (2, 1), (1, 0)]
    assert [dots.get_sizes()[0] for dots in marks] == [60, 60, 14, 14, 14]
    assert [text.get_text() for text in axes.texts] == ["", "a", "b", "c", "d"]
    plotting.plt.close(figure)
