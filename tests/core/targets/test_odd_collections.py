"""Odd collections are read as their makers mean them, or refused, or read with a warning; nothing is misread in silence."""

import hashlib
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest
from collections_rig import KINDS, encode, parquet, tarred, zipped
from verdicts import BAD, case, describe, summary

from ppcore.targets import load_target


@pytest.mark.parametrize("kind", KINDS)
def test_no_collection_is_misread_in_silence(kind):
    counts, failures = Counter(), []
    with tempfile.TemporaryDirectory(prefix="odd-") as folder:  # a short path: messages must fit two lines
        for seed in range(KINDS[kind][1]):
            collection, verdict = case(kind, seed, Path(folder, str(seed)))
            counts[verdict.kind] += 1
            if verdict.kind in BAD:
                failures.append(describe(kind, seed, collection, verdict))
    print(f"{kind}: {summary(counts)}")
    assert not failures, f"{kind}: {summary(counts)}\n\n" + "\n\n".join(failures)


IMAGES = [
    (split, label, f"{split}{label}{turn}", encode(number + turn, 8, ".png"))
    for split, count in (("train", 5), ("test", 2))
    for number, label in ((10, "ant"), (20, "bee"), (30, "fire truck"))
    for turn in range(count)
]
"""(split, class, stem, file) of 21 images."""


def rows(head, mark, split):
    lines = [f"{name}.png{mark}{label}" + f"{mark}{part}" * split for part, label, name, _ in IMAGES]
    return {
        "labels.csv": "\n".join([mark.join(head), *lines]).encode(),
        **{f"{name}.png": data for _, _, name, data in IMAGES},
    }


def folders(split):
    return {"/".join([part] * split + [label, f"{name}.png"]): data for part, label, name, data in IMAGES}


def metadata(split):
    tree = {"/".join([part] * split + [f"{name}.png"]): data for part, _, name, data in IMAGES}
    for part in ("train", "test") if split else (None,):
        chosen = [
            f'{{"file_name": "{name}.png", "label": "{label}"}}'
            for p, label, name, _ in IMAGES
            if part in (p, None)
        ]
        tree["/".join([*([part] if part else []), "metadata.jsonl"])] = "\n".join(chosen).encode()
    return tree


def parquets(split):
    tree = {}
    for part in ("train", "test") if split else (None,):
        chosen = [image for image in IMAGES if part in (image[0], None)]
        images = [{"bytes": data, "path": f"{name}.png"} for _, _, name, data in chosen]
        tree[f"{part or 'all'}.parquet"] = parquet(
            pa.table({"image": images, "label": [label for _, label, *_ in chosen]})
        )
    return tree


def tars(split):
    tree = {}
    for part in ("train", "test") if split else (None,):
        members = {}
        for p, label, name, data in IMAGES:
            if part in (p, None):
                members |= {f"{name}.png": data, f"{name}.cls": label.encode()}
        tree[f"{part or 'all'}.tar"] = tarred(members)
    return tree


CONTAINERS = {
    "zip": lambda split: {"photos.zip": zipped(folders(split))},
    "tar": lambda split: {"photos.tar": tarred(folders(split))},
    "tar.gz": lambda split: {"photos.tar.gz": tarred(folders(split), "w:gz")},
    "csv": lambda split: rows(("image", "label", *["split"] * split), ",", split),
    "csv ;": lambda split: rows(("image", "label", *["split"] * split), ";", split),
    "metadata": metadata,
    "parquet": parquets,
    "webdataset": tars,
}


def contents(tree, root):
    """The classes, and of each split the classes and contents of its images."""
    for path, data in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    target = load_target(str(root / next(iter(tree)) if len(tree) == 1 else root))
    splits = []
    for images in (target.train, target.test):
        files = (images.encoded(n) for n in range(len(images)))
        hashes = [hashlib.sha256(x if isinstance(x, bytes) else x.read_bytes()).hexdigest() for x in files]
        splits.append(sorted(zip((target.classes[label] for label in images.labels), hashes, strict=True)))
    return target.classes, splits


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_images_in_every_container(container, tmp_path):
    expected = contents(folders(True), tmp_path / "folders")
    assert [len(split) for split in expected[1]] == [15, 6]
    assert contents(CONTAINERS[container](True), tmp_path / "same") == expected


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_images_in_every_container_without_splits(container, tmp_path):
    classes, splits = contents(folders(False), tmp_path / "folders")
    others, other_splits = contents(CONTAINERS[container](False), tmp_path / "same")
    assert others == classes
    assert sorted(chain(*other_splits)) == sorted(chain(*splits))
    counts = [Counter(label for label, _ in split) for split in other_splits]
    assert counts == [{"ant": 6, "bee": 6, "fire truck": 6}, {"ant": 1, "bee": 1, "fire truck": 1}]
