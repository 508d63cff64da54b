"""Docstrings on pages: what the writing baselines say of themselves."""

import re

import docstrings
from execute import ROOT

from rrec_lib.baselines import BASELINES


def test_marks_become_markdown():
    said = "By :func:`rrec_lib.a.b` and ``c``, ``doe2024some`` in the book's references; ``roe2023other``."
    assert docstrings.as_markdown(said) == "By `b` and `c`, {cite:p}`doe2024some`; {cite:p}`roe2023other`."


def test_each_writing_baseline_has_a_box_with_its_source_and_differences():
    text = docstrings.writers_text()
    assert set(docstrings.WRITERS) == {name for name, one in BASELINES.items() if one.trains_language_model}
    boxes = re.findall(r"```{dropdown} (\S+): .*?\n(.*?)\n```", text, re.DOTALL)
    assert [name for name, _ in boxes] == list(docstrings.WRITERS)
    cited = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    for name, box in boxes:
        assert "Left out: " in box, name
        assert "\nWhere paper, public code and this differ:\n\n- " in box, name
        assert "``" not in box
        assert not re.search(r":\w+:`(?!\w+\d)", box.replace("{cite:p}", ""))
        keys = re.findall(r"{cite:p}`(\w+)`", box)
        assert keys
        assert all(f"{{{key}," in cited for key in keys)
