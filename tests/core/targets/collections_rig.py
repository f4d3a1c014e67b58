"""Makes odd image collections, and says what the maker of each one means.

A collection is made from a kind (:data:`KINDS`) and a seed. Every image has a pattern of its own, so that a reader's images are known by
their pixels. `clear` collections are of a usual kind, without damage and with one plausible reading: they must be read.
"""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

T = TypeVar("T")
Tree = dict[str, bytes]  # path -> content


class Meant(NamedTuple):
    """What an image is for: its class (None: unlabelled, or no part of the task), its split ("": none is named), its place."""

    label: str | None
    split: str
    path: str


class Sample(NamedTuple):
    """An image of the task before a layout gives it a path."""

    number: int
    label: str
    split: str
    name: str
    data: bytes


@dataclass
class Collection:
    """A collection in the making, then as it is on the disk.

    Attributes:
        odd: whether unusual choices may be made.
        tree: the files; `pack` says how they are stored.
        meant: number of the image -> what it is for.
        splits: train, val, test -> the name that the files have for it.
        clear: whether it must be read, and neither refused nor read with a difference.
        quiet: whether a clear collection must be read without a doubt; files that a reader leaves out may cause one.
        mention: of each entry one word must stand in the notes, in the doubts or in the refusal.
        damaged: the damage is the only thing wrong, so that a refusal must mention it.
        numbered: the classes have numbers and no names.
        spec: what is given to `load_target`.
        story: the choices, for the reader of a failure.
    """

    rng: random.Random
    odd: bool
    tree: Tree = field(default_factory=dict)
    meant: dict[int, Meant] = field(default_factory=dict)
    clear: bool = True
    quiet: bool = True
    splits: dict[str, str] = field(default_factory=dict)
    mention: list[tuple[str, ...]] = field(default_factory=list)
    damaged: bool = False
    numbered: bool = False
    pack: str = "folder"
    root: str = "photos"
    entry: str = ""
    options: str = ""
    spec: str = ""
    story: list[str] = field(default_factory=list)
    sample_name: str = "{count:04d}"
    extension: str = "png"

    def pick(self, usual: Sequence[T], odd: Sequence[T] = ()) -> T:
        """One of the usual choices, or an odd one: then the collection is not clear."""
        if odd and self.odd and self.rng.random() < 0.35:
            self.clear = False
            choice = self.rng.choice(odd)
        else:
            choice = self.rng.choice(usual)
        self.story.append(getattr(choice, "__name__", repr(choice))[:60])
        return choice

    def image(self, label: str | None, split: str, name: str, data: bytes | None = None) -> Sample:
        """A new image: its number, and its name with an extension."""
        number = len(self.meant) + 1
        self.meant[number] = Meant(label, split, name)
        side = self.rng.choice((4, 8, 12, 16))
        return Sample(number, label or "", split, name, data or encode(number, side, Path(name).suffix))

    def place(self, sample: Sample, path: str, write: bool = True) -> None:
        """Give the image its place in the tree."""
        self.meant[sample.number] = self.meant[sample.number]._replace(path=path)
        if write:
            self.tree[path] = sample.data

    def outside(self, path: str) -> None:
        """An image that is no part of the task."""
        self.place(self.image(None, "", path), path)

    def unusable(self, *words: str) -> None:
        """The collection is damaged: it is not clear, and one of the words must be said."""
        self.clear, self.damaged = False, self.damaged or self.clear
        self.mention.append(words)


# Pixels


_FACTOR = 40503  # odd, so that it can be inverted: near numbers have patterns that differ in many places


def encode(number: int, side: int, suffix: str) -> bytes:
    """An image of side x side pixels with the pattern of `number`, which JPEG keeps."""
    code = number * _FACTOR % 65536
    grid = np.array([code >> bit & 1 for bit in range(16)]).reshape(4, 4)
    grid = grid.repeat(side // 4, 0).repeat(side // 4, 1)[..., None]
    pixels = np.where(grid, (235, 205, 180), (20, 45, 70)).astype(np.uint8)
    kind = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}.get(suffix[1:].lower(), suffix[1:].upper())
    options: dict[str, Any] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        kind, {}
    )
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind or "PNG", **options)
    return file.getvalue()


def number_of(pixels: np.ndarray) -> int:
    """The number of an image: uint8 (H, W, C)."""
    block = pixels.shape[0] // 4
    blocks = pixels.astype(float).reshape(4, block, 4, block, -1).mean(axis=(1, 3, 4))
    code = sum(1 << bit for bit, value in enumerate(blocks.ravel()) if value > 128)
    return code * pow(_FACTOR, -1, 65536) % 65536


# Class names, splits, file names

