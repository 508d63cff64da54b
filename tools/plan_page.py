"""The plans printed on book/gpus.md, from the command itself: ``python tools/plan_page.py`` (``make plan-page``)."""

import contextlib
import io
import re
import shlex
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "book" / "gpus.md"
BLOCK = re.compile(r"(```bash\n(\.venv/bin/rrec plan [^`]*)```\n\n```text\n)(.*?)(```\n)", re.DOTALL)


def output(command: str) -> str:
    """What a command of the page prints."""
    from rrec_lib.cli.main import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if main(shlex.split(command.replace("\\\n", " "))[1:]) != 0:
            raise ValueError(f"{command} ended with an error")
    return printed.getvalue()


def regenerated(page: str) -> str:
    """The page with what its commands print now."""
    return BLOCK.sub(lambda match: f"{match[1]}{output(match[2])}{match[4]}", page)


def main() -> None:
    before = PAGE.read_text(encoding="utf-8")
    after = regenerated(before)
    PAGE.write_text(after, encoding="utf-8")
    print(f"{PAGE.name}: {'unchanged' if after == before else 'rewritten'}")


if __name__ == "__main__":
    main()
