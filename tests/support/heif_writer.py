"""Write small HEIC files around one ready-made HEVC picture: no free Python library here encodes HEIC.

The boxes are those of ISO/IEC 14496-12 and 23008-12. The picture is `drawn.quarters(96, 64)`, coded once with
x265.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence

WIDTH_PX, HEIGHT_PX = 96, 64
HVCC = base64.b64decode(
    "AQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0ABDAH//wQIAAADAJ44AAADAAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAGECCy"
    "3UklNc3AQ0GBAAADABkAAAMAAQhiAAEACEQBwXKGDAIk"
)
CODED = base64.b64decode(
    "AAAAoigBrwng40ecuq///jSf//39B5D9/DqkglJ59oiSdhJ//wwauoo+9vWmoYZg4WNemQOkMiMA4fM0vx+/+/odk02f+IL3+NGJ/JAh"
    "VYj9gD357Yg/sP2kbugNCgOWDCdx+s0BZk4C1+FvGrLZG/A9aoliO/0b4oLetwzYyinoOgxCexKdQfy6M3Ka/KhmRfCWfsObHAo4j0nd"
    "/F/X/lWe7yga8A=="
)

#: EXIF orientation -> the HEIF properties that do the same, in this order (irot: quarter turns anticlockwise;
#: imir: 0 turns the picture upside down, 1 mirrors left and right).
TRANSFORMS: dict[int, tuple[bytes, ...]] = {
    1: (),
    2: (b"imir\1",),
    3: (b"irot\2",),
    4: (b"imir\0",),
    5: (b"irot\1", b"imir\0"),
    6: (b"irot\3",),
    7: (b"irot\3", b"imir\0"),
    8: (b"irot\1",),
}


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box: its length, its four-letter kind, its content."""
    content = b"".join(parts)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def heic(
    *,
    brand: bytes = b"heic",
    declared_px: tuple[int, int] = (WIDTH_PX, HEIGHT_PX),
    hvcc: bytes = HVCC,
    coded: bytes = CODED,
    orientation: int = 1,
    exif: bytes | None = None,
    icc: bytes | None = None,
    nclx: tuple[int, int, int] | None = (1, 13, 6),
    pictures: int = 1,
    primary: int = 1,
    grid: tuple[int, int] | None = None,
    xmp: bytes | None = None,
    xmp_encoding: bytes = b"",
) -> bytes:
    """A HEIC file.

    Parameters
    ----------
    declared_px
        (width, height) that the `ispe` property claims.
    orientation
        The EXIF orientation value whose effect `irot` and `imir` shall have.
    exif
        TIFF structure of an Exif item.
    nclx
        Colour primaries, transfer characteristics, matrix coefficients (ITU-T H.273); full range.
    pictures
        How many top-level pictures, all of the same data; `primary` counts from 1.
    grid
        (width, height) that a one-tile grid item, then the primary, claims in its own data.
    xmp, xmp_encoding
        Data of an XMP item and its content encoding, "deflate" for instance.
    """
    items = [(number, b"hvc1", coded) for number in range(1, pictures + 1)]
    references = []
    if grid is not None:
        primary = pictures + 1
        items.append((primary, b"grid", b"\0\1\0\0" + struct.pack(">II", *grid)))
        references.append((b"dimg", primary, [1]))
    if exif is not None:
        number = len(items) + 1
        items.append((number, b"Exif", struct.pack(">I", 0) + exif))
        references.append((b"cdsc", number, [primary]))
    if xmp is not None:
        number = len(items) + 1
        items.append((number, b"mime", xmp))
        references.append((b"cdsc", number, [primary]))

    properties = [box(b"hvcC", hvcc), full_box(b"ispe", struct.pack(">II", *declared_px))]
    if nclx is not None:
        properties.append(box(b"colr", b"nclx", struct.pack(">HHHB", *nclx, 0x80)))
    if icc is not None:
        properties.append(box(b"colr", b"prof", icc))
    properties += [box(step[:4], step[4:]) for step in TRANSFORMS[orientation]]
    shown = [number for number, kind, _ in items if kind in (b"hvc1", b"grid")]
    return heif_file(
        items,
        references,
        properties,
        {number: range(1, len(properties) + 1) for number in shown},
        primary=primary,
        brand=brand,
        xmp_encoding=xmp_encoding,
    )


def heif_file(
    items: Sequence[tuple[int, bytes, bytes]],
    references: Sequence[tuple[bytes, int, Sequence[int]]],
    properties: Sequence[bytes],
    links: Mapping[int, Sequence[int]],
    *,
    primary: int,
    brand: bytes = b"heic",
    xmp_encoding: bytes = b"",
    wide: bool = False,
) -> bytes:
    """A HEIF file of any items.

    Parameters
    ----------
    items
        (number, kind, data) of each.
    references
        (kind, from, to) of each.
    properties, links
        Boxes, and which of them each item has, counted from 1.
    wide
        Write the versions of the boxes that have 32 bits for an item's number.
    """
    code, version = ("I", 1) if wide else ("H", 0)
    infos = [
        full_box(
            b"infe",
            struct.pack(f">{code}H4s", number, 0, kind),
            b"\0" + (b"application/rdf+xml\0" + xmp_encoding + b"\0" if kind == b"mime" else b""),
            version=2 + version,
        )
        for number, kind, _ in items
    ]
    iref = [
        box(kind, struct.pack(f">{code}H{len(to)}{code}", source, len(to), *to))
        for kind, source, to in references
    ]
    linked = b"".join(
        struct.pack(f">{code}B{len(which)}{'H' if wide else 'B'}", number, len(which), *which)
        for number, which in links.items()
    )

    def meta(first_offset: int) -> bytes:
        entries, offset = b"", first_offset
        for number, _, content in items:
            entries += struct.pack(f">{code}HHII", number, 0, 1, offset, len(content))
            offset += len(content)
            if wide:  # has a field for the construction method
                entries = entries[:-12] + bytes(2) + entries[-12:]
        return full_box(
            b"meta",
            full_box(b"hdlr", struct.pack(">I4s12x", 0, b"pict"), b"\0"),
            full_box(b"pitm", struct.pack(f">{code}", primary), version=version),
            full_box(
                b"iloc", struct.pack(f">BB{code}", 0x44, 0, len(items)), entries, version=2 if wide else 0
            ),
            full_box(b"iinf", struct.pack(f">{code}", len(infos)), *infos, version=version),
            *([full_box(b"iref", *iref, version=version)] if iref else []),
            box(
                b"iprp",
                box(b"ipco", *properties),
                full_box(
                    b"ipma", struct.pack(">I", len(links)), linked, version=version, flags=1 if wide else 0
                ),
            ),
        )

    ftyp = box(b"ftyp", brand, b"\0\0\0\0", b"mif1", brand)
    offset = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(offset) + box(b"mdat", *(content for _, _, content in items))
