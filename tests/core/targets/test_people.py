"""What people have on their disks, one test for each habit: read as they mean it, or refused by a sentence that helps."""

import json
import os
import re
import subprocess
import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from collections_rig import parquet, tarred, zipped
from miniatures import png

from ppcore.errors import UserError
from ppcore.targets import load_target

WIDTH, LINES = 140, 2


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(tree, root="photos"):
    """Write the files; the name of their folder."""
    for path, data in tree.items():
        file = os.path.join(root, path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as out:
            out.write(data if isinstance(data, bytes) else data.encode())
    return root


def images(*folders, count=5):
    """`count` images in each folder."""
    return {f"{folder}/{n}.png": png(20 * k + n) for k, folder in enumerate(folders) for n in range(count)}


def read(spec):
    """The classes, and how many images each split has of each: everything can be opened."""
    target = load_target(spec)
    for part in (target.train, target.test):
        assert all(part.image(n).ndim == 3 for n in range(len(part)))
    names = target.classes
    counts = (np.bincount(part.labels, minlength=len(names)).tolist() for part in (target.train, target.test))
    return names, *counts


def refused(spec, *words):
    """The message of a refusal: at most two lines, with each of the words."""
    with pytest.raises(UserError) as caught:
        load_target(spec)
    message = str(caught.value)
    assert len(message) <= LINES * WIDTH, message
    assert not [word for word in words if word not in message], message
    return message


def doubted(spec):
    """The refusal, or the doubts: not the notes."""
    try:
        return "\n".join(load_target(spec).doubts)
    except UserError as error:
        return str(error)


def said(spec):
    """What is said of a collection with a fault: the refusal, or the notes and doubts."""
    try:
        target = load_target(spec)
    except UserError as error:
        return str(error)
    return "\n".join((*target.notes, *target.doubts))


BOTH = (("ant", "bee"), [5, 5], [2, 2])
"""5 training images and 2 test images of each class."""
ONE = (("ant", "bee"), [4, 4], [1, 1])
"""5 images of each class, of which one is held out."""


def flat(split, count):
    """(images without class folders, [(name, class)])."""
    tree = images(split, count=2 * count)
    return tree, [(path.rsplit("/")[-1], ("ant", "bee")[n % 2]) for n, path in enumerate(tree)]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("place", ["in each split", "at the root"])
def test_imagefolder_with_metadata(form, place):
    tree, texts = {}, {}
    for split, count in (("train", 5), ("test", 2)):
        files, rows = flat(split, count)
        tree |= files
        folder = f"{split}/" if place == "in each split" else ""
        rows = [(name if folder else f"{split}/{name}", label) for name, label in rows]
        lines = [json.dumps({"file_name": n, "label": c}) if form == "jsonl" else f"{n},{c}" for n, c in rows]
        head = ["file_name,label"] if form == "csv" and f"{folder}metadata.csv" not in texts else []
        texts.setdefault(f"{folder}metadata.{form}", []).extend([*head, *lines])
    tree |= {path: "\n".join(lines) for path, lines in texts.items()}
    assert read(save(tree)) == BOTH


def table(
    head="image,label", encoding="utf-8", change=lambda text: text, folder="images/", name="labels.csv"
):
    """Ten images in a folder and a table beside the folder."""
    tree, rows = flat("images", 5)
    text = "\n".join([head, *(f"{folder}{n},{c}" for n, c in rows)]) + "\n"
    return save({**tree, name: change(text).encode(encoding)})


@pytest.mark.parametrize("listed", ["images/", ""])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", ";"),
        ("utf-16", ","),
        ("latin-1", ","),
        ("cp1252", ";"),
        ("utf-8-sig", "\t"),
        ("utf-16", "\t"),
    ],
)
def test_table_in_the_dialect_of_a_spreadsheet(encoding, mark, listed):
    root = table(
        encoding=encoding, folder=listed, change=lambda t: t.replace(",", mark).replace("bee", "béé")
    )
    names = (("ant", "béé"), *ONE[1:])
    assert read(root) == names
    assert read(f"{root}/labels.csv") == names


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("\n", "\n,\n"),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("images/", ".\\images\\").replace("\n", "\r\n"),
        lambda text: text.replace("image,label", "Image,Label"),
        lambda text: text.replace("image,label", '"image","label"'),
    ],
    ids=[
        "blank rows",
        "empty rows",
        "spaces",
        "more spaces",
        "Windows",
        "Windows lines",
        "capitals",
        "quotes",
    ],
)
def test_table_as_people_write_it(change):
    assert read(table(change=change)) == ONE


