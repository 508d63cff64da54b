"""Text files: in, a path; out, its text, decoded as its byte order mark or its contents say, or a refusal by name.

The guess is the project's own: charset_normalizer takes a Cyrillic title in an ASCII table for cp1252, and Chinese ones
for Korean.
"""

import codecs
import io
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from rrec_lib.data.archive import DamagedArchiveError, read_blocks

BLOCK = 1 << 18  # bytes read at a time
SAMPLE = 1 << 16  # bytes with other letters than ASCII's that a guess looks at
BAD = re.compile("[\udc80-\udcff\ufffd]")  # what decoding makes of bytes that the encoding hasn't
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
          codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
_ARCHIVES = (b"PK\x03\x04", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ", b"Rar!", b"PAR1")
# Of encodings that read a text equally well the first is named. The letters are those its languages use.
_LATIN = "àâäáãåæçèéêëìíîïñòóôõöøùúûüßœÿ¡¿«»°ºª“”‘’–—…€£©®™"
_USUAL = {
    "cp1252": (_LATIN, "Western European, such as ISO-8859-1"),
    "cp1250": ("ąćęłńóśźżáčďéěíňřšťúůýžőűöüäđăâîşţ„“”–—…", "Central European"),
    "iso8859-2": ("ąćęłńóśźżáčďéěíňřšťúůýžőűöüäđăâîşţ", "Central European"),
    "mac-roman": (_LATIN, "of an old Macintosh, or Excel on one"),
    "cp1254": (_LATIN.replace("ÿ", "") + "ğıİş", "Turkish"),
    "cp1255": ("אבגדהוזחטיךכלםמןנסעףפץצקרשת–—…", "Hebrew"),
    "cp1251": ("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґ«»–—…№", "Cyrillic"),
    "koi8-r": ("абвгдежзийклмнопрстуфхцчшщъыьэюяё", "Cyrillic"),
    "iso8859-5": ("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґ№", "Cyrillic"),
    "cp1253": ("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋ«»–—…", "Greek"),
    "cp1256": ("ابتثجحخدذرزسشصضطظعغفقكلمنهويىءآأؤإئة،؟–—…", "Arabic"),
    "shift_jis": ("", "Japanese"),
    "euc-jp": ("", "Japanese"),
    "cp949": ("", "Korean"),
    "gb18030": ("", "Chinese"),
    "big5": ("", "Chinese"),
}
_JAPANESE = ("HIRAGANA", "KATAKANA", "CJK")
_WIDE = {"shift_jis": _JAPANESE, "euc-jp": _JAPANESE, "cp949": ("HANGUL SYLLABLE",), "gb18030": ("CJK",),
         "big5": ("CJK",)}  # fmt: skip
_COMMON = {"gb18030": (0xB0, 0xD8), "big5": (0xA4, 0xC9)}  # first bytes
_LATINS = {"cp1252", "cp1250", "iso8859-2", "mac-roman", "cp1254"}
_ENOUGH = 0.6  # share of letters that must be usual before an encoding is named


def open_text(path: Path, encoding: str | None) -> tuple[TextIO, "Blocks"]:
    """Open a text file, plain or gzipped, a byte order mark left out.

    Args:
        path: the file.
        encoding: its encoding; UTF-8 if None. A byte order mark overrules it.

    Returns:
        The text, line ends kept, bytes that don't belong to the encoding as ``BAD`` finds them; and the bytes below,
        which know whether an archive broke off.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no text, the encoding is unknown, or None was given and it is mostly not UTF-8.
    """
    found = _find_encoding(path, encoding)
    raw = Blocks(path)
    errors = "replace" if found.startswith(("utf-16", "utf-32")) else "surrogateescape"
    return io.TextIOWrapper(io.BufferedReader(raw, BLOCK), encoding=found, errors=errors, newline=""), raw


class Blocks(io.RawIOBase):
    """A file's bytes, unpacked where it is gzipped; of a damaged archive those before the break, then ``damage``."""

    def __init__(self, path: Path) -> None:
        self.damage: DamagedArchiveError | None = None
        self._blocks, self._rest = file_blocks(path), b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def,override]
        """Fill a buffer, as :class:`io.BufferedReader` wants it."""
        while not self._rest:
            try:
                self._rest = next(self._blocks)
            except StopIteration:
                return 0
            except DamagedArchiveError as error:
                self.damage = error
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def file_blocks(path: Path) -> Iterator[bytes]:
    """A file in pieces, unpacked where it is gzipped.

    Raises:
        DamagedArchiveError: as :func:`rrec_lib.data.archive.read_blocks`.
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file" if path.exists() else "missing"
        raise FileNotFoundError(f"{path} is {what}, expected a text file")
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            yield from iter(lambda: file.read(BLOCK), b"")
            return
    yield from read_blocks(path)


def refuse_wide(path: Path, head: bytes) -> None:
    """Stop at a file that begins in UTF-16 or UTF-32, where UTF-8 alone is read.

    Raises:
        ValueError: naming the encoding.
    """
    mark, wide = _mark(head), _without_mark(head)
    if wide or (mark and mark != "utf-8-sig"):
        raise ValueError(f"{path} is {mark or wide}, expected UTF-8; save it as UTF-8")


def guess(lines: list[bytes]) -> str | None:
    """The encoding in which the lines' letters are those of a language; None if there is none."""
    scores = {name: _score(lines, name) for name in _USUAL}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= _ENOUGH else None


