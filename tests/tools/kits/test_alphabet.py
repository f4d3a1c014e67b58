"""The rendered alphabet: its characters, and fonts that lack a character."""

from PIL import ImageFont

from tools.kits import alphabet


def test_88_characters_have_88_names():
    assert len({alphabet.name_of(c) for c in alphabet.CHARACTERS}) == len(alphabet.CHARACTERS) == 88


def test_fonts_without_a_character_are_left_out():
    face = ImageFont.load_default(96)
    assert isinstance(face, ImageFont.FreeTypeFont)
    assert len(alphabet.drawn([face], "A")) == 1
    assert alphabet.drawn([face], "ა") == []