def test_quoted_names_with_commas():
    tree = {f"a, {n}.png": png(n) for n in range(10)}
    rows = "".join(f'"a, {n}.png","{("cat, grey", "dog")[n % 2]}"\n' for n in range(10))
    assert read(save({**tree, "labels.csv": "image,label\n" + rows})) == (
        ("cat, grey", "dog"),
        [4, 4],
        [1, 1],
    )


@pytest.mark.parametrize("wrapper", ["flowers", "dtd/images", "My Photos/data", "images", "a/b"])
@pytest.mark.parametrize("beside", [{}, {"README.md": "x"}, {"dtd/labels/all.txt": "banded/1.jpg\n"}])
def test_class_folders_below_the_root(wrapper, beside):
    root = save({**images(f"{wrapper}/ant", f"{wrapper}/bee"), **beside})
    assert read(root) == ONE
    save({**images(f"{wrapper}/train/ant", f"{wrapper}/train/bee"), **beside}, "more")
    save(images(f"{wrapper}/val/ant", f"{wrapper}/val/bee", count=2), "more")
    assert read("more") == BOTH


def readings(root, *words):
    """The classes of each reading that a refusal offers by an option."""
    message = refused(root, *words)
    options = dict.fromkeys(re.findall(r"(classes-from|split)[ =]([-\w:]+)", message))
    return {read(f"{root}?{name}={value}")[0] for name, value in options}


def test_a_class_called_train_with_folders_day_and_night():
    root = save(images(*(f"{c}/{part}" for c in ("bus", "car", "train") for part in ("day", "night"))))
    assert readings(root, "bus", "day") == {("bus", "car", "train"), ("day", "night")}
    assert read(f"{root}?classes-from=folder:1&split=none") == (("bus", "car", "train"), [8] * 3, [2] * 3)
    assert read(f"{root}?classes-from=folder:2&split=none") == (("day", "night"), [12] * 2, [3] * 2)


def test_a_class_called_train():
    assert read(save(images("bus", "car", "train"))) == (("bus", "car", "train"), [4] * 3, [1] * 3)


CUT = {
    "photos.tar": lambda tree: tarred(tree),
    "photos.tar.gz": lambda tree: tarred(tree, "w:gz"),
    "photos.zip": lambda tree: zipped(tree),
    "train.tar": lambda tree: tarred(pairs(tree)),
    "train.parquet": lambda tree: parquet(pa.table({"image": list(tree.values()), "label": [0, 1] * 5})),
}


def pairs(tree, label=lambda path: path.split("/")[0]):
    """The members of a WebDataset tar: images and their labels."""
    members = {}
    for n, (path, data) in enumerate(tree.items()):
        members |= {f"{n:04d}.png": data, f"{n:04d}.cls": label(path).encode()}
    return members


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_file_that_is_cut_off(name, share):
    data = CUT[name](images("ant", "bee"))
    kept = data.rstrip(b"\0")[: int(len(data.rstrip(b"\0")) * share)]
    root = save({name: kept})
    refused(f"{root}/{name}", name)
    refused(root, name)


def test_tar_that_is_cut_off_between_two_members():
    data = tarred(pairs(images("ant", "bee")))
    root = save({"train.tar": data[: 512 * 4 * 4]})
    refused(root, "train.tar")


@pytest.mark.parametrize("cut", ["images/9.png", "images/9.", '"images/9.png","be', ""])
def test_table_whose_last_row_is_cut_off(cut):
    root = table(change=lambda text: text.replace("images/9.png,bee\n", cut))
    if cut:
        assert "labels.csv" in said(root)
    else:
        assert read(root)[0] == ("ant", "bee")


def test_image_of_a_table_that_is_not_there():
    assert "gone.png" in said(table(change=lambda text: text + "images/gone.png,bee\n"))


@pytest.mark.parametrize("cell", ["", " ", '""'])
def test_empty_cell_in_the_label_column(cell):
    root = table(change=lambda text: text.replace("images/4.png,ant", f"images/4.png,{cell}"))
    message = said(root)
    assert "labels.csv" in message
    assert "6" in message or "images/4.png" in message, (
        message
    )  # the sixth row of the file, if the header counts


