"""Files that should break nothing: mutated from sound ones, and made by hand. All follows from a seed."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import heif_writer
import numpy as np
from drawn import encode, lesion
from PIL import Image

MAGIC = {
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00",
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR",
    "tif": b"II*\x00\x08\x00\x00\x00",
    "bmp": b"BM\x36\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00",
    "webp": b"RIFF\xff\xff\x00\x00WEBPVP8 ",
    "heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic\x00\x00\x01\x00meta",
}


def originals(real_images: list[Path]) -> dict[str, bytes]:
    """Sound files of every kind that is read, by name; drawn, and as many real ones as are given."""
    rgb = Image.fromarray(lesion(120, 90))
    exif = Image.Exif()
    exif[0x0112] = 6
    second = Image.fromarray(lesion(120, 90, seed=1))
    sixteen = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    sound = {
        "baseline.jpg": encode(rgb, "JPEG", exif=exif.tobytes()),
        "progressive.jpg": encode(rgb, "JPEG", progressive=True),
        "restarts.jpg": encode(rgb, "JPEG", restart_marker_rows=1),
        "cmyk.jpg": encode(rgb.convert("CMYK"), "JPEG"),
        "gray.jpg": encode(rgb.convert("L"), "JPEG"),
        "multi_picture.jpg": encode(rgb, "MPO", save_all=True, append_images=[second]),
        "rgb.png": encode(rgb, "PNG"),
        "palette.png": encode(rgb.quantize(16), "PNG", transparency=bytes(range(16))),
        "sixteen_bits.png": encode(sixteen, "PNG", exif=exif.tobytes()),
        "animated.png": encode(rgb, "PNG", save_all=True, append_images=[second]),
        "raw.tif": encode(rgb, "TIFF"),
        "lzw.tif": encode(rgb, "TIFF", compression="tiff_lzw"),
        "deflate.tif": encode(rgb.convert("RGBA"), "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": encode(rgb, "TIFF", compression="jpeg"),
        "big.tif": encode(sixteen, "TIFF", big_tiff=True),
        "fax.tif": encode(rgb.convert("1"), "TIFF", compression="group4"),
        "pages.tif": encode(rgb, "TIFF", save_all=True, append_images=[second]),
        "rgb.bmp": encode(rgb, "BMP"),
        "palette.bmp": encode(rgb.quantize(16), "BMP"),
        "lossy.webp": encode(rgb, "WEBP", exif=exif.tobytes()),
        "lossless.webp": encode(rgb.convert("RGBA"), "WEBP", lossless=True),
        "animated.webp": encode(rgb, "WEBP", save_all=True, append_images=[second]),
        "photo.heic": heif_writer.heic(orientation=6, exif=exif.tobytes()),
        "grid.heic": heif_writer.heic(grid=(96, 64)),
    }
    return sound | {f"real_{n}{path.suffix}": path.read_bytes() for n, path in enumerate(real_images)}


def mutated(sound: dict[str, bytes], count: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged files in turn from all the sound ones, with a name that tells what was done."""
    rng = random.Random(seed)
    names = sorted(sound)
    for number in range(count):
        name = names[number % len(names)]
        data, how = bytearray(sound[name]), rng.choice(sorted(_DAMAGES))
        _DAMAGES[how](data, rng)
        yield f"{number:05d}_{how}_{name}", bytes(data)


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _cut_header(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(min(200, len(data))) :]


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 4, 32))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _edit_header(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 4))):
        at, width = rng.randrange(4, min(400, len(data) - 8)), rng.choice((1, 2, 4))
        data[at : at + width] = rng.choice((b"\xff", b"\0", b"\x7f", b"\x80", b"\1")) * width


def _edit_length(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(4, len(data) - 4)
    data[at : at + 4] = struct.pack(
        rng.choice("<>") + "I", rng.choice((0, 1, 1 << 16, 1 << 31, (1 << 32) - 1))
    )


def _blank(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((16, 256, 4096)))
    data[start:end] = bytes([rng.choice((0, 255))]) * (end - start)


def _swap(data: bytearray, rng: random.Random) -> None:
    length = max(1, len(data) // rng.choice((3, 10, 40)))
    first = rng.randrange(max(1, len(data) - 2 * length))
    second = rng.randrange(first + length, max(first + length + 1, len(data) - length))
    one, two = bytes(data[first : first + length]), bytes(data[second : second + length])
    data[second : second + length] = one
    data[first : first + length] = two


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 7, 64, 1000)))


def _repair_png(data: bytearray, rng: random.Random) -> None:
    """Flip bytes of a PNG and mend its checksums, so that the damage gets through to the decoder."""
    _edit_header(data, rng)
    position = 8
    while data.startswith(b"\x89PNG") and position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4


_DAMAGES = {
    "cut": _cut,
    "cut_header": _cut_header,
    "flip": _flip,
    "edit_header": _edit_header,
    "edit_length": _edit_length,
    "blank": _blank,
    "swap": _swap,
    "insert": _insert,
    "mended": _repair_png,
}


