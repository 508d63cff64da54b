"""Figures of a page at a third of their bytes: a plot has few colours, so a palette of 256 shows all there is."""

import base64
import io
from typing import Any

from PIL import Image, UnidentifiedImageError


def smaller(png: bytes) -> bytes:
    """A PNG with a palette, or the PNG itself where that saves nothing."""
    try:
        picture = Image.open(io.BytesIO(png))
    except UnidentifiedImageError:
        return png
    opaque = picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255)
    if picture.mode != "RGB" and not opaque:
        return png  # what shines through would lose its steps
    buffer = io.BytesIO()
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


def with_smaller_pictures(cell: dict[str, Any]) -> dict[str, Any]:
    """A notebook's cell, its outputs' PNGs made smaller."""
    if not any("data" in output for output in cell.get("outputs", [])):
        return cell
    return {**cell, "outputs": [_smaller_output(output) for output in cell["outputs"]]}


def _smaller_output(output: dict[str, Any]) -> dict[str, Any]:
    def value(kind: str, given: Any) -> Any:
        if not kind.startswith("image/png"):
            return given
        png = base64.b64decode("".join(given))
        small = smaller(png)
        return given if small is png else base64.b64encode(small).decode()

    if "data" not in output:
        return output
    return {**output, "data": {kind: value(kind, given) for kind, given in output["data"].items()}}