def hub(rows, label=None, image="image", **columns):
    """A parquet file of ten images; `rows` are the labels."""
    data = [{"bytes": png(n), "path": f"{n}.png"} for n in range(len(rows))]
    return parquet(pa.table({image: data, "label": label if label is not None else rows, **columns}))


NAMES = ["ant", "bee"] * 5


@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        pa.array(NAMES).dictionary_encode(),
        pa.array(NAMES, pa.large_string()),
        pa.array(NAMES, pa.string_view()),
    ],
    ids=["string", "category", "large string", "string view"],
)
def test_parquet_with_names_as_labels(labels):
    assert read(save({"data.parquet": hub(labels)})) == ONE


def test_parquet_from_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"image": [png(n) for n in range(10)], "label": pandas.Categorical(NAMES)}, index=range(5, 15)
    )
    os.makedirs("photos")
    frame.to_parquet("photos/data.parquet")
    assert read("photos") == ONE


@pytest.mark.parametrize(
    "labels", [np.int8([0, 1] * 5), np.uint8([0, 1] * 5), np.int64([0, 1] * 5), [0.0, 1.0] * 5], ids=str
)
def test_parquet_with_numbers_as_labels(labels):
    names, train, test = read(save({"data.parquet": hub(pa.array(labels))}))
    assert (len(names), train, test) == (2, [4, 4], [1, 1])


