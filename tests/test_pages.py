"""What the pages say of the method and the toy world is what the library does."""

import re
from pathlib import Path

import pytest

from rrec_lib.book.toy import toy_world

BOOK = Path(__file__).resolve().parent.parent / "book"
BASH = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["rrec", "heads"])
def test_the_diagrams_score_as_the_library_does(name):
    drawing = (BOOK / "_figures" / f"{name}.svg").read_text(encoding="utf-8")
    words = " ".join(re.sub(r"<[^>]+>", "", drawing).split())
    assert "score of film v = cos(hT, HV [v]) / τ" in words  # `scoring.score_items`, not an inner product


def test_commands_work_as_they_are_printed_after_make_book():
    pages = [path for path in BOOK.rglob("*.md") if "_generated" not in path.parts]
    blocks = [(path.name, block) for path in pages for block in BASH.findall(path.read_text(encoding="utf-8"))]
    assert blocks
    for name, block in blocks:
        assert not re.findall(r"^(?:rrec|python|accelerate) .*", block, re.MULTILINE), name


@pytest.mark.parametrize(
    ("page", "user", "sentence"),
    [
        ("notation.md", 0, "The user has seen item {seen}, which is masked. The target is item {target}"),
        ("instructor/index.md", 1, "the user has seen item {seen}, and the target is item {target}."),
    ],
)
def test_the_toy_worlds_items_are_counted_from_one_as_its_users_are(page, user, sentence):
    world = toy_world()
    assert world.users[user] == f"user {user + 1}"
    (seen,), target = world.histories[user], int(world.targets[user])
    prose = " ".join((BOOK / page).read_text(encoding="utf-8").split())
    assert sentence.format(seen=seen + 1, target=target + 1) in prose
