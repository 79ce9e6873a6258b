"""The font of the reports: DejaVu Sans, for every language that is written in Latin, Greek or Cyrillic letters.

A PDF's own standard fonts know Western European letters only, and files are named in all the world's. The two files
in `fonts/` (their licence lies beside them) are those of DejaVu 2.35, cut down with fontTools to what a report may
hold, and for want of room to no more:

    pyftsubset DejaVuSans.ttf --output-file=fonts/DejaVuSans.ttf --no-hinting --notdef-outline --layout-features= \
        --drop-tables+=GPOS,GSUB,GDEF,MATH,kern,gasp,FFTM --unicodes=20-7E,A0-24F,300-36F,370-3FF,400-52F,1E00-1FFF,\
        2010-2027,202F-2044,20AC,2116,2122,2190-2195,2212,2248,2260,2264,2265,FFFD

and the same with `DejaVuSans-Bold.ttf`.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib import resources

from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont

from melascope.web.messages import ISOLATES

REGULAR, BOLD = "DejaVuSans", "DejaVuSans-Bold"


@cache
def register() -> frozenset[int]:
    """Make both faces known to reportlab, once; the code points that both can write."""
    folder = resources.files("melascope.web") / "fonts"
    known = []
    for name in (REGULAR, BOLD):
        with (folder / f"{name}.ttf").open("rb") as file:
            font = TTFont(name, file)
        registerFont(font)
        known.append(frozenset(font.face.charToGlyph))
    return frozenset.intersection(*known)


def writable(text: str) -> str:
    """The text with a replacement character in the place of each that the font lacks, such as Chinese or Arabic.

    >>> writable("Лезия Złośliwa 痣.jpg")
    'Лезия Złośliwa �.jpg'
    """
    known = register()
    composed = unicodedata.normalize("NFC", text.translate(ISOLATES))  # some systems split an ä in two
    return "".join(letter if ord(letter) in known else "\N{REPLACEMENT CHARACTER}" for letter in composed)
