"""Rendering: nothing twice, warnings are errors, and a failure leaves the last good book."""

import pytest
import render
from execute import BuildError


def test_render_skip_and_failure(executed, capsys):
    page = executed / "_build" / "html" / "book" / "welcome.html"
    render.render(executed)
    assert "3 s, 0.5 GB" in page.read_text()
    notebook = (executed / "_build" / "html" / "notebooks" / "01_first.html").read_text()
    assert 'alt="A pixel"' in notebook
    capsys.readouterr()
    render.render(executed)
    assert "unchanged" in capsys.readouterr().out

    source = executed / "book" / "welcome.md"
    good = source.read_text()
    before = page.read_bytes()
    source.write_text(good + "\n[nowhere](absent.md)\n")
    for _ in range(2):  # a warning must fail the second time too
        with pytest.raises(BuildError, match="_build/html is as before"):
            render.render(executed)
    assert "absent.md" in capsys.readouterr().err
    assert page.read_bytes() == before

    source.write_text(good + "\nA new line.\n")
    render.render(executed)
    assert "A new line." in page.read_text()


@pytest.mark.parametrize("tmp_path", ["a [b] c"], indirect=True)
def test_a_checkout_below_a_folder_with_brackets_is_rendered(executed):
    assert "[" in str(executed)
    (executed / "book" / "left-out.md").write_text("## Not in the table of contents\n")
    render.render(executed)
    assert (executed / "_build" / "html" / "book" / "welcome.html").is_file()
    assert not (executed / "_build" / "html" / "book" / "left-out.html").exists()
