"""What a reader made of an odd collection, beside what its maker meant.

PYTHONPATH=core python tests/core/targets/verdicts.py                     all cases: the counts, and every failure
PYTHONPATH=core python tests/core/targets/verdicts.py tables 7 --keep DIR  one case; its files stay in DIR
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import tempfile
import traceback
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from collections_rig import KINDS, Collection, make, number_of
from PIL import Image

from ppcore.errors import UserError
from ppcore.targets import load_target
from ppcore.targets.target import ImageSet, Target

GOOD = ("read", "warned", "refused")
BAD = ("silent", "crashed", "unclear", "alarmed", "not read")
_WIDTH, _LINES = 140, 2
_OPTIONS = ("--", "classes-from", "split=", "image-column", "label-column")
_EVERYWHERE = {"images", "data", "train", "test"}  # words of many messages: they name no place


@dataclass
class Verdict:
    """`kind` is one of GOOD or BAD.

    read: as meant. warned: differently, and the reader says so. refused: by a message that fits two lines and names a place.
    silent: differently, without a word. crashed: by another exception. unclear: refused by another kind of message.
    alarmed: read as meant, with a doubt, though the collection is clear. not read: warned or refused, though it is clear.
    """

    kind: str
    why: str


def judge(c: Collection) -> Verdict:
    """Read the collection, from the folder that `spec` is relative to."""
    verdict = _judge(c)
    if c.clear and verdict.kind in ("warned", "refused"):
        return Verdict("not read", f"{verdict.kind}: {verdict.why}")
    return verdict


def _judge(c: Collection) -> Verdict:
    try:
        target = load_target(c.spec)
    except UserError as error:
        return refusal(c, str(error))
    except Exception:
        return Verdict("crashed", traceback.format_exc())
    try:
        differences, missing, complaints = compare(c, target)
    except Exception:
        return Verdict("crashed", "on opening an image: " + traceback.format_exc())
    doubts = getattr(target, "doubts", ())
    words = "\n".join((*target.notes, *doubts, *complaints))
    said = f"notes {target.notes} doubts {doubts} complaints {complaints}"
    unsaid = [entry for entry in c.mention if not any(word in words for word in entry)]
    if not differences and not missing:
        if unsaid and not doubts:
            return Verdict("silent", f"nothing is said of {unsaid}; {said}")
        if doubts and c.clear and c.quiet:
            return Verdict("alarmed", said)
        return Verdict("read", said)
    why = "; ".join([*differences[:4], *(f"{path} is left out" for path in missing[:4])])
    why = f"{why} ({len(differences)} + {len(missing)}); classes {target.classes}; {said}"
    if doubts or (not differences and all(named(c, path, words) for path in missing)):
        return Verdict("warned", why)
    return Verdict("silent", why)


def compare(c: Collection, target: Target) -> tuple[list[str], list[str], list[str]]:
    """(differences, paths of images that were left out, errors on opening an image)."""
    differences: list[str] = []
    complaints: list[str] = []
    seen: dict[int, tuple[str, str]] = {}
    names = [class_name(c, name) for name in target.classes]
    for split, images in (("train", target.train), ("test", target.test)):
        for position in range(len(images)):
            try:
                number = number_of(images.image(position))
            except UserError as error:
                complaints.append(str(error))
                continue
            if images.encoded is not None and opened(images, position) != number:
                differences.append(f"{images.ids[position]}: the encoded image is another one")
            if number in seen:
                differences.append(f"image {number} ({c.meant[number].path}) is there twice")
            seen[number] = (split, names[images.labels[position]])
    if any(len(set(images.ids)) < len(images) for images in (target.train, target.test)):
        differences.append("names of images are not unique")
    meant = {n: m for n, m in c.meant.items() if m.label is not None}
    splits = {m.split for m in meant.values()}
    held = "test" if "test" in splits else "val"
    wanted = {n: m for n, m in meant.items() if m.split in ("", "train", held)}
    missing = [m.path for n, m in wanted.items() if n not in seen]
    has_test = any(n in seen for n, m in wanted.items() if m.split == held)
    for number, (split, label) in seen.items():
        if number not in wanted:
            place = c.meant.get(number, "unknown")
            differences.append(f"image {number} ({place}) is in {split} as {label!r}")
            continue
        image = wanted[number]
        if label != class_name(c, image.label or ""):
            differences.append(f"{image.path} is in class {label!r}, not {image.label!r}")
        if has_test and (split == "test") != (image.split == held):
            differences.append(f"{image.path} is in {split}")
    if len(set(names)) < len(names):
        differences.append(f"a class is there twice: {target.classes}")
    classes = {class_name(c, m.label or "") for m in meant.values()}
    if extra := set(names) - classes:
        differences.append(f"classes that nobody meant: {sorted(extra)}")
    if lost := classes - set(names):
        gone = [m.path for m in meant.values() if class_name(c, m.label or "") in lost]
        missing = list(dict.fromkeys([*missing, *gone]))
    if not has_test and not differences and not missing:
        sizes, held_out = (
            np.bincount(x, minlength=len(names)) for x in (target.train.labels, target.test.labels)
        )
        if any(part != (part + rest) // 5 for rest, part in zip(sizes, held_out, strict=True)):
            differences.append(f"held out {held_out}, kept {sizes}")
    return differences, missing, complaints


def opened(images: ImageSet, position: int) -> int:
    """The number of an image by its encoded file."""
    import io

    assert images.encoded is not None
    encoded = images.encoded(position)
    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
        return number_of(np.asarray(image.convert("RGB")))


def class_name(c: Collection, name: str) -> str:
    """Names as they are compared; classes without names have numbers, with or without a word before them."""
    name = unicodedata.normalize("NFC", name)
    return re.sub(r"^\D*0*(?=\d)", "", name) if c.numbered else name


def named(c: Collection, path: str, words: str) -> bool:
    """Whether the words name the file, its folder, its class or its split."""
    splits = {c.splits.get(m.split, "") for m in c.meant.values() if m.path == path}
    parts = {*PurePosixPath(path).parts, *splits} - _EVERYWHERE
    return any(part in words for part in parts if len(part) > 2)


def refusal(c: Collection, message: str) -> Verdict:
    """A refusal fits two lines, and names a file, a folder, a row or an option; of damaged files the file or the row."""
    lines = sum(max(1, math.ceil(len(line) / _WIDTH)) for line in message.split("\n"))
    if lines > _LINES:
        return Verdict("unclear", f"{lines} lines: {message}")
    if unsaid := [entry for entry in c.mention if not any(word in message for word in entry) and c.damaged]:
        return Verdict("unclear", f"does not name {unsaid}: {message}")
    places = {
        c.root,
        *c.tree,
        *(part for path in c.tree for part in PurePosixPath(path).parts if len(part) > 2),
    }
    if not any(word in message for word in (*places, *_OPTIONS)) and not re.search(
        r"\b(row|line) \d", message
    ):
        return Verdict("unclear", f"names no place: {message}")
    return Verdict("refused", message)


def case(kind: str, seed: int, folder: Path) -> tuple[Collection, Verdict]:
    """Make a collection in `folder` and judge how it is read."""
    folder.mkdir(parents=True, exist_ok=True)
    collection = make(kind, seed, folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        return collection, judge(collection)
    finally:
        os.chdir(before)


def describe(kind: str, seed: int, c: Collection, verdict: Verdict) -> str:
    """A failure, with the command that makes the collection again."""
    tree = sorted(c.tree)
    files = ", ".join(tree[:12]) + (f" and {len(tree) - 12} more" if len(tree) > 12 else "")
    text = (
        f"{verdict.kind}: {kind} {seed}{' (clear)' if c.clear else ''}: {c.spec}, stored as {c.pack}\n"
        f"  files {files}\n  choices {', '.join(c.story)}\n  {verdict.why}\n"
        f"  python tests/core/targets/verdicts.py {kind} {seed} --keep DIR"
    )
    return text.encode(errors="backslashreplace").decode()


def summary(counts: Counter[str]) -> str:
    """One line."""
    return f"{sum(counts.values())} collections: " + ", ".join(
        f"{kind} {counts[kind]}" for kind in (*GOOD, *BAD)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Odd collections: how they are read.")
    parser.add_argument("kind", nargs="?", choices=sorted(KINDS))
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--keep", type=Path, help="an empty or new folder for the files of the collection")
    parser.add_argument("--more", type=int, default=1, help="this many times as many cases")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    clear = 0
    with tempfile.TemporaryDirectory(prefix="odd-") as folder:
        for kind, (_, number) in (
            KINDS.items() if options.kind is None else [(options.kind, KINDS[options.kind])]
        ):
            seeds = range(number * options.more) if options.seed is None else [options.seed]
            for seed in seeds:
                place = options.keep or Path(folder, kind, str(seed))
                collection, verdict = case(kind, seed, place)
                counts[verdict.kind] += 1
                clear += collection.clear
                if verdict.kind in BAD or options.seed is not None:
                    print(describe(kind, seed, collection, verdict))
    print(f"{summary(counts)}; {clear} of them clear")
    sys.exit(any(counts[kind] for kind in BAD))


if __name__ == "__main__":
    main()
