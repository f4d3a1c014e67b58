"""Free fonts for the letters kit: fetched as Debian packages, unpacked without installing, filtered.

Only `apt-get download` and `dpkg -x` run; nothing is installed and no root rights are needed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ppcore.errors import UserError

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWER = "abdefghijlmnqrty"
"""Lower-case letters with a class of their own; the others look like their capitals and share the capital's class."""
MERGED = "ckopsuvwxz"
CLASS_NAMES: tuple[str, ...] = tuple(UPPER + LOWER)
"""The 42 classes, in the order of the generator's and the classifier's outputs."""

_FAMILIES = """
adf-gillius adf-ikarius adf-libris adf-romande adf-universalis adf-verana atarismall averia-gwf averia-sans-gwf
averia-serif-gwf beteckna breip cabin cantarell cmu comfortaa comic-neue courier-prime crosextra-caladea
crosextra-carlito dancingscript dejavu-core dejavu-extra dkg-handwriting dosis dustin ecolier-court essays1743
fantasque-sans femkeklaver freefont-ttf georgewilliams gotico-antiqua goudybookletter hack havana hermit humor-sans
inconsolata inter johnsmith-induni junction jura karla kaushanscript klaudia-berenika kristi lato league-spartan
leckerli-one liberation2 linuxlibertine lobster lobstertwo monofur mononoki ocr-a ocr-b okolaks open-sans opendin
oxygen play quattrocento radisnoir ricty-diminished rit-sundar roboto-unhinted rufscript sil-andika sil-charis
sil-gentium sil-sophia-nubian smc-manjari sora tlwg-purisa-ttf unikurdweb urw-base35 vollkorn yanone-kaffeesatz
"""
PACKAGES: tuple[str, ...] = tuple(f"fonts-{name}" for name in _FAMILIES.split())
_HANDWRITTEN = """
breip comic-neue dancingscript dkg-handwriting dustin ecolier-court femkeklaver havana humor-sans kaushanscript kristi
leckerli-one rufscript tlwg-purisa-ttf
"""
HANDWRITTEN = frozenset(f"fonts-{name}" for name in _HANDWRITTEN.split())
"""Packages whose fonts look written by hand; drawn more often, because targets of real ink look like them."""
EXCLUDED = frozenset(
    {"standard symbols ps", "d050000l", "wargames", "penguin attack", "flatline", "it wasn't me"}
)
"""Families that pass the filters but draw symbols, dotted grids or pictures in place of legible letters."""

# words of a family name that name a cut of the family, not another design: "Lato Black" belongs to "Lato"
_CUTS = re.compile(
    r"\b(thin|hairline|ultra ?light|extra ?light|light|book|regular|roman|medium|semi ?bold|demi ?(bold)?|bold|extra ?bold|ultra|"
    r"black|heavy|condensed|cond|semi ?condensed|narrow|extended|italic|oblique|slanted|display|caption|alternates?|"
    r"no2|compact|literacy|plus|\d+ ?(pt)?|basic|[ivx]+|angular|old|style)\b",
    re.IGNORECASE,
)
_PHRASES = {
    "OFL-1.1": r"SIL\s+Open\s+Font\s+License",
    "GPL": r"GNU\s+General\s+Public\s+License",
    "public-domain": r"public\s+domain",
    "permissive": r"copy,\s+modify,\s+and\s+distribute",
}
"""Licence -> what its name or grant looks like in free-form copyright files."""
_GLYPH_PIXELS = 48


@dataclass(frozen=True)
class Font:
    """One usable font file.

    Attributes:
        path: the file.
        package: Debian package it came from.
        family: design it belongs to; cuts of one design share it, so that holding out a family holds out its cuts.
    """

    path: Path
    package: str
    family: str

    @property
    def handwritten(self) -> bool:
        return self.package in HANDWRITTEN


def letters_of(class_index: int) -> str:
    """The characters drawn for a class: "Oo" for O, "A" for A, "a" for a."""
    name = CLASS_NAMES[class_index]
    return name + name.lower() if name.lower() in MERGED else name


