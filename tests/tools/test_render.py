"""Rendering: nothing twice, warnings are errors, and a failure leaves the last good book. External links are asked."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import render
from execute import BuildError


def test_render_skip_and_failure(executed, capsys):
    page = executed / "_build" / "html" / "book" / "welcome.html"
    render.render(executed)
    assert "3 s, 0.5 GB" in page.read_text()
    notebook = (executed / "_build" / "html" / "notebooks" / "01_first.html").read_text()
    assert 'alt="A pixel"' in notebook
    former = executed / "_build" / "html" / "notebooks" / "05_gpu_training.html"
    assert 'location.replace("06_gpu_training.html"' in former.read_text()
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


def test_names_are_mended_in_every_page(tmp_path):
    page = tmp_path / "book" / "page.html"
    page.parent.mkdir()
    page.write_text(
        '<li><a class="current reference internal" href="#">01 · One</a><details><summary></summary></details></li>'
        '<button class="btn search-button-field" title="Search" aria-label="Search">Search <kbd>K</kbd></button>'
        '<summary aria-label="Toggle hidden content">Set-up: show</summary>'
        '<i class="theme-switch fa" data-mode="auto"  title="System Settings"></i>'
        '<div role="list" class="citation-list"><div class="citation" id="id1" role="doc-biblioentry">x</div></div>'
    )
    render.mend(tmp_path)
    assert page.read_text() == (
        '<li><a class="current reference internal" href="#">01 · One</a><details><summary aria-label="01 · One">'
        '</summary></details></li><button class="btn search-button-field" title="Search">Search <kbd>K</kbd></button>'
        "<summary>Set-up: show</summary>"
        '<i class="theme-switch fa" data-mode="auto"></i>'
        '<div class="citation-list"><div class="citation" id="id1">x</div></div>'
    )


class OneGoodPage(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/good" else 404)
        self.end_headers()

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *arguments):
        """No lines between the tests'."""


def test_an_external_link_that_leads_nowhere_is_named(executed, capsys):
    with ThreadingHTTPServer(("127.0.0.1", 0), OneGoodPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, page = f"http://127.0.0.1:{server.server_port}", executed / "book" / "welcome.md"
        page.write_text(f"# Welcome\n\n[one]({host}/good)\n")
        render.check_links(executed)
        assert "1 of 1 links answer" in capsys.readouterr().out
        page.write_text(f"# Welcome\n\n[one]({host}/good), [another]({host}/gone)\n")
        with pytest.raises(BuildError, match=r"1 of 2 links lead nowhere:\nbook/welcome\.md:3: \S+/gone \(404"):
            render.check_links(executed)
        server.shutdown()
