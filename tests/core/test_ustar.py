"""Our headers against tarfile's, and against headers that lie."""

from __future__ import annotations

import tarfile

import pytest

from ppcore.shards.tars import build_header, parse_header

HEADER = build_header("000000001.png", 700)


def with_size(digits: bytes) -> bytes:
    """A header whose size field says this, and whose checksum fits."""
    blank = HEADER[:124] + digits.ljust(12, b"\0") + HEADER[136:148] + b" " * 8 + HEADER[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def test_headers_are_tarfiles() -> None:
    info = tarfile.TarInfo("000000001.png")
    info.size = 700
    assert info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict") == HEADER
    assert parse_header(HEADER) == ("000000001.png", 700)


@pytest.mark.parametrize("digits", [b"-0000001000", b"0x10", b"1_000", b"9", b"+1"])
def test_sizes_that_are_no_octal_number_are_refused(digits: bytes) -> None:
    """A negative one would send a reader backwards for ever."""
    with pytest.raises(ValueError, match="damaged header"):
        parse_header(with_size(digits))


def test_a_wrong_checksum_is_refused() -> None:
    with pytest.raises(ValueError, match="damaged header"):
        parse_header(b"x" + HEADER[1:])
