"""The diagrams: drawn from the library, readable in both themes and alone, and what each shows is so."""

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import diagrams
import pytest
import stage
import torch

from rrec_lib.model.packing import _packed_inputs, pack
from rrec_lib.recpo.rollouts import Closed, _Member, _Rows

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "book" / "_figures").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


def read(name: str) -> str:
    return (diagrams.FOLDER / f"{name}.svg").read_text(encoding="utf-8")


def words(name: str) -> list[str]:
    """The lines of letters of a diagram."""
    return ["".join(text.itertext()) for text in ElementTree.fromstring(read(name)).iter(f"{SVG}text")]


def code(notebook: str) -> str:
    """All code of a notebook, each blank one space."""
    (path,) = (ROOT / "notebooks").glob(f"{notebook}_*[!s].ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return " ".join(" ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code").split())


def test_the_eight_and_the_method_are_there():
    assert {path.stem for path in FILES} == {*diagrams.DIAGRAMS, "rrec"}
    assert len(diagrams.DIAGRAMS) == 8


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_each_is_what_the_tool_draws(name):
    assert read(name) == str(diagrams.DIAGRAMS[name]()), "draw them again: python tools/diagrams.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestForm:
    def test_title_and_description_name_it(self, path):
        root = ElementTree.parse(path).getroot()
        assert root.get("role") == "img"
        title, description = (root.find(f"{SVG}{tag}") for tag in ("title", "desc"))
        assert title is not None
        assert description is not None
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert len(title.text or "") > 5
        assert len(description.text or "") > 120

    def test_nothing_is_asked_of_elsewhere(self, path):
        svg = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|href|@import|@font-face|url\((?!#)|<script|<image", svg)

    def test_both_themes(self, path):
        svg = path.read_text(encoding="utf-8")
        themes = stage.themed(svg)
        for name, palette in (("light", diagrams.LIGHT), ("dark", diagrams.DARK)):
            assert diagrams.colours(palette) in svg
            *_, shown = re.findall(r"\.ground \{ fill: (#\w+); \}", themes[name])  # of equal rules the last holds
            assert shown == palette[""][0]
            assert "@media" not in themes[name]
            ElementTree.fromstring(themes[name])
        assert not re.search(r"(fill|stroke)(=\"|:\s*)#", svg.partition("</style>")[2]), (
            "a colour that no theme changes"
        )


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_letters_are_readable_on_a_phone(name):
    sizes = {float(size) for size in re.findall(r"font-size: ([\d.]+)px", read(name))}
    of_subscripts, *others = sorted(size * 350 / diagrams.WIDTH for size in sizes)  # a phone's column has 350 pixels
    assert of_subscripts > 9.5
    assert min(others) > 11


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_stand_out_from_their_ground(theme):
    palette = diagrams.LIGHT if theme == "light" else diagrams.DARK
    (ground, ink, quiet), tones = palette[""], [palette[tone] for tone in palette if tone]
    pairs = (
        [(ink, ground), (quiet, ground)] + [(ink, fill) for fill, _ in tones] + [(line, ground) for _, line in tones]
    )
    assert min(contrast(*pair) for pair in pairs) >= 4.5


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_groups_numbers_by_hand():
    def softmax(target, others):
        return math.exp(target) / sum(map(math.exp, [target, *others]))

    d = [1, (1 / math.log2(3) + 1 / 2) / 2, 1]  # romance: first, tied for places 2 and 3, first
    c = [
        softmax(1, [-0.6, 0, 0.28, 0.8]),
        softmax(0.8, [0, 0.6, 0.8, 1]),
        softmax(0.96, [-0.8, -0.28, 0, 0.6]),
    ]
    r = [0.05 * c + 0.95 * d for c, d in zip(c, d, strict=True)]
    rloo = [x - (sum(r) - x) / 2 for x in r]
    shown = words("group")
    assert {f"{x:.3f}" for x in [*d, *c, *r]} <= set(shown)
    assert [line for line in shown if re.fullmatch(r"[+−]0\.[24]\d", line)] == [
        f"{x:+.2f}".replace("-", "−") for x in rloo
    ]
    assert max(rloo) == rloo[2]
    assert "tokens; reasoning 3, the best, the ranking too." in shown


def test_the_clip_bends_where_the_profile_says():
    shown = words("clip")
    assert [shown.count(tick) for tick in ("0.4", "0.8", "1", "1.2", "1.6")] == [2] * 5
    lines = re.findall(r'd="M(\S+) (\S+)L(\S+) (\S+)" class="line (\w+)-l thick"', read("clip"))
    (_, _, right, top, _), (_, y, _, y_end, _) = lines[0], lines[1]
    assert float(right) == pytest.approx(diagrams.clip_x(1.2))
    assert y == y_end == top  # flat behind it
    assert float(lines[3][2]) == pytest.approx(diagrams.clip_x(0.8))
    assert lines[3][1] == lines[3][3]


def test_packing_is_the_librarys(family):
    completions = [[9] * size for size in diagrams.PACKED]
    groups = pack([[1] * diagrams.PROMPT], completions, diagrams.PACKED, 0, torch.device("cpu"))
    model = family("llama")[0]
    model.set_attn_implementation("sdpa")
    inputs = _packed_inputs(model, groups)
    owner, positions = diagrams.packed_row()
    assert inputs["position_ids"][0].tolist() == positions
    assert inputs["attention_mask"][0, 0].tolist() == diagrams.seen(owner, positions)
    assert "One row: 13 places. Apart: 3 × 7 = 21." in words("packing")


def test_the_cache_is_filled_as_rollouts_fill_it(family):
    model = family("llama")[0]
    model.set_attn_implementation("sdpa")
    members = [_Member(0, number, diagrams.PROMPT) for number in (1, 2, 3)]
    with torch.no_grad():
        rows = _Rows(model, [[5] * diagrams.PROMPT], 0)
        while writing := [member for member in members if member.closed is None]:
            for member in writing:
                member.ids.append(7)
                if len(member.ids) == diagrams.WRITTEN[member.number - 1]:
                    member.closed = Closed(member.ids, len(member.ids), finished=True, trimmed=False)
            rows.feed(writing)
    owner, positions, _ = diagrams.cache_row()
    assert rows.owner[0].tolist() == owner
    assert rows.positions[0].tolist() == positions
    assert "One row: 13 places. Apart: 21." in words("cache")


def test_the_split_is_of_notebook_02s_log():
    rows = re.findall(r"\((\d), (\d), (\d\.0), (\d+)\)", code("02"))
    assert [(int(user), int(item), float(rating), int(day)) for user, item, rating, day in rows] == diagrams.LOG
    assert "Two moments for everybody: 5 : 1 : 1 targets." in words("split")


def test_the_labs_user_by_hand():
    shown = words("lab")
    first = shown.index("#18")
    classes, slots = [5, 4, 7, 0], [0, 5, 0, 1]
    tallies = [f"c{sum(classes[:n]) % 8}" for n in range(1, 5)] + [f"s{sum(slots[:n]) % 8}" for n in range(1, 5)]
    assert [line for line in shown if re.fullmatch(r"[cs]\d", line)] == [t for n in range(4) for t in tallies[n::4]]
    assert shown[first : first + 3] == ["#18", "5", "0"]
    assert [line for line in shown if re.fullmatch(r"1(/\d+)?", line)][-3:] == ["1/64", "1/8", "1"]
    assert "next: #35" in shown


def test_the_broadcasts_numbers_by_hand():
    assert f"lengths = torch.tensor({list(diagrams.LENGTHS)})" in code("08")
    advantages = [0.550396, 0.485415, 0.419061]  # the notebooks' test has them
    shown = words("broadcast")
    for advantage, lengths in zip(
        advantages, zip(diagrams.LENGTHS[::2], diagrams.LENGTHS[1::2], strict=True), strict=True
    ):
        for sign, length in zip("+−", lengths, strict=True):
            assert shown.count(f"{sign}{advantage:.2f}") == 1 + length + 1  # A, a weight per token, a sheet
    assert shown.count("0.00") == sum(diagrams.LENGTHS)


def test_staging_shows_a_diagram_in_the_readers_theme():
    text = "One.\n\n![A line\nand another](../book/_figures/clip.svg)\n\nNot ![this](../book/_figures/clip.svg) one."
    staged = stage.in_both_themes(text)
    assert staged.count("![A line and another](../book/_figures/clip-light.svg){.only-light .diagram}\n") == 1
    assert staged.count("![A line and another](../book/_figures/clip-dark.svg){.only-dark .diagram}\n") == 1
    assert staged.endswith("Not ![this](../book/_figures/clip.svg) one.")
    cell = {"cell_type": "markdown", "source": [text], "metadata": {}}
    assert stage.stage_cell(cell, "", Path())["source"] == staged
    assert stage.themed("<svg></svg>") == {}


def shown_on_pages() -> list[tuple[str, str, str]]:
    """Page, diagram and alt text of each picture that stands on a page."""
    pages = [(path, path.read_text(encoding="utf-8")) for path in (ROOT / "book").rglob("*.md")]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        pages += [(path, "".join(cell["source"])) for cell in cells if cell["cell_type"] == "markdown"]
    shown = []
    for path, text in pages:
        for alt, folder, name in stage.DIAGRAM.findall(text):
            assert (path.parent / folder / f"{name}.svg").is_file(), f"{path.name} shows {name}, which is not there"
            shown.append((path.name, name, " ".join(alt.split())))
    return shown


def test_each_stands_on_one_page_with_an_alt_text():
    shown = shown_on_pages()
    assert sorted(name for _, name, _ in shown) == sorted(path.stem for path in FILES)
    for page, name, alt in shown:
        assert len(alt) >= 40, f"{page}: {name}"
        description = ElementTree.fromstring(read(name)).findtext(f"{SVG}desc") or ""
        numbers = set(re.findall(r"\d+\.\d\d+", alt))
        assert numbers <= set(re.findall(r"\d+\.\d\d+", description + " ".join(words(name)))), f"{page}: {name}"
