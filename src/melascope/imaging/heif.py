"""What decoding a HEIF file's picture takes, added up before a decoder sees the file.

A picture may be put together from others, those from others again, and each may have a mask of transparency that
is such a picture too: libheif follows all that blindly, and a few KiB keep it busy for hours. Here the same paths
are followed without decoding (ISO/IEC 14496-12, 8.11, and 23008-12). Of what a file says twice, the larger counts.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator

from melascope.errors import UnsupportedImageError
from melascope.imaging.headers import SAVE_AS, absurd, damaged

_MAX_PARTS = 65_536  #: boxes in one box, properties of all items, references between all items
_MAX_TILES = 1_024  #: of a grid; a 50-megapixel photograph has 192
_MAX_DECODES = 4_096  #: of items for one picture
_SPARE_PX = 1 << 22  #: that may be decoded beyond four times the picture, for grids that their tiles overhang

_PICTURES = {b"hvc1", b"grid", b"iden"}  #: kinds of items; no camera writes overlays (iovl)
_ALPHA = {
    b"urn:mpeg:avc:2015:auxid:1",
    b"urn:mpeg:hevc:2015:auxid:1",
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
}


def coded_size_px(data: bytes) -> tuple[int, int]:
    """Width and height of the primary picture as it is coded: before it is cropped or turned.

    Raises
    ------
    TruncatedImageError
        The boxes that describe the items are missing, contradict each other or break off.
    UnsupportedImageError
        The picture is put together from parts that are not HEVC pictures, or from far more than its size calls for.
    ImageTooLargeError
        There are absurdly many boxes.
    """
    try:
        return _coded_size_px(memoryview(data))
    except struct.error as fault:
        raise damaged("the description of the HEIF file's items breaks off.") from fault


def _coded_size_px(data: memoryview) -> tuple[int, int]:
    file = _by_kind(data, may_end_early=True)  # cut pictures are the decoder's, and anything may follow them
    meta = _by_kind(_only(file, b"meta")[4:])
    kinds = _kinds(_only(meta, b"iinf"))
    sizes, alphas = _properties(_by_kind(_only(meta, b"iprp")))
    inputs, auxiliaries = _references(_only(meta, b"iref") if b"iref" in meta else memoryview(bytes(4)))
    masks = {item: [one for one in found if one in alphas] for item, found in auxiliaries.items()}
    pitm = _only(meta, b"pitm")
    primary = _number(pitm, 4, wide=_version(pitm) > 0)

    todo, n_decodes, px = [(primary, False)], 0, 0
    while todo:
        item, is_input = todo.pop()
        if (kind := kinds.get(item, b"absent")) not in _PICTURES:
            raise UnsupportedImageError(
                f"its picture is made from an item of the kind {ascii(kind)[1:]}, which is not read.",
                remedy=SAVE_AS,
            )
        if item not in sizes:
            raise damaged("a picture in the HEIF file has no size.")
        parts = inputs.get(item, [])
        if parts and is_input:
            raise UnsupportedImageError(
                "its picture is put together from pictures that are put together themselves.", remedy=SAVE_AS
            )
        todo += [(part, True) for part in parts]
        todo += [(mask, False) for mask in masks.get(item, [])]
        n_decodes += 1
        px += 0 if parts else sizes[item][0] * sizes[item][1]
        if (
            len(parts) > _MAX_TILES
            or n_decodes + len(todo) > _MAX_DECODES
            or px > 4 * sizes[primary][0] * sizes[primary][1] + _SPARE_PX
        ):
            raise UnsupportedImageError(
                "its picture is put together from more parts than its size calls for.", remedy=SAVE_AS
            )
    return sizes[primary]


# --- boxes --------------------------------------------------------------------------------------------------


def _boxes(content: memoryview, *, may_end_early: bool = False) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each box; the last one may be longer than what is there where that `may_end_early`."""
    position = 0
    for _ in range(_MAX_PARTS):
        if position + 8 > len(content):
            return
        length, kind = struct.unpack_from(">I4s", content, position)
        head_bytes = 8
        if length == 0:  # up to the end
            length = len(content) - position
        elif length == 1:
            head_bytes, length = 16, struct.unpack_from(">Q", content, position + 8)[0]
        if may_end_early:
            length = min(length, len(content) - position)
        if not head_bytes <= length <= len(content) - position:
            raise damaged("the HEIF file ends early, or the length of a box in it is wrong.")
        yield kind, content[position + head_bytes : position + length]
        position += length
    raise absurd(f"the HEIF file has over {_MAX_PARTS} boxes.")


