"""Pictures get smaller, and look as they did."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pictures
import pytest
from PIL import Image, ImageChops


@pytest.fixture(scope="module")
def plot():
    figure, axes = plt.subplots(facecolor="white")
    for k in range(7):
        axes.plot(np.sin(np.linspace(0, 6, 200) + k), label=f"line {k}")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()


def test_a_plot_has_half_its_bytes_and_the_same_look(plot):
    small = pictures.smaller(plot)
    assert len(small) < len(plot) / 2
    before, after = (Image.open(io.BytesIO(png)).convert("RGB") for png in (plot, small))
    difference = np.asarray(ImageChops.difference(before, after), dtype=float)
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.999) < 32
    assert pictures.smaller(small) == small


def test_what_is_no_picture_stays():
    assert pictures.smaller(b"none") == b"none"


def test_what_shines_through_stays():
    picture, buffer = Image.new("RGBA", (9, 9), (200, 0, 0, 90)), io.BytesIO()
    picture.save(buffer, "PNG")
    assert pictures.smaller(buffer.getvalue()) == buffer.getvalue()


def test_of_a_cell_only_pngs_change(plot):
    text = base64.b64encode(plot).decode()
    outputs = [
        {"output_type": "stream", "text": ["a"]},
        {"output_type": "display_data", "metadata": {"a": 1}, "data": {"image/png": text, "text/plain": "alt"}},
    ]
    cell = {"cell_type": "code", "source": "x", "outputs": outputs}
    stream, shown = pictures.with_smaller_pictures(cell)["outputs"]
    assert stream == outputs[0]
    assert shown["data"]["text/plain"] == "alt"
    assert shown["metadata"] == {"a": 1}
    assert len(shown["data"]["image/png"]) < len(text) / 2
    assert pictures.with_smaller_pictures({"cell_type": "markdown", "source": "x"}) == {
        "cell_type": "markdown",
        "source": "x",
    }