def named_labels(names, labels, first=0):
    """A parquet file with the class names in its metadata, as the hub has it."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    images = [{"bytes": png(first + n), "path": f"{n}.png"} for n in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    return parquet(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    )


@pytest.mark.parametrize("names", [("wasp", "ant"), ("1", "0"), ("10", "2"), ("2024", "NA")])
def test_parquet_with_class_names_keeps_their_order(names):
    root = save(
        {"train.parquet": named_labels(names, [0] * 4), "test.parquet": named_labels(names, [1] * 2, 50)}
    )
    target = load_target(root)
    assert target.classes == names
    assert (target.train.labels.tolist(), target.test.labels.tolist()) == ([0] * 4, [1] * 2)


def test_parquet_with_class_names_in_another_order_in_each_file():
    root = save(
        {"train.parquet": named_labels("ab", [0, 0, 0, 1]), "test.parquet": named_labels("ba", [0, 1, 1], 50)}
    )
    names, train, test = read(root)
    assert dict(zip(names, train, strict=True)) == {"a": 3, "b": 1}
    assert dict(zip(names, test, strict=True)) == {"a": 2, "b": 1}


def test_two_data_sets_in_one_folder():
    """The configurations of a hub repository have classes of their own."""
    root = save(
        {"breeds/train.parquet": hub(["pug", "lab"] * 5), "colours/train.parquet": hub(["red", "blue"] * 5)}
    )
    assert "colours" in doubted(root)


def test_labels_that_are_no_classes():
    """Captions: every image has its own."""
    assert "label" in doubted(save({"train.parquet": hub([f"photo {n} of a cat" for n in range(10)])}))


@pytest.mark.parametrize("values", [("my_train", "my_test"), ("0", "1"), ("seg_train/x", "seg_test/x")])
def test_split_column_with_values_of_ones_own(values):
    lines = [f"images/{n}.png,{('ant', 'bee')[n % 2]},{values[n > 7]}" for n in range(10)]
    root = save({**images("images", count=10), "labels.csv": "\n".join(["image,label,split", *lines])})
    assert "split" in doubted(root)


@pytest.mark.parametrize(
    "names", ["set-{}-000.tar", "set-{}-000.tar.gz", "{}set.tar", "{}_000.tar.gz", "{}/000.tar"]
)
def test_shards_with_their_split_in_the_name(names):
    root = save(
        {
            names.format("train"): tarred(
                pairs(images("ant", "bee")), "w:gz" if names.endswith("gz") else "w"
            ),
            names.format("test"): tarred(
                pairs(images("ant", "bee", count=2)), "w:gz" if names.endswith("gz") else "w"
            ),
        }
    )
    assert read(root) == BOTH


def test_parquet_with_labels_between_numbers():
    refused(save({"data.parquet": hub([0.5, 1.5] * 5)}), "data.parquet", "0.5")


def test_parquet_with_paths_of_images():
    tree, rows = flat("images", 5)
    names, labels = zip(*rows, strict=True)
    table = pa.table({"image": [f"images/{name}" for name in names], "label": list(labels)})
    assert read(save({**tree, "data.parquet": parquet(table)})) == ONE


def test_parquet_with_images_as_lists_of_numbers():
    table = pa.table({"image": [[0, 255] * 32] * 10, "label": NAMES})
    refused(save({"data.parquet": parquet(table)}), "data.parquet", "image")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_parquet_in_several_chunks(kind):
    chunks = pa.chunked_array([pa.array([png(n), png(n + 1)], kind) for n in range(0, 10, 2)])
    assert chunks.num_chunks == 5
    data = parquet(pa.table({"image": chunks, "label": NAMES}), rows=3)
    assert read(save({"train.parquet": data})) == ONE


def test_parquet_with_hidden_test_labels():
    root = save(
        {
            "train.parquet": hub([0, 1] * 5),
            "validation.parquet": hub([0, 1] * 2),
            "test.parquet": hub([-1] * 6),
        }
    )
    target = load_target(root)
    assert (len(target.train), len(target.test)) == (10, 4)
    assert any("test" in note for note in target.notes), target.notes
    assert any("validation" in note for note in target.notes), target.notes


def test_parquet_with_a_label_that_is_null():
    message = said(save({"data.parquet": hub([0, 1, None, *[0, 1] * 5])}))
    assert "data.parquet" in message
    assert any(word in message for word in ("row 2", "row 3")), message


def test_parquet_with_bytes_that_are_null():
    rows = [{"bytes": png(n) if n != 3 else None, "path": f"{n}.png"} for n in range(10)]
    message = said(save({"data.parquet": parquet(pa.table({"image": rows, "label": NAMES}))}))
    assert "data.parquet" in message
    assert any(word in message for word in ("3.png", "row 3", "row 4")), message


def test_a_tar_beside_class_folders():
    root = save({**images("ant", "bee"), "photos.tar": tarred(images("ant"))})
    assert read(root) == ONE
    target = load_target(root)
    assert "photos.tar" in " ".join((*target.notes, *target.doubts))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("stats.parquet", parquet(pa.table({"epoch": [1], "loss": [0.5]}))),
        ("scores.csv", b"epoch,score\n1,0.5\n"),
        ("classes.json", b'["ant", "bee"]'),
        ("train.txt", b"ant/0.png\n"),
        ("more.zip", zipped({"README": b"x"})),
        ("run.jsonl", b'{"loss": 0.5}\n'),
    ],
)
def test_another_file_beside_class_folders(name, data):
    assert read(save({**images("ant", "bee"), name: data})) == ONE


def test_output_of_img2dataset():
    members = {}
    for n in range(4):
        members |= {
            f"{n:09d}.jpg": png(n),
            f"{n:09d}.txt": b"a cat",
            f"{n:09d}.json": b'{"caption": "a cat", "width": 8}',
        }
    rows = parquet(
        pa.table({"key": [f"{n:09d}" for n in range(4)], "caption": ["a cat"] * 4, "width": [8] * 4})
    )
    refused(
        save({"00000.tar": tarred(members), "00000.parquet": rows, "00000_stats.json": "{}"}),
        "00000",
        "label",
    )


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tar.gz", "photos.tgz"])
@pytest.mark.parametrize("wrapper", ["", "photos/"])
def test_archive_of_class_folders(name, wrapper):
    tree = images(*(f"{wrapper}{split}/{label}" for split in ("train",) for label in ("ant", "bee")))
    tree |= images(f"{wrapper}test/ant", f"{wrapper}test/bee", count=2)
    tree["__MACOSX/._0.png"] = b"\0\5\x16\7"
    data = (
        zipped(tree)
        if name.endswith("zip")
        else tarred(tree, "w" if name.endswith("tar") else "w:gz", folders=True)
    )
    assert read(f"{save({name: data})}/{name}") == BOTH


def renamed(change):
    return {change(name): data for name, data in pairs(images("ant", "bee")).items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name,
        lambda name: f"./{name}",
        lambda name: name.replace("png", "PNG").replace("cls", "CLS"),
        lambda name: name.replace(".png", ".image.png"),
        lambda name: f"v1.{name}",
    ],
    ids=["plain", "from a folder", "upper case", ".image.png", "keys with dots"],
)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_webdataset(change, suffix):
    data = tarred(renamed(change), "w:gz" if suffix == "tar.gz" else "w")
    assert read(save({f"train-000000.{suffix}": data})) == ONE


def test_webdataset_with_json_labels():
    members = {}
    for path, data in images("ant", "bee").items():
        label, stem = path[:-4].split("/")
        members |= {f"{label}{stem}.png": data, f"{label}{stem}.json": json.dumps({"label": label}).encode()}
    assert read(save({"train.tar": tarred(members)})) == ONE


def test_folder_of_heic():
    root = save({f"{label}/{n}.heic": b"\0\0\0\x18ftypheic" for label in ("ant", "bee") for n in range(5)})
    refused(root, "10", "heic", "pillow-heif")


def test_some_heic_among_others():
    root = save({**images("ant", "bee"), "ant/a.heic": b"\0\0\0\x18ftypheic"})
    assert "heic" in said(root)


def test_unicode_forms_of_one_name():
    names = {form: unicodedata.normalize(form, "café") for form in ("NFC", "NFD")}
    root = save(
        {
            **images("train/ant", f"train/{names['NFC']}"),
            **images("test/ant", f"test/{names['NFD']}", count=2),
        }
    )
    assert read(root) == (("ant", names["NFC"]), [5, 5], [2, 2])


def test_names_outside_utf_8():
    tree = {os.fsdecode(b"caf\xe9/") + f"{n}.png": png(n) for n in range(5)}
    names, train, test = read(save({**tree, **images("bee"), os.fsdecode(b"bee/\xff.png"): png(200)}))
    assert (len(names), sum(train), sum(test)) == (2, 9, 2)


def test_accents_in_a_terminal_without_them():
    root = save(images("café", "bee"))
    program = f"from ppcore.targets import load_target; t = load_target({root!r}); print(len(t.classes), len(t.train)); t.train.image(0)"
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **ascii_only}, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.returncode) == (["2", "8"], 0), done.stderr


@pytest.mark.parametrize("linked", ["root", "class", "image"])
def test_links(linked):
    """Large collections are often put together from links."""
    root = save(images("ant", "bee"))
    if linked == "root":
        os.symlink("photos", root := "link")
    elif linked == "class":
        os.rename("photos/bee", "elsewhere")
        os.symlink("../elsewhere", "photos/bee")
    else:
        os.rename("photos/bee/0.png", "elsewhere.png")
        os.symlink("../../elsewhere.png", "photos/bee/0.png")
    assert read(root) == ONE


@pytest.mark.parametrize(
    "names", [("007", "7"), ("NA", "null"), ("1e5", "100000"), ("True", "1"), ("2024-01-02", "nan")]
)
@pytest.mark.parametrize("form", ["csv", "metadata", "parquet", "folders"])
def test_names_that_a_table_reader_takes_for_something_else(names, form):
    tree, rows = flat("images", 5)
    rows = [(name, names[label == "bee"]) for name, label in rows]
    if form == "csv":
        tree["labels.csv"] = "image,label\n" + "".join(f"images/{name},{label}\n" for name, label in rows)
    elif form == "metadata":
        tree["images/metadata.csv"] = "file_name,label\n" + "".join(
            f"{name},{label}\n" for name, label in rows
        )
    elif form == "parquet":
        table = pa.table(
            {"image": [tree[f"images/{name}"] for name, _ in rows], "label": [x for _, x in rows]}
        )
        tree = {"all.parquet": parquet(table)}
    else:
        tree = {f"{label}/{name}": tree[f"images/{name}"] for name, label in rows}
    classes, *counts = read(save(tree))
    assert (sorted(classes), counts) == (sorted(names), [[4, 4], [1, 1]])


def test_two_readings_of_groups_and_classes():
    """animals/cat, animals/dog, plants/rose, plants/fern: two classes, or four."""
    root = save(images("animals/cat", "animals/dog", "plants/rose", "plants/fern"))
    both = {("animals", "plants"), ("cat", "dog", "fern", "rose")}
    assert readings(root, "animals", "cat") == both
    assert {read(f"{root}?classes-from=folder:{level}")[0] for level in (1, 2)} == both


@pytest.mark.parametrize(
    "folders",
    [
        ["train", "test"],
        ["images/train", "images/val"],
        ["images", "masks"],
        ["VOC2012/JPEGImages"],
    ],
    ids=["splits", "detection", "masks", "VOC"],
)
def test_folders_that_are_no_classes(folders):
    """Read as classes, they are doubtful; better they are refused."""
    root = save(images(*folders))
    try:
        doubts, message = load_target(root).doubts, ""
    except UserError as error:
        doubts, message = (), str(error)
    assert doubts or root in message
    assert len(message) <= LINES * WIDTH