# --- by hand ------------------------------------------------------------------------------------------------


def png_file(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of the given chunks, each with a right length and checksum."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def png_header(width_px: int, height_px: int, *, depth: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    """The IHDR chunk."""
    return b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, depth, colour, 0, 0, 0)


def run_length_bmp(width_px: int, height_px: int, codes: bytes) -> bytes:
    """A BMP of 8 bits a pixel with BI_RLE8 codes."""
    palette = bytes(range(256)) * 4
    offset = 54 + len(palette)
    head = b"BM" + struct.pack("<IHHI", offset + len(codes), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width_px, height_px, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return head + info + palette + codes


def tiff_file(
    *tags: tuple[int, int, int, int], tail: bytes = b"", big: bool = False, next_directory: int = 0
) -> bytes:
    """A TIFF of one directory at its start: (tag, type, count, value or offset), and bytes behind it."""
    if big:
        entries = b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
        return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) + entries + bytes(8) + tail
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_directory)
    return b"II*\0" + struct.pack("<I", 8) + directory + tail


def _tiff_tags(width_px: int, height_px: int, **changes: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    tags = {256: (4, width_px), 257: (4, height_px), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 300),
            277: (3, 1), 278: (4, height_px), 279: (4, width_px * height_px)}  # fmt: skip
    tags |= {int(tag.removeprefix("t")): value for tag, value in changes.items()}
    return [(tag, kind, 1, value) for tag, (kind, value) in tags.items()]


def bombs() -> dict[str, bytes]:
    """Small files that declare, or unpack to, something huge."""
    return _png_bombs() | _jpeg_bombs(encode(lesion(), "JPEG")) | _tiff_bombs() | _other_bombs()


def _png_bombs() -> dict[str, bytes]:
    idat, iend = (b"IDAT", zlib.compress(bytes(200))), (b"IEND", b"")
    zeros = zlib.compress(bytes(200 << 20), 9)
    return {
        "wide.png": png_file(png_header(50_000, 50_000), idat, iend),
        "widest.png": png_file(png_header((1 << 31) - 1, (1 << 31) - 1), idat, iend),
        "wide_one_bit.png": png_file(png_header(50_000, 50_000, depth=1, colour=0), (b"IDAT", zeros), iend),
        "text.png": png_file(png_header(60, 60), (b"zTXt", b"a\0\0" + zeros), idat, iend),
        "international_text.png": png_file(png_header(60, 60), (b"iTXt", b"a\0\1\0\0\0" + zeros), idat, iend),
        "profile.png": png_file(png_header(60, 60), (b"iCCP", b"a\0\0" + zeros), idat, iend),
        "pixels.png": png_file(png_header(60, 60), (b"IDAT", zeros), iend),
        "chunks.png": png_file(
            png_header(60, 60), *[(b"tEXt", b"%d\0" % n) for n in range(300_000)], idat, iend
        ),
    }


def _jpeg_bombs(jpeg: bytes) -> dict[str, bytes]:
    size_at = jpeg.find(b"\xff\xc0") + 5
    scan = jpeg.find(b"\xff\xda")
    progressive = encode(lesion(), "JPEG", progressive=True)
    last = progressive.rfind(b"\xff\xda")
    rationals = 60_000
    exif = tiff_file((282, 5, 16 * rationals // 8, 26)) + bytes(40)
    segment = b"\xff\xe1" + struct.pack(">H", rationals + 8) + b"Exif\0\0"
    return {
        "wide.jpg": jpeg[:size_at] + b"\xff\xf0\xff\xf0" + jpeg[size_at + 4 :],
        "segments.jpg": jpeg[:2] + b"\xff\xfe\0\2" * 2_000_000 + jpeg[2:],
        "junk.jpg": jpeg[:2] + bytes(8 << 20) + jpeg[2:],
        "fill.jpg": jpeg[:2] + b"\xff" * (8 << 20) + jpeg[2:],
        "scans.jpg": progressive[:-2] + progressive[last:-2] * 5_000 + b"\xff\xd9",
        "hidden_scans.jpg": progressive[:-2] + b"\xff\xfe\0\4\xff\xd9" + progressive[last:-2] * 5_000 + b"\xff\xd9",
        "exif.jpg": jpeg[:2] + segment + exif + bytes(rationals - len(exif))
        + (segment + bytes(rationals)) * 100 + jpeg[2:scan] + jpeg[scan:],
    }  # fmt: skip


def _tiff_bombs() -> dict[str, bytes]:
    pixels = bytes(300)
    million = 1_000_000
    untiled = [tag for tag in _tiff_tags(40, 40, t259=(3, 5)) if tag[0] not in (273, 278, 279)]
    tiles = [(322, 4, 1, 40_000), (323, 4, 1, 40_000), (324, 4, 1, 200), (325, 4, 1, 90)]
    return {
        "wide.tif": tiff_file(*_tiff_tags(60_000, 60_000), tail=pixels),
        "values.tif": tiff_file(*_tiff_tags(40, 40), (282, 5, million, 140), tail=bytes(8 * million + 99)),
        "strips.tif": tiff_file(
            *[tag for tag in _tiff_tags(40, 40) if tag[0] != 273],
            (273, 4, 4 * million, 140),
            tail=bytes(16 * million + 99),
        ),
        "tags.tif": tiff_file(*[(n % 65_536, 4, 1, n) for n in range(300_000)], tail=pixels, big=True),
        "tiles.tif": tiff_file(*untiled, *tiles, tail=pixels),
        "circle.tif": tiff_file(*_tiff_tags(40, 40), tail=bytes(2000), next_directory=8),
        "far.tif": tiff_file(*_tiff_tags(40, 40), tail=bytes(2000), next_directory=(1 << 32) - 2),
    }


def _other_bombs() -> dict[str, bytes]:
    webp = bytearray(encode(Image.fromarray(lesion()).convert("RGBA"), "WEBP", exif=b"Exif\0\0II*\0"))
    webp[24:30] = b"\xff" * 6  # the canvas of VP8X
    bmp = bytearray(encode(lesion(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    return {
        "wide.webp": bytes(webp),
        "wide.bmp": bytes(bmp),
        "lines.bmp": run_length_bmp(7_000, 7_000, b"\1\7\0\0" * 7_000),
        "wide.heic": heif_writer.heic(declared_px=(16_000, 16_000)),
        "within.heic": heif_writer.heic(declared_px=(7_000, 7_000)),
        "grid.heic": heif_writer.heic(grid=(60_000, 60_000), declared_px=(96, 64)),
        "overlays.heic": _overlays(10, 4),
        "metadata.heic": heif_writer.heic(xmp=zlib.compress(bytes(200 << 20), 9), xmp_encoding=b"deflate"),
    }


def _overlays(width: int, depth: int) -> bytes:
    """A HEIC file in which each overlay takes all overlays of the level below: width to the power of depth decodes."""
    items = [(number, b"hvc1", heif_writer.CODED) for number in range(1, width + 1)]
    content = struct.pack(">2x4H2H", 0, 0, 0, 65535, heif_writer.WIDTH_PX, heif_writer.HEIGHT_PX) + bytes(
        4 * width
    )
    references = []
    for level in range(depth):
        below = range(level * width + 1, (level + 1) * width + 1)
        for number in range(below.stop, below.stop + (width if level + 1 < depth else 1)):
            items.append((number, b"iovl", content))
            references.append((b"dimg", number, below))
    size = struct.pack(">II", heif_writer.WIDTH_PX, heif_writer.HEIGHT_PX)
    properties = [heif_writer.box(b"hvcC", heif_writer.HVCC), heif_writer.full_box(b"ispe", size)]
    links = {number: [1, 2] for number, _, _ in items}
    return heif_writer.heif_file(items, references, properties, links, primary=items[-1][0])


def by_hand(*, seed: int) -> dict[str, bytes]:
    """What people and attackers name like a photograph."""
    rng = random.Random(seed)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("scan.jpg", encode(lesion(), "JPEG"))
    files = {
        "empty.jpg": b"",
        "one_byte.jpg": b"\xff",
        "only_magic.jpg": b"\xff\xd8\xff",
        "start_and_end.jpg": b"\xff\xd8\xff\xd9",
        "text.jpg": b"Lesion on the left forearm, 6 mm.\n",
        "page.jpg": b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
        "picture.jpg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "archive.jpg": archive.getvalue(),
        "document.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "dicom.jpg": bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00",
        "animated.gif": encode(lesion(), "GIF"),
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n",
        "zeros.jpg": bytes(10_000),
        "letters.bmp": b"BMW is a car maker. " * 40,
        "no_directory.tif": b"II*\0" + b"\xff" * 4,
        "own_directory.tif": b"II*\0\0\0\0\0",
        "jpeg_in_png.png": MAGIC["png"][:8] + encode(lesion(), "JPEG"),
    }
    for suffix, magic in MAGIC.items():
        for number in range(4):
            files[f"random_{number}.{suffix}"] = magic + rng.randbytes(rng.choice((10, 300, 20_000)))
    return files


def write_all(folder: Path, *, count: int, seed: int, real_images: list[Path]) -> None:
    """Fill an empty folder with `count` mutated files, the ones made by hand, the bombs, and odd entries."""
    files = dict(mutated(originals(real_images), count, seed=seed))
    files |= {f"hand_{name}": data for name, data in by_hand(seed=seed).items()}
    files |= {f"bomb_{name}": data for name, data in bombs().items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "odd_folder.jpg").mkdir()
    (folder / "odd_loop.jpg").symlink_to("odd_loop.jpg")
    (folder / "odd_dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "odd_pipe.jpg")
    (folder / "odd_\x1b[31m\nname.jpg").write_bytes(b"")
    secret = folder / "odd_secret.jpg"
    secret.write_bytes(b"not an image even for root, whom no permission stops")
    secret.chmod(0)
