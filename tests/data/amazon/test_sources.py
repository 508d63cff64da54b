"""A category's two files from a local server: fetched once, kept, and what is said without a network."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rrec_lib.data.amazon.sources import category_files
from rrec_lib.data.download import DownloadError

FILES = {
    "/benchmark/5core/rating_only/Books.csv.gz": b"reviews",
    "/raw/meta_categories/meta_Books.jsonl.gz": b"items",
}


class Server(ThreadingHTTPServer):
    files: dict[str, bytes]
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = dict(FILES), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_both_files_come_and_are_not_fetched_again(server, tmp_path):
    files = category_files("Books", tmp_path, address(server))
    assert files.reviews.read_bytes() == b"reviews"
    assert files.meta.read_bytes() == b"items"
    assert sorted(server.asked) == sorted(FILES)
    assert category_files("Books", tmp_path, address(server)) == files
    assert len(server.asked) == 2


def test_the_cache_folder_keeps_them_by_default(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RREC_CACHE", str(tmp_path))
    assert category_files("Books", base=address(server)).reviews == tmp_path / "amazon-2023" / "Books.csv.gz"


def test_a_missing_file_says_what_to_fetch_and_where_to_put_it(server, tmp_path):
    del server.files["/raw/meta_categories/meta_Books.jsonl.gz"]
    with pytest.raises(DownloadError) as caught:
        category_files("Books", tmp_path, address(server))
    text = str(caught.value)
    assert "404" in text
    assert f"fetch {address(server)}/raw/meta_categories/meta_Books.jsonl.gz elsewhere" in text  # the other one is here
    assert str(tmp_path) in text
    assert "--raw-dir" in text
    assert (tmp_path / "Books.csv.gz").read_bytes() == b"reviews"


def test_an_unknown_category_is_refused_before_anything_is_asked(server, tmp_path):
    with pytest.raises(ValueError, match=r"no category 'Boks'.*Books.*--raw-dir"):
        category_files("Boks", tmp_path, address(server))
    assert server.asked == []
