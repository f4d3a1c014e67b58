"""Odd images as people have them: read as a viewer shows them, or refused with the file's name; nothing in between."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ppcore.errors import UserError
from ppcore.images import decode
from ppcore.targets import load_target, stack

SIDE = 16
RED, BLUE, WHITE = (230, 30, 20), (20, 40, 220), (255, 255, 255)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode="RGB", left=RED, right=BLUE):
    """Left one colour, right another: turned or mirrored, it is seen."""
    image = Image.new("RGB", (SIDE, SIDE), left)
    image.paste(right, (SIDE // 2, 0, SIDE, SIDE))
    return image.convert(mode)


def deep(dtype=np.uint16):
    """Grey 0.25 on the left, 0.75 on the right, of the type's range."""
    top = np.iinfo(np.uint16).max
    row = np.repeat([top // 4, 3 * top // 4], SIDE // 2)
    return np.tile(row, (SIDE, 1)).astype(dtype)


def rgb16_png():
    """16 bits a channel and in colour, which Pillow reads and does not write."""
    rows = b"".join(
        b"\0"
        + b"".join(
            struct.pack(">3H", *(257 * c for c in (RED if x < SIDE // 2 else BLUE))) for x in range(SIDE)
        )
        for _ in range(SIDE)
    )
    return png_of(rows, struct.pack(">2I5B", SIDE, SIDE, 16, 2, 0, 0, 0))


def interlaced_png():
    """Adam7: seven passes over the pixels of a grey image, left 60, right 190."""
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = b""
    for x0, y0, dx, dy in passes:
        for _ in range(y0, SIDE, dy):
            rows += b"\0" + bytes(60 if x < SIDE // 2 else 190 for x in range(x0, SIDE, dx))
    return png_of(rows, struct.pack(">2I5B", SIDE, SIDE, 8, 0, 0, 0, 1))


def png_of(rows, head):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def turned(orientation):
    """The picture as a camera stores it, with the tag that says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    inverse = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    return halves().transpose(inverse[orientation]), exif


def transparent(mode):
    image = halves("RGBA")
    image.paste((0, 0, 0, 0), (SIDE // 2, 0, SIDE, SIDE))
    return image.convert(mode)


def stray_bytes(data):
    """Bytes between two segments, as broken editors and uploads leave them."""
    return data[:-2] + b"\x01\x02\x03" + data[-2:]


def sequence(kind):
    frames = [halves(), halves("RGB", BLUE, RED)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


GREY_RED = 88  # of RED in ITU-R 601 luma
READ = {
    "CMYK JPEG": (encode(halves("CMYK"), "JPEG", quality=95), RED, BLUE),
    "CMYK TIFF": (encode(halves("CMYK"), "TIFF"), RED, BLUE),
    "progressive JPEG": (encode(halves(), "JPEG", progressive=True, quality=95), RED, BLUE),
    "grey JPEG": (encode(halves("L", (60,) * 3, (190,) * 3), "JPEG", quality=95), (60,), (190,)),
    "JPEG with stray bytes": (stray_bytes(encode(halves(), "JPEG", quality=95)), RED, BLUE),
    "JPEG upside down": (encode(turned(3)[0], "JPEG", exif=turned(3)[1], quality=95), RED, BLUE),
    "JPEG on its side": (encode(turned(6)[0], "JPEG", exif=turned(6)[1], quality=95), RED, BLUE),
    "JPEG mirrored on its side": (encode(turned(7)[0], "JPEG", exif=turned(7)[1], quality=95), RED, BLUE),
    "PNG on its side": (encode(turned(6)[0], "PNG", exif=turned(6)[1]), RED, BLUE),
    "TIFF on its side": (encode(turned(6)[0], "TIFF", exif=turned(6)[1]), RED, BLUE),
    "16-bit grey PNG": (encode(Image.fromarray(deep()), "PNG"), (63,), (191,)),
    "16-bit grey TIFF": (encode(Image.fromarray(deep()), "TIFF"), (63,), (191,)),
    "16-bit PGM": (b"P5 16 16 65535\n" + deep(">u2").tobytes(), (63,), (191,)),
    "16-bit colour PNG": (rgb16_png(), RED, BLUE),
    "1 bit": (encode(halves("1", (0,) * 3, WHITE), "PNG"), (0,), (255,)),
    "palette PNG": (encode(halves().quantize(4), "PNG"), RED, BLUE),
    "palette GIF": (encode(halves().quantize(4), "GIF"), RED, BLUE),
    "palette with a transparent entry": (
        encode(halves("RGB", RED, (0, 0, 0)).quantize(2, dither=0), "PNG", transparency=0),
        None,
        None,
    ),
    "alpha PNG": (encode(transparent("RGBA"), "PNG"), RED, WHITE),
    "alpha WebP": (encode(transparent("RGBA"), "WEBP", lossless=True), RED, WHITE),
    "grey with alpha": (encode(transparent("LA"), "PNG"), (GREY_RED,), (255,)),
    "animated GIF": (sequence("GIF"), RED, BLUE),
    "animated WebP": (sequence("WEBP"), RED, BLUE),
    "animated PNG": (sequence("PNG"), RED, BLUE),
    "interlaced PNG": (interlaced_png(), (60,), (190,)),
    "BMP": (encode(halves(), "BMP"), RED, BLUE),
}

PHOTO = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
BOMB = png_of(b"", struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0))
WIDE = png_of(b"", struct.pack(">2I5B", 12_000, 12_000, 8, 2, 0, 0, 0))
REFUSED = {
    "zero bytes": (b"", "empty"),
    "text": (b"<html>404 not found</html>", "not an image of a known format"),
    "truncated JPEG": (encode(Image.fromarray(PHOTO), "JPEG")[:1500], "Premature end"),
    "truncated PNG": (encode(Image.fromarray(PHOTO), "PNG")[:1500], "truncated"),
    "truncated WebP": (encode(Image.fromarray(PHOTO), "WEBP")[:800], "not a readable image"),
    "truncated GIF": (encode(Image.fromarray(PHOTO).quantize(200), "GIF")[:1500], "truncated"),
    "header alone": (b"\xff\xd8\xff\xe0", "."),
    "decompression bomb": (BOMB, "60000x60000|decompression bomb"),
    "too many pixels": (WIDE, "12000x12000"),
    "32-bit integers": (encode(Image.fromarray(deep(np.int32)), "TIFF"), "which value is white"),
    "floats": (encode(Image.fromarray(deep(np.float32)), "TIFF"), "which value is white"),
    "one pixel": (encode(Image.new("L", (1, 1)), "PNG"), "only 1x1"),
}


def folder_with(tmp_path, data, name="odd.png"):
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "fine.png").write_bytes(encode(halves(), "PNG"))
    (tmp_path / "ant" / name).write_bytes(data)
    return load_target(str(tmp_path))


def by_name(target, name):
    for images in (target.train, target.test):
        if name in images.ids:
            return images.image(images.ids.index(name))
    raise AssertionError(target.train.ids)


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("name", ["odd.png", "odd.JPG"])
def test_read_right_whatever_its_name(kind, name, tmp_path):
    data, left, right = READ[kind]
    image = by_name(folder_with(tmp_path, data, name), f"ant/{name}")
    assert image.dtype == np.uint8
    if left is None:
        left, right = (RED, WHITE) if (image[0, 0] == RED).all() else (WHITE, (0, 0, 0))
    assert image.shape == (SIDE, SIDE, len(left))
    for x, colour in ((2, left), (SIDE - 3, right)):
        assert np.abs(image[2, x].astype(int) - colour).max() <= 4
        assert np.abs(image[-3, x].astype(int) - colour).max() <= 4
    for channels in (1, 3):
        assert decode(data, channels=channels).shape == (SIDE, SIDE, channels)


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_files_name(kind, tmp_path):
    data, reason = REFUSED[kind]
    target = folder_with(tmp_path, data)
    with pytest.raises(UserError, match=reason) as caught:
        stack(target.train, 8, 3)
    assert str(tmp_path / "ant" / "odd.png") in str(caught.value)
    assert "object at 0x" not in str(caught.value)


def test_a_jpeg_of_many_pixels_is_refused_unread():
    """The header of a real JPEG, its size raised: the fast path has the same bound as Pillow."""
    data = bytearray(encode(halves(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">2H", 12_000, 12_000)
    with pytest.raises(ValueError, match="12000x12000"):
        decode(bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_damage_of_any_kind_is_a_value_error(kind):
    whole = encode(Image.fromarray(PHOTO[:24, :24]), kind)
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(120):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 400), 3):
            data[at] = rng.integers(256)
        try:
            assert decode(bytes(data)).dtype == np.uint8
        except ValueError:
            refused += 1
    assert refused > 0


def test_what_is_no_image_is_skipped_and_counted(tmp_path):
    for name in ("ant/a.png", "ant/b.png", "bee/a.png", "bee/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(halves(), "PNG"))
    for name in ("ant/notes.txt", "bee/photo.heic", "bee/other.heic", "ant/._a.png"):
        (tmp_path / name).write_bytes(b"x")
    target = load_target(str(tmp_path))
    assert len(target.train) + len(target.test) == 4
    assert "other files are not used: 2 .heic, 1 .txt (ant/notes.txt)" in target.notes