_NFC = ["café", "señal", "über", "forêt"]
NAMES: list[list[str]] = [
    ["ant", "bee", "cat", "dog"],
    ["0", "1", "2", "10"],
    ["001.Black_footed_Albatross", "002.Laysan_Albatross", "010.Red_winged_Blackbird", "v1.0"],
    ["fire truck", "hot dog", "ice cream", "pick-up"],
    _NFC,
    [unicodedata.normalize("NFD", name) for name in _NFC],
    ["Cat", "DOG", "bird", "ZEBRA"],
    ["n01440764", "n01443537", "n02123045", "n09999999"],
    ["猫", "犬", "鳥", "魚"],
    ["a&b", "c#", "50%", "x=1"],
    ["[y]", "it's", "a+b", "(old)"],
    ["q" * 90, "r" * 90, "s" * 90, "t" * 90],
    ["cat, grey", "cat, black", "dog; old", "O'Neil"],
    ["007", "07", "1e5", "1.0"],
]
ODD_NAMES = [
    ["images", "masks", "labels", "data"],
    ["bus", "car", "train", "test"],
    ["day", "night", "dusk", "dawn"],
    ["train", "test", "val", "dev"],
    ["a", "A", "b", "B"],
    ["0", "00", "1", "01"],
    ["Annotations", "JPEGImages", "ImageSets", "seg"],
]
WORDS_OF_TABLES = [
    ["NA", "null", "None", "nan"],
    ["True", "False", "yes", "no"],
    ["N/A", "-", "#1", "2024-01-02"],
]
LATIN = [NAMES[0], NAMES[3], _NFC, NAMES[6]]

SPLITS: list[dict[str, str]] = [
    {"": ""},
    {"": ""},
    {"train": "train", "test": "test"},
    {"train": "train"},
    {"train": "train", "val": "val"},
    {"train": "train", "val": "valid", "test": "test"},
    {"train": "Train", "test": "Test"},
    {"train": "training", "test": "testing"},
    {"train": "train", "val": "validation"},
    {"train": "TRAIN", "val": "VAL", "test": "TEST"},
]
ODD_SPLITS: list[dict[str, str]] = [
    {"train": "train", "val": "dev"},
    {"train": "train", "val": "eval"},
    {"train": "train", "val": "dev", "test": "test"},
    {"train": "train", "test": "holdout"},
    {"train": "trainset", "test": "testset"},
    {"train": "train_images", "test": "test_images"},
    {"train": "seg_train/seg_train", "test": "seg_test/seg_test"},
    {"train": "images_train", "val": "images_val"},
    {"train": "01_train", "test": "02_test"},
    {"test": "test"},
]
FILE_NAMES = [
    "{count:04d}",
    "a, {count}",
    "{label}_{count}",
    "IMG {count}",
    "photo ({count})",
    "été{count}",
    "n{count}.crop",
]
EXTENSIONS = ["png", "png", "jpg", "jpg", "JPG", "jpeg", "webp", "bmp", "gif", "tif", "PNG"]


def plan(
    c: Collection, flat: bool, names: list[list[str]] = NAMES, odd: Sequence[list[str]] = ()
) -> list[Sample]:
    """The labelled images: 2 to 4 classes, 2 to 6 images a class and split. The splits have their names in the files."""
    rng = c.rng
    names = c.pick(names, odd)
    classes = names[: rng.randint(2, 4)]
    if c.odd and rng.random() < 0.05:
        classes, c.clear = classes[:1], False
    folders = c.splits = c.pick(SPLITS, ODD_SPLITS)
    style = c.pick(FILE_NAMES)
    extension = c.pick(EXTENSIONS)
    unique = flat or rng.random() < 0.5
    samples, count = [], 0
    for split, folder in folders.items():
        for label in classes:
            if c.odd and split and len(classes) > 2 and rng.random() < 0.03:
                c.clear = False  # a class in one split alone
                continue
            for turn in range(rng.randint(2, 6)):
                count += 1
                safe = "".join(x for x in label if x.isalnum())[:20]
                stem = style.format(label=safe, count=count if unique else turn)
                samples.append(c.image(label, split, f"{stem}.{extension}")._replace(split=folder))
    return samples


def join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


# Kind: folders


def folders(c: Collection) -> None:
    """Class folders, at the root or below, with or without splits."""
    samples = plan(c, flat=False, odd=ODD_NAMES)
    wrapper = c.pick(
        ["", "", "", "flowers", "dtd/images", "My Photos/data"], ["images", "train", "fold1", "2024"]
    )
    arrange = c.pick(
        [by_class],
        [
            day_and_night,
            class_before_split,
            groups,
            folds,
            images_below,
            class_twice,
            some_deeper,
            nfc_and_nfd,
            case_differs,
        ],
    )
    arrange(c, samples, wrapper)
    if wrapper and c.rng.random() < 0.3:
        c.tree[join(str(PurePosixPath(wrapper).parent), "labels/all.txt").removeprefix("./")] = b"a b c\n"
    strays(c, wrapper)
    if c.odd and c.rng.random() < 0.2:
        c.rng.choice([kaggle_test, unlabelled, cover, empty_image, text_image, heic, empty_class, figures])(
            c, samples, wrapper
        )


def by_class(c: Collection, samples: list[Sample], wrapper: str) -> None:
    for s in samples:
        c.place(s, join(wrapper, s.split, s.label, s.name))