def _find_encoding(path: Path, encoding: str | None) -> str:
    good = bad = 0
    sample, head = b"", b""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    try:
        for block in file_blocks(path):
            if not head:
                head = block[:4096]
                found = _head_encoding(path, head, encoding)
                if found:
                    return found
            if block.isascii():
                continue  # a letter that the block before cut in two is no letter then: what follows decides
            text = decode(block)
            wrong = len(BAD.findall(text))
            bad += wrong
            good += sum(not letter.isascii() for letter in text) - wrong
            sample = sample if len(sample) > SAMPLE else sample + block
    except DamagedArchiveError:
        pass  # what stands before the break is read, and the break is counted there
    if bad > good:
        lines = [line for line in sample.split(b"\n") if not line.isascii()]
        name = guess(lines)
        looks = f"looks like {name} ({_USUAL[name][1]})" if name else "is in an encoding that its bytes don't show"
        raise ValueError(
            f"{path} is not UTF-8: it {looks}; name its encoding with --encoding {name or 'NAME'}, save it as UTF-8, "
            "or drop every such byte with --encoding utf-8"
        )
    return "utf-8"


def _head_encoding(path: Path, head: bytes, encoding: str | None) -> str | None:
    """What the first bytes and the user say, if they say anything."""
    if head.startswith(_ARCHIVES):
        raise ValueError(f"{path} is an archive, a spreadsheet or a Parquet file, expected text, plain or gzipped; "
                         "unpack it, or save it as CSV")  # fmt: skip
    if mark := _mark(head):
        return mark
    if encoding is not None:
        try:
            "".encode(encoding)  # refuses what is no encoding of text as well,
            bytes(4).decode(encoding, "surrogateescape")  # or can't go on behind a bad byte
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"--encoding {encoding} is unknown; expected a name such as utf-8, cp1252 or utf-16"
            ) from error
        if codecs.lookup(encoding).name in ("utf-16", "utf-32"):  # a mark alone tells the order of their bytes
            name = _without_mark(head)
            looks = f"looks like {name}: add --encoding {name}" if name else "doesn't look like it: name another"
            raise ValueError(f"{path} has no byte order mark, which {encoding} begins with, and {looks}")
        return encoding
    if wide := _without_mark(head):
        raise ValueError(f"{path} is not UTF-8: it looks like {wide}; add --encoding {wide}, or save it as UTF-8")
    return None


def _mark(head: bytes) -> str | None:
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def _without_mark(head: bytes) -> str | None:
    """UTF-16 shows by a zero in every second byte where letters are ASCII's."""
    for place, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = head[place::2]
        if len(half) > 4 and half.count(0) > len(half) / 2:
            return name
    return None


def _score(lines: list[bytes], name: str) -> float:
    """Share of usual letters among those that are not ASCII; a word of two alphabets or odd capitals costs."""
    points, letters = 0.0, 0
    for line in lines:
        try:
            text = line.decode(name)
        except UnicodeDecodeError:
            return 0.0
        for word in re.split(r"[\x00-\x40\x5b-\x60\x7b-\x7f\s]+", text):
            other = [letter for letter in word if not letter.isascii()]
            usual = sum(_is_usual(letter, name) for letter in other)
            mixed = len({_alphabet(letter) for letter in word if letter.isalpha()}) > 1
            odd = any(b.isupper() and a.islower() for a, b in pairwise(word))
            bare = name in _LATINS and len(word) > 2 and len(other) > 0.7 * len(word)  # theirs stand among ASCII
            letters += len(other)
            points += usual - len(other) * (mixed or odd or bare)
    return points / max(letters, 1)


def _alphabet(letter: str) -> str:
    kind = unicodedata.name(letter, "?").split()[0]
    return "CJK" if kind in {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"} else kind


def _is_usual(letter: str, name: str) -> float:
    if name not in _WIDE:
        usual = _USUAL[name][0]  # where one reads capitals for another's small letters, it is the other
        return 1.0 if letter in usual else 0.9 if letter.lower() in usual else 0.0
    if not unicodedata.name(letter, "?").startswith(_WIDE[name]):
        return 0.0
    if name in _COMMON:  # both Chinese sets have their common signs first; rare ones show that it is not one
        low, high = _COMMON[name]
        return float(low <= letter.encode(name)[0] < high)
    return 1.0 if len(_WIDE[name]) == 1 else 0.8 if "CJK" in unicodedata.name(letter) else 1.5  # Japanese has kana