def _by_kind(content: memoryview, *, may_end_early: bool = False) -> dict[bytes, list[memoryview]]:
    found = defaultdict(list)
    for kind, inside in _boxes(content, may_end_early=may_end_early):
        found[kind].append(inside)
    return found


def _only(boxes: dict[bytes, list[memoryview]], kind: bytes) -> memoryview:
    """The content of the one box of a kind: of several, nobody can tell which a decoder takes."""
    if len(found := boxes.get(kind, [])) != 1:
        raise damaged(f"the HEIF file has {len(found)} boxes {ascii(kind)[1:]} where there has to be one.")
    return found[0]


def _version(content: memoryview) -> int:
    return int(struct.unpack_from("B", content)[0])


def _number(content: memoryview, position: int, *, wide: bool) -> int:
    return int(struct.unpack_from(">I" if wide else ">H", content, position)[0])


def _kinds(iinf: memoryview) -> dict[int, bytes]:
    """Kind of each item."""
    kinds: dict[int, bytes] = {}
    for kind, infe in _boxes(iinf[8 if _version(iinf) else 6 :]):
        if kind == b"infe" and _version(infe) > 1:
            wide = _version(infe) > 2
            item = _number(infe, 4, wide=wide)
            if item in kinds:
                raise damaged(f"the HEIF file describes its item {item} twice.")
            kinds[item] = bytes(infe[10:14] if wide else infe[8:12])
    return kinds


def _references(iref: memoryview) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The inputs of each item that is put together, and the auxiliary pictures of each item."""
    inputs: dict[int, list[int]] = defaultdict(list)
    auxiliaries: dict[int, list[int]] = defaultdict(list)
    wide, n_references = _version(iref) > 0, 0
    id_bytes, code = (4, "I") if wide else (2, "H")
    for kind, content in _boxes(iref[4:]):
        source, count = _number(content, 0, wide=wide), _number(content, id_bytes, wide=False)
        n_references += count
        if n_references > _MAX_PARTS:
            raise absurd(f"the HEIF file has over {_MAX_PARTS} references.")
        targets = struct.unpack_from(f">{count}{code}", content, id_bytes + 2)
        if kind == b"dimg":
            inputs[source] += targets
        elif kind == b"auxl":
            for target in targets:
                auxiliaries[target].append(source)
    return inputs, auxiliaries


def _properties(iprp: dict[bytes, list[memoryview]]) -> tuple[dict[int, tuple[int, int]], set[int]]:
    """Width and height of each item that states them, and the items that are masks of transparency."""
    sizes: dict[int, tuple[int, int]] = {}
    alphas = set()
    known = [(b"", memoryview(b"")), *_boxes(_only(iprp, b"ipco"))]  # they count from 1
    for ipma in iprp.get(b"ipma", []):
        for item, index in _associations(ipma):
            kind, content = known[index] if index < len(known) else known[0]
            if kind == b"ispe":
                size_px: tuple[int, int] = struct.unpack_from(">II", content, 4)
                sizes[item] = max(size_px, sizes.get(item, (0, 0)), key=lambda size: size[0] * size[1])
            elif kind == b"auxC" and bytes(content[4:64]).split(b"\0")[0] in _ALPHA:
                alphas.add(item)
    return sizes, alphas


def _associations(ipma: memoryview) -> Iterator[tuple[int, int]]:
    """Each item with the index of each of its properties."""
    version, flags = struct.unpack_from(">BxxB", ipma)
    id_bytes = 4 if version else 2
    index_code, essential = (">H", 0x8000) if flags & 1 else (">B", 0x80)  # the highest bit is no part of it
    position, n_left = 8, _MAX_PARTS
    for _ in range(_number(ipma, 4, wide=True)):
        item = _number(ipma, position, wide=version > 0)
        count = int(struct.unpack_from("B", ipma, position + id_bytes)[0])
        position += id_bytes + 1
        n_left -= count + 1
        if n_left < 0:
            raise absurd(f"the HEIF file has over {_MAX_PARTS} properties.")
        for _ in range(count):
            index = struct.unpack_from(index_code, ipma, position)[0]
            yield item, index & essential - 1
            position += struct.calcsize(index_code)