def fetch(work: Path, packages: Sequence[str] = PACKAGES) -> dict[str, Path]:
    """Download and unpack every one of `packages` that is not there yet: package -> folder `work/fonts/PACKAGE`.

    Raises:
        UserError: apt-get or dpkg is missing, or a package cannot be had.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise UserError(
                f"{tool} was not found; the letters recipe unpacks Debian packages, run it on Debian or Ubuntu"
            )
    archives = work / "debs"
    archives.mkdir(parents=True, exist_ok=True)
    folders = {}
    for package in packages:
        folder = work / "fonts" / package
        folders[package] = folder
        if folder.is_dir():
            continue
        found = sorted(archives.glob(f"{package}_*.deb"))
        if not found:
            _call(["apt-get", "download", package], archives)
            found = sorted(archives.glob(f"{package}_*.deb"))
        half = folder.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _call(["dpkg", "-x", str(found[-1].resolve()), str(half.resolve())], archives)
        half.rename(folder)  # a package is there whole or not at all
    return folders


def licences(folder: Path) -> list[str]:
    """Short names of the licences that a package's copyright file declares for the fonts (not for Debian's packaging)."""
    texts = [p.read_text(errors="replace") for p in sorted(folder.glob("usr/share/doc/*/copyright"))]
    text = re.split(r"the debian packaging is", "\n".join(texts), flags=re.IGNORECASE)[0]
    stanzas = [
        part for part in re.split(r"\n\s*\n(?=Files:)", text) if not re.match(r"\s*Files:\s*debian/", part)
    ]
    names = re.findall(
        r"^License:[ \t]*(\S[^\n]*)", "\n".join(s for s in stanzas if "Files:" in s[:2000]), re.MULTILINE
    )
    if not names:  # older, free-form files
        names = [name for name, phrase in _PHRASES.items() if re.search(phrase, text, re.IGNORECASE)]
    return list(dict.fromkeys(name.strip() for name in names))


def usable_fonts(folders: dict[str, Path]) -> list[Font]:
    """Fonts that pass every filter, in a fixed order, one a (family, style)."""
    fonts, seen = [], set()
    for package in sorted(folders):
        for path in sorted(folders[package].rglob("*")):
            if path.suffix.lower() not in (".ttf", ".otf") or path.is_symlink():
                continue
            face = ImageFont.truetype(str(path), _GLYPH_PIXELS)
            name, style = face.getname()
            key = (name, style)
            if name is None or key in seen or _family(name) in EXCLUDED:
                continue
            if _has_distinct_letters(face):
                seen.add(key)
                fonts.append(Font(path, package, _family(name)))
    return fonts


def held_out_families(fonts: list[Font], every: int = 10) -> frozenset[str]:
    """Every tenth family in alphabetical order: never seen in training."""
    return frozenset(sorted({font.family for font in fonts})[every // 2 :: every])


def draw(face: ImageFont.FreeTypeFont, letter: str) -> np.ndarray | None:
    """uint8 (H, W), white on black, cropped to the ink; None where the font draws nothing."""
    left, top, right, bottom = face.getbbox(letter)
    size = (int(right - left) + 8, int(bottom - top) + 8)
    if min(size) <= 8 or max(size) > 20 * face.size:
        return None
    canvas = Image.new("L", size)
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), letter, fill=255, font=face)
    box = canvas.getbbox()
    return np.asarray(canvas.crop(box)) if box else None


def boxed(glyph: np.ndarray, side: int, longest: int) -> np.ndarray:
    """The glyph scaled so that its longer side is `longest`, centred: uint8 (side, side)."""
    height, width = glyph.shape
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("L", (side, side))
    canvas.paste(
        Image.fromarray(glyph).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR),
        ((side - size[0]) // 2, (side - size[1]) // 2),
    )
    return np.asarray(canvas)


def _call(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"`{' '.join(command)}` failed ({last}); run `apt-get update` and check the network")


def _family(name: str) -> str:
    """Design name: "Lato Black" -> "lato"."""
    name = re.sub(r"(?<=[a-z])(bold|condensed|italic|alt)+$", "", name.replace("-", " "), flags=re.IGNORECASE)
    bare = " ".join(_CUTS.sub(" ", name).split()).lower()
    return bare or name.lower()


def _has_distinct_letters(face: ImageFont.FreeTypeFont) -> bool:
    """Every letter drawn, none as the missing-glyph box, ink share plausible, lower case not folded to small capitals."""
    missing = face.getmask("\uffff").getbbox(), bytes(face.getmask("\uffff"))
    glyphs: dict[str, np.ndarray] = {}
    shares: list[float] = []
    for letter in UPPER + UPPER.lower():
        mask = face.getmask(letter)
        glyph = draw(face, letter)
        if glyph is None or (mask.getbbox(), bytes(mask)) == missing:
            return False
        glyphs[letter] = boxed(glyph, 24, 24).astype(np.float32) / 255
        shares.append(float(boxed(glyph, 32, 25).mean()) / 255)
    if not 0.03 <= float(np.mean(shares)) <= 0.55 or max(shares) > 0.6:
        return False
    if len({g.tobytes() for g in glyphs.values()}) < 45:
        return False
    folded = sum(_alike(glyphs[x], glyphs[x.upper()]) > 0.8 for x in LOWER)
    return folded <= 4


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two pictures of equal shape."""
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-6))