def day_and_night(c: Collection, samples: list[Sample], wrapper: str) -> None:
    for n, s in enumerate(samples):
        c.place(s, join(wrapper, s.split, s.label, ("day", "night")[n % 2], s.name))
    if not wrapper and not any(s.split for s in samples) and c.rng.random() < 0.5:
        c.options = "?classes-from=folder:1"


def class_before_split(c: Collection, samples: list[Sample], wrapper: str) -> None:
    for s in samples:
        c.place(s, join(wrapper, s.label, s.split, s.name))


def groups(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """Folders that group the classes; half of the time the groups are the classes."""
    labels = sorted({s.label for s in samples})
    as_classes = c.rng.random() < 0.5
    for s in samples:
        group = ("upper", "lower")[labels.index(s.label) % 2]
        if as_classes:
            c.meant[s.number] = c.meant[s.number]._replace(label=group)
        c.place(s, join(wrapper, s.split, group, s.label, s.name))


def folds(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """Every class in each of two folders."""
    for n, s in enumerate(samples):
        c.place(s, join(wrapper, s.split, f"fold{n % 2 + 1}", s.label, s.name))


def images_below(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """As in Tiny ImageNet."""
    for s in samples:
        c.place(s, join(wrapper, s.split, s.label, "images", s.name))


def class_twice(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """As a zip of each class is unpacked."""
    for s in samples:
        c.place(s, join(wrapper, s.split, s.label, s.label, s.name))


def some_deeper(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """One class has a folder of its own below."""
    for n, s in enumerate(samples):
        c.place(
            s,
            join(wrapper, s.split, s.label, "more" if s.label == samples[0].label and n % 2 else "", s.name),
        )


def nfc_and_nfd(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """The test split was written on a computer with the other Unicode form."""
    for s in samples:
        form = "NFD" if s.split == samples[0].split else "NFC"
        c.place(s, join(wrapper, s.split, unicodedata.normalize(form, s.label), s.name))  # type: ignore[arg-type]


def case_differs(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """`Ant` in the training split is `ant` in the test split: two classes to a program, one to its maker."""
    for s in samples:
        c.place(
            s, join(wrapper, s.split, s.label if s.split == samples[0].split else s.label.title(), s.name)
        )


def kaggle_test(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """A test folder without labels."""
    c.clear = False
    folder = "test" if all(s.split.lower() != "test" for s in samples) else "submission"
    for n in range(3):
        c.outside(join(wrapper, folder, f"unknown{n}.png"))


def unlabelled(c: Collection, samples: list[Sample], wrapper: str) -> None:
    c.clear = False
    for n in range(3):
        c.outside(join(wrapper, "unlabelled", f"unknown{n}.png"))


def cover(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """An image beside the class folders."""
    c.clear = False
    c.outside(join(wrapper, "cover.png"))


def empty_class(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """A class folder without images."""
    c.clear = False
    c.tree[join(wrapper, samples[0].split, "zebra/.gitkeep")] = b""


def figures(c: Collection, samples: list[Sample], wrapper: str) -> None:
    """A folder of pictures beside the splits; or a name outside UTF-8."""
    c.clear = False
    if samples[0].split:
        c.outside(join(wrapper, "figures/plot.png"))
    elif c.pack == "folder":
        c.place(
            image := c.image(samples[0].label, "", "\udce9.png"), join(wrapper, samples[0].label, image.name)
        )


def empty_image(c: Collection, samples: list[Sample], wrapper: str) -> None:
    c.unusable("nothing.jpg")
    c.tree[join(str(PurePosixPath(c.meant[samples[0].number].path).parent), "nothing.jpg")] = b""


def text_image(c: Collection, samples: list[Sample], wrapper: str) -> None:
    c.unusable("notes.jpg")
    c.tree[join(str(PurePosixPath(c.meant[samples[0].number].path).parent), "notes.jpg")] = (
        b"not an image\n" * 9
    )


def heic(c: Collection, samples: list[Sample], wrapper: str) -> None:
    c.unusable(".heic", ".HEIC", "HEIC")
    for n in range(2):
        place = PurePosixPath(c.meant[samples[n].number].path).parent
        c.tree[join(str(place), f"phone{n}.{c.rng.choice(['heic', 'HEIC'])}")] = (
            b"\0\0\0\x18ftypheic" + bytes(60)
        )


def strays(c: Collection, wrapper: str = "") -> None:
    """Files beside the images that are no part of the task."""
    rng = c.rng
    for _ in range(rng.choice((0, 0, 1, 2))):
        inner = str(PurePosixPath(rng.choice(sorted(c.tree))).parent)
        here = rng.choice(("", wrapper, inner if inner != "." else ""))
        stray = c.pick(["text", "mac", "checkpoints", "annotations", "hidden", "code"], ["zip"])
        if rng.random() < 0.25 and c.pack == "folder":
            stray = rng.choice(("tar", "parquet", "scores"))
            c.story.append(f"stray {stray}")
        if stray == "text":
            c.tree[
                join(here, rng.choice(("README.md", "LICENSE", "Thumbs.db", "desktop.ini", "classes.json")))
            ] = b"{}\n"
        elif stray == "mac":
            c.tree[join(here, ".DS_Store")] = b"\0\0\0\1Bud1"
            c.tree[join(here, "._a.jpg")] = b"\0\5\x16\7" + bytes(40)
            c.tree["__MACOSX/photos/._b.jpg"] = b"\0\5\x16\7" + bytes(40)
        elif stray == "checkpoints":
            path = join(here, ".ipynb_checkpoints/0001-checkpoint.png")
            if path not in c.tree:
                c.outside(path)
        elif stray == "hidden":
            path = join(here, ".thumbnails/1.png")
            if path not in c.tree:
                c.outside(path)
        elif stray == "code":
            c.tree[join(wrapper, "code/train.py")] = b"import torch\n"
            c.tree[join(wrapper, "runs/log.txt")] = b"epoch 1\n"
        elif stray == "annotations":
            c.tree[join(wrapper, "annotations/1.xml")] = b"<annotation/>"
        elif stray == "zip":
            c.quiet = False
            hidden = c.image(None, "", "inner.png")
            c.place(hidden, join(here, "more.zip"), write=False)
            c.tree[join(here, "more.zip")] = zipped({"inner.png": hidden.data})
        elif stray == "tar" and "photos.tar" not in c.tree:
            c.quiet = False
            c.mention.append(("photos.tar",))
            hidden = c.image(None, "", "inner.png")
            c.place(hidden, "photos.tar", write=False)
            c.tree["photos.tar"] = tarred({"inner.png": hidden.data})
        elif stray == "parquet":
            c.quiet = False
            c.tree["stats.parquet"] = parquet(pa.table({"epoch": [1, 2], "loss": [0.5, 0.25]}))
        elif stray == "scores":
            c.quiet = False
            c.tree["scores.csv"] = b"epoch,score\n1,0.5\n2,0.7\n"


# Kind: odd folders, whose labels are not in the folders


def unlabelled_layouts(c: Collection) -> None:
    """Collections without class folders; a reader that takes their folders as classes is wrong."""
    c.clear = False
    layout = c.rng.choice(
        (
            "flat",
            "flat splits",
            "named files",
            "yolo",
            "voc",
            "masks",
            "captions",
            "splits in splits",
            "img2dataset",
        )
    )
    c.story.append(layout)
    images = [c.image(None, "", f"{n:04d}.png") for n in range(c.rng.randint(4, 12))]
    table = {}
    for n, s in enumerate(images):
        half, stem = ("train", "val")[n % 2], s.name[:-4]
        if layout == "flat":
            c.place(s, s.name)
        elif layout == "flat splits":
            c.place(s, join(("train", "test")[n % 2], s.name))
        elif layout == "named files":
            c.place(s, f"{('cat', 'dog')[n % 2]}.{s.name}")
        elif layout == "yolo":
            c.place(s, f"images/{half}/{s.name}")
            c.tree[f"labels/{half}/{stem}.txt"] = b"0 0.5 0.5 0.1 0.1\n"
        elif layout == "voc":
            c.place(s, f"VOC2012/JPEGImages/{s.name}")
            c.tree[f"VOC2012/Annotations/{stem}.xml"] = b"<annotation/>"
        elif layout == "masks":
            c.place(s, f"{('images', 'masks')[n % 2]}/{s.name}")
        elif layout == "captions":
            c.place(s, f"{half}/{s.name}")
            table.setdefault(half, ["file_name,text"]).append(f"{s.name},a picture of thing {n}")
        elif layout == "splits in splits":
            c.place(s, f"data/{half}/images/{s.name}")
        else:
            c.place(s, "00000.tar", write=False)
    for half, rows in table.items():
        c.tree[f"{half}/metadata.csv"] = "\n".join(rows).encode()
    if layout == "img2dataset":
        members = {}
        for s in images:
            stem = s.name[:-4]
            members |= {
                s.name: s.data,
                f"{stem}.txt": b"a caption",
                f"{stem}.json": b'{"caption": "a caption", "width": 8}',
            }
        c.tree["00000.tar"] = tarred(members)
        c.tree["00000.parquet"] = parquet(
            pa.table({"key": [s.name[:-4] for s in images], "caption": ["a caption"] * len(images)})
        )
        c.tree["00000_stats.json"] = b'{"count": 4}'


# Kind: archives of folders


def archives(c: Collection) -> None:
    """Class folders in a zip, a tar or a compressed tar; also with splits and wrappers."""
    c.pack = c.pick(["zip", "tar", "tar.gz", "tgz"], ["tar.xz", "two zips", "zip in a folder"])
    folders(c)
    if c.pack == "two zips" and len({path.split("/")[0] for path in c.tree}) < 2:
        c.pack = "zip"
    if c.odd and c.pack in ("zip", "tar", "tar.gz", "tgz") and c.rng.random() < 0.3:
        c.story.append("cut")
        c.unusable("photos." + c.pack)
        c.pack += " cut"


def zipped(tree: Tree) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in tree.items():
            archive.writestr(path, data)
    return file.getvalue()


def tarred(tree: Tree, mode: str = "w", folders: bool = False) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for folder in sorted({str(PurePosixPath(path).parent) for path in tree} - {"."}) if folders else ():
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for path, data in tree.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def cut(c: Collection, data: bytes) -> bytes:
    """The beginning of a file, as a broken download leaves it; more is missing than the zeros at the end of a tar."""
    length = len(data.rstrip(b"\0"))
    size = int(length * c.rng.uniform(0.15, 0.8))
    return data[: size // 512 * 512 or 512] if c.rng.random() < 0.3 and size > 512 else data[:size]


# Kind: WebDataset


def webdataset(c: Collection) -> None:
    """Tars of images and labels beside them."""
    rng = c.rng
    label_as = c.pick(["cls int", "cls text", "json", "json int"], ["json class", "txt", "no labels"])
    number = "int" in label_as
    samples = plan(c, flat=True, names=NAMES[:9])
    classes = sorted({s.label for s in samples})
    c.numbered = number
    dots = c.pick([""], ["v1."])
    prefix = c.pick(["", "./"], ["some/folder/"])
    upper = c.pick([False, False, True])
    image_part = c.pick(["", "", "image."])
    gz = c.pick(["", "", ".gz"])
    newline = rng.choice(("", "\n"))
    where = c.pick(
        ["{split}-{shard:06d}", "{split}/{shard:05d}", "{split}_{shard}"], ["set-{split}-{shard:04d}"]
    )
    order = c.pick(["image first", "label first"], ["apart"])
    if label_as == "no labels":
        c.mention.append(("label", "cls"))
    shards: dict[str, Tree] = {}
    for n, s in enumerate(samples):
        shard = f"{where.format(split=s.split or 'all', shard=n % rng.choice((1, 2)))}.tar{gz}"
        extension = s.name.rsplit(".", 1)[1]
        value = str(classes.index(s.label)) if number else s.label
        kept = {"split": c.meant[s.number].split, "label": None if label_as == "no labels" else value}
        c.meant[s.number] = Meant(kept["label"], kept["split"] or "", shard)
        key = f"{prefix}{dots}{n:05d}"
        image = {f"{key}.{image_part}{extension}": s.data}
        label: dict[str, Any] = {
            "cls": {f"{key}.cls": value + newline},
            "txt": {f"{key}.txt": value},
            "no labels": {f"{key}.txt": "a caption"},
            "json": {f"{key}.json": json.dumps({"label": int(value) if number else value, "width": 8})},
            "json class": {f"{key}.json": json.dumps({"class_name": value, "id": n})},
        }[label_as.removesuffix(" int").removesuffix(" text")]
        label = {name: text.encode() for name, text in label.items()}
        pair = {**label, **image} if order == "label first" else {**image, **label}
        if upper:
            pair = {
                name.rsplit(".", 1)[0] + "." + name.rsplit(".", 1)[1].upper(): data
                for name, data in pair.items()
            }
        shards.setdefault(shard, {}).update(pair)
    if order == "apart":
        shards = {
            name: dict(sorted(tree.items(), key=lambda x: x[0].lower()[-3:])) for name, tree in shards.items()
        }
    if c.odd and rng.random() < 0.15 and label_as.startswith("cls"):
        c.story.append("a label is missing")
        name, tree = rng.choice(sorted(shards.items()))
        member = rng.choice([m for m in tree if m.lower().endswith("cls")])
        del tree[member]
        stem = member[: -len(".cls")]
        gone = next(n for n, s in enumerate(samples) if stem.endswith(f"{n:05d}"))
        c.meant[samples[gone].number] = c.meant[samples[gone].number]._replace(label=None)
        c.unusable(Path(name).name, Path(stem).name)
    c.tree = {name: tarred(tree, "w:gz" if gz else "w") for name, tree in shards.items()}
    if c.odd and rng.random() < 0.25:
        cut_one(c)
    if len(c.tree) == 1 and rng.random() < 0.5:
        c.entry = next(iter(c.tree))
    if c.pick([False, True]):
        c.tree["README.md"] = b"# tars\n"


def cut_one(c: Collection) -> None:
    path = c.rng.choice(sorted(c.tree))
    c.story.append(f"cut {path}")
    c.tree[path] = cut(c, c.tree[path])
    c.unusable(Path(path).name)


# Kind: parquet


def parquet(table: pa.Table, rows: int | None = None) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=rows)
    return file.getvalue()


def parquets(c: Collection) -> None:
    """Parquet files as the hub, pandas and people write them."""
    rng = c.rng
    samples = plan(c, flat=True)
    classes = sorted({s.label for s in samples})
    label_as = c.pick(
        ["ClassLabel", "ClassLabel", "int", "string", "category"],
        ["from 1", "float", "half", "null", "coarse"],
    )
    image_as = c.pick(
        ["struct", "struct", "bytes", "large"], ["path in struct", "path", "numbers", "null bytes", "base64"]
    )
    columns = c.pick(
        [("image", "label"), ("img", "label"), ("image", "labels")], [("picture", "target"), ("jpg", "y")]
    )
    hidden = (
        c.odd
        and label_as in ("ClassLabel", "int")
        and {"val", "test"} <= {c.meant[s.number].split for s in samples}
    )
    where = c.pick(
        [
            "{split}-00000-of-00001.parquet",
            "data/{split}-00000-of-00001.parquet",
            "{split}.parquet",
            "default/{split}/0000.parquet",
        ]
    )
    order = c.pick(["sorted", "shuffled"], ["another in each file"])
    if label_as == "ClassLabel" and order != "sorted":
        rng.shuffle(classes)
    for split in dict.fromkeys(s.split for s in samples):
        path = where.format(split=split or "all")
        chosen = [s for s in samples if s.split == split]
        if label_as == "ClassLabel" and order == "another in each file":
            classes = classes[1:] + classes[:1]
        rng.shuffle(chosen)
        for s in chosen:
            c.place(
                s,
                f"files/{s.number}.{s.name.rsplit('.', 1)[1]}",
                write=image_as in ("path", "path in struct"),
            )
            if image_as not in ("path", "path in struct"):
                c.meant[s.number] = c.meant[s.number]._replace(path=path)
        c.tree[path] = parquet(
            parquet_table(c, chosen, classes, label_as, image_as, columns, path.count("/"), hidden),
            rng.choice((None, 2)),
        )
    if c.odd and rng.random() < 0.2:
        tables = [path for path in c.tree if path.endswith(".parquet")]
        path = rng.choice(sorted(tables))
        c.tree[path] = cut(c, c.tree[path])
        c.story.append(f"cut {path}")
        c.unusable(Path(path).name)
    if len(c.tree) == 1 and rng.random() < 0.5:
        c.entry = next(iter(c.tree))
    if c.pick([False, True]):
        c.tree["README.md"] = b"---\nlicense: mit\n---\n"


def parquet_table(
    c: Collection,
    samples: list[Sample],
    classes: list[str],
    label_as: str,
    image_as: str,
    columns: tuple[str, str],
    depth: int,
    hidden: bool,
) -> pa.Table:
    """One file: its image column, its label column, and some that are neither."""
    paths = ["../" * depth + c.meant[s.number].path for s in samples]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    data: list[bytes | None] = [s.data for s in samples]
    if image_as == "null bytes" and samples:
        data[0] = None
        c.meant[samples[0].number] = c.meant[samples[0].number]._replace(label=None)
        c.unusable(samples[0].name, "row")
    images: pa.Array
    if image_as in ("struct", "null bytes"):
        images = pa.array([{"bytes": d, "path": s.name} for d, s in zip(data, samples, strict=True)], struct)
    elif image_as == "bytes":
        images = pa.array(data, pa.binary())
    elif image_as == "large":
        images = pa.array(data, pa.large_binary())
    elif image_as == "path in struct":
        images = pa.array([{"bytes": None, "path": path} for path in paths], struct)
    elif image_as == "path":
        images = pa.array(paths)
    elif image_as == "base64":
        import base64

        images = pa.array([base64.b64encode(s.data).decode() for s in samples])
    else:
        images = pa.array([list(s.data[:8]) for s in samples], pa.list_(pa.uint8()))
    numbers: list[Any] = [classes.index(s.label) for s in samples]
    names: list[Any] = [s.label for s in samples]
    if hidden and samples[0].split.lower() == "test":
        c.story.append("labels of test hidden")
        c.clear = False
        numbers = [-1] * len(samples)
        c.mention.append(("test",))
        for s in samples:
            c.meant[s.number] = c.meant[s.number]._replace(label=None)
    if label_as in ("int", "from 1", "float", "half", "null"):
        c.numbered = label_as != "half"
        shift = {"from 1": 1, "half": 0.5}.get(label_as, 0)
        numbers = [n + shift if n >= 0 else n for n in numbers]
        for s in samples:
            if c.meant[s.number].label is not None:
                c.meant[s.number] = c.meant[s.number]._replace(label=str(classes.index(s.label) + shift))
    if label_as == "null":
        numbers[-1] = None
        c.meant[samples[-1].number] = c.meant[samples[-1].number]._replace(label=None)
        c.unusable("row", "null", "without a label", "no label")
    labels: Any = {
        "string": names,
        "category": pa.array(names).dictionary_encode(),
        "float": pa.array(numbers, pa.float64()),
    }.get(label_as, numbers)
    image_column, label_column = columns
    table = pa.table({image_column: images, label_column: labels})
    if label_as == "coarse":
        c.quiet = False
        table = pa.table(
            {image_column: images, "coarse_label": [n % 2 for n in numbers], "fine_label": names}
        )
    if label_as == "ClassLabel":
        features = {image_column: {"_type": "Image"}, label_column: {"names": classes, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    if c.rng.random() < 0.3:
        table = table.append_column("id", pa.array(range(len(samples)))).append_column(
            "__index_level_0__", pa.array(range(len(samples)))
        )
    return table


# Kind: tables (CSV, TSV, JSON lines) beside images


def tables(c: Collection) -> None:
    """A table that names the images and their classes."""
    rng = c.rng
    encoding = c.pick(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
    latin = encoding in ("latin-1", "cp1252")
    samples = plan(c, flat=True, names=LATIN if latin else NAMES, odd=WORDS_OF_TABLES)
    by_column = rng.random() < 0.5
    labels_in_folders = c.odd and rng.random() < 0.1
    folder = c.pick(["images", "", "img/all"], ["train", "data"])
    short = rng.random() < 0.4 and bool(folder)  # the table leaves the folder out
    c.clear &= not (short and folder == "img/all")
    for s in samples:
        c.place(s, join(folder, s.label if labels_in_folders else "", s.name))
    if labels_in_folders:
        c.clear, short = False, False
        c.story.append("labels in folders too")
    if c.odd and rng.random() < 0.3:
        c.clear = False
        c.outside(join(folder, "not-listed.png"))
    header = c.pick(
        [
            ("image", "label"),
            ("filename", "label"),
            ("file_name", "label"),
            ("path", "class"),
            ("image", "category"),
        ],
        [("id", "breed"), ("", "")],
    )
    form = c.pick(["csv", "csv", "csv", "tsv"], ["jsonl", "one-hot", "ndjson"])
    classes = sorted({s.label for s in samples})
    windows = rng.random() < 0.2
    backslash = (lambda x: x.replace("/", "\\")) if windows else (lambda x: x)
    splits = {s.split for s in samples}
    hidden = c.odd and form == "csv" and {"val", "test"} <= {c.meant[s.number].split for s in samples}
    if hidden:
        c.clear = False
        c.story.append("labels of test hidden")
    files: dict[str, list[tuple[Sample, list[str]]]] = {}
    for s in samples:
        name = backslash(s.name if short else c.meant[s.number].path)
        row = [name, s.label]
        if hidden and c.meant[s.number].split == "test":
            row[1] = ""
            c.meant[s.number] = c.meant[s.number]._replace(label=None)
        if form == "one-hot":
            row = [name, *(str(int(s.label == label)) for label in classes)]
        table = "labels" if by_column or "" in splits else s.split.replace("/", "_")
        if table == "labels" and "" not in splits:
            row.append(s.split)
        files.setdefault(table, []).append((s, row))
    write = dialect(c, "tsv" if form == "tsv" else "csv")
    names = [header[0], *(classes if form == "one-hot" else [header[1]])]
    suffix = {"tsv": "tsv", "jsonl": "jsonl", "ndjson": "ndjson"}.get(form, "csv")
    for table, entries in files.items():
        columns = [*names, *(["split"] if len(entries[0][1]) > len(names) else [])]
        rows = [row for _, row in entries]
        path = f"{table}.{suffix}"
        if suffix in ("jsonl", "ndjson"):
            c.tree[path] = "".join(
                json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows
            ).encode()
            continue
        if c.odd and form != "one-hot" and not hidden and rng.random() < 0.25:
            rows = damage_rows(c, entries, path)
        c.tree[path] = write([columns] if any(header) else [], rows).encode(encoding)
    if len(files) == 1 and rng.random() < 0.5:
        c.entry = next(path for path in c.tree if path.startswith(next(iter(files))))
    if rng.random() < 0.2:
        c.tree["README.md"] = b"# photos\n"


def damage_rows(c: Collection, entries: list[tuple[Sample, list[str]]], path: str) -> list[list[str]]:
    """The rows of a table with one thing wrong."""
    rows = [list(row) for _, row in entries]
    place = c.rng.randrange(len(rows))
    sample = entries[place][0]
    kind = c.rng.choice(("listed, not there", "no label", "cut", "short row"))
    c.story.append(kind)
    if kind == "listed, not there":
        rows.append(["images/gone.png", *rows[place][1:]])
        c.unusable("gone.png")
    elif kind == "no label":
        rows[place][1] = c.rng.choice(("", "  "))
        c.meant[sample.number] = c.meant[sample.number]._replace(label=None)
        c.unusable("row", "line", sample.name)
    elif kind == "short row":
        rows[place] = rows[place][:1]
        c.meant[sample.number] = c.meant[sample.number]._replace(label=None)
        c.unusable("row", "line", sample.name)
    else:
        last = entries[-1][0]
        keep = len(rows[-1][0]) // 2
        shorter = last.label[:-1]
        in_path = c.rng.random() < 0.5 or any(s.label == shorter for s, _ in entries)
        rows[-1] = [rows[-1][0][:keep]] if in_path else [rows[-1][0], shorter]
        c.meant[last.number] = c.meant[last.number]._replace(label=None)
        c.unusable("row", "line", last.name, Path(path).name)
    return rows


def dialect(c: Collection, suffix: str) -> Callable[[list[list[str]], list[list[str]]], str]:
    """A writer of tables: (head, rows) -> text."""
    rng = c.rng
    mark = "\t" if suffix == "tsv" else rng.choice((",", ",", ";", "\t"))
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    spaces = quoting == csv.QUOTE_MINIMAL and mark != "\t" and rng.random() < 0.3
    blank, newline, end = rng.random() < 0.3, rng.choice(("\n", "\r\n")), rng.choice(("\n", "", "\n\n"))
    c.story.append(f"{mark!r} quoting {int(quoting)}" + " spaces" * spaces + " blank rows" * blank)

    def write(head: list[list[str]], rows: list[list[str]]) -> str:
        file = io.StringIO()
        csv.writer(file, delimiter=mark, quoting=quoting, lineterminator="\n").writerows([*head, *rows])
        lines = file.getvalue().removesuffix("\n").split("\n")
        if spaces and not any('"' in line for line in lines):
            lines = [line.replace(mark, mark + " ") for line in lines]
        if blank:
            lines = [x for line in lines for x in ((line, "") if rng.random() < 0.3 else (line,))]
        return newline.join(lines) + end

    return write


# Kind: the imagefolder layout of Hugging Face


def imagefolder(c: Collection) -> None:
    """Images with metadata.csv or metadata.jsonl, in each split or at the root."""
    rng = c.rng
    samples = plan(c, flat=True)
    form = c.pick(["csv", "jsonl"], ["parquet"])
    at_root = c.pick([False, True])
    below = c.pick(["", "", "images"])
    label = c.pick(["label", "label"], ["class", "text"])
    if label == "text":
        for s in samples:
            c.meant[s.number] = c.meant[s.number]._replace(label=None)
    files: dict[str, list[dict[str, Any]]] = {}
    for s in samples:
        folder = "" if at_root else s.split
        path = join(s.split, below, s.name)
        c.place(s, path)
        caption = f"photo {s.number}: {s.label}" if label == "text" else s.label
        entry = {"file_name": path.removeprefix(folder + "/") if folder else path, label: caption}
        if rng.random() < 0.5 and form == "jsonl":
            entry["extra"] = "x"
        files.setdefault(folder, []).append(entry)
    if c.odd and rng.random() < 0.15:
        entries = rng.choice(list(files.values()))
        entries.append({"file_name": "gone.png", label: samples[0].label})
        c.unusable("gone.png")
    for folder, entries in files.items():
        path = join(folder, f"metadata.{form}")
        if form == "csv":
            text = io.StringIO()
            csv.writer(text).writerows([["file_name", label], *([e["file_name"], e[label]] for e in entries)])
            c.tree[path] = text.getvalue().encode()
        elif form == "jsonl":
            c.tree[path] = "".join(
                json.dumps(e, ensure_ascii=rng.random() < 0.5) + "\n" for e in entries
            ).encode()
        else:
            c.tree[path] = parquet(pa.Table.from_pylist(entries))
    strays(c)
    c.pack = c.pick(["folder"], ["zip", "tar", "tar.gz"])


KINDS: dict[str, tuple[Callable[[Collection], None], int]] = {
    "folders": (folders, 60),
    "archives": (archives, 45),
    "webdataset": (webdataset, 45),
    "parquet": (parquets, 50),
    "tables": (tables, 55),
    "imagefolder": (imagefolder, 35),
    "unlabelled": (unlabelled_layouts, 20),
}
"""Kind -> its maker and the number of its cases."""


def make(kind: str, seed: int, folder: Path) -> Collection:
    """Write the collection into `folder`, which must exist and be empty. `spec` is relative to `folder`."""
    rng = random.Random(f"{kind} {seed}")
    c = Collection(rng, odd=rng.random() < 0.6)
    KINDS[kind][0](c)
    c.root = rng.choice(("photos", "photos", "my photos", "fotos-é", "set.v2", "a[1]"))
    place = folder / c.root
    for packed in store(c):
        file = place / packed[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(packed[1])
    c.spec = join(c.root, c.entry) + rng.choice(("", "", "/") if not c.entry else ("",)) + c.options
    if rng.random() < 0.2:
        c.spec = f"{folder}/{c.spec}"
    return c


def store(c: Collection) -> list[tuple[str, bytes]]:
    """The files on the disk: the tree itself, or archives of it."""
    if c.pack == "folder":
        return list(c.tree.items())
    if c.pack == "two zips":
        parts: dict[str, Tree] = {}
        for path, data in c.tree.items():
            parts.setdefault(path.split("/")[0], {})[path] = data
        return [
            (
                f"{part}.zip" if "/" in next(iter(tree)) else part,
                zipped(tree) if "/" in next(iter(tree)) else tree[part],
            )
            for part, tree in parts.items()
        ]
    form = c.pack.split()[0]
    name = f"photos.{form}"
    data = (
        zipped(c.tree)
        if form == "zip"
        else tarred(c.tree, {"tar": "w", "tar.xz": "w:xz"}.get(form, "w:gz"), folders=True)
    )
    if c.pack.endswith("cut"):
        data = cut(c, data)
    if c.pack != "zip in a folder":
        c.entry = name
    return [(name, data)]
