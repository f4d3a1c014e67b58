"""Data of one's own, in the habits of image folders, CSV files and hub repositories."""

import pytest
from miniatures import png
from PIL import Image

from ppcore.errors import UserError
from ppcore.targets import load_target, read_files, usual_channels, usual_side


def write(root, *names, value=9):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(value))


def table(file, *rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("train", "val"),
        ("training", "validation"),
        ("train", "valid"),
        ("Train", "Test"),
        ("TRAIN", "testing"),
    ],
)
def test_split_folders_by_any_usual_name(train, test, tmp_path):
    write(tmp_path, *(f"{train}/{c}/{i}.png" for c in ("ant", "bee") for i in range(3)))
    write(tmp_path, *(f"{test}/{c}/{i}.png" for c in ("ant", "bee") for i in range(2)))
    target = load_target(str(tmp_path))
    assert (target.classes, len(target.train), len(target.test)) == (("ant", "bee"), 6, 4)
    assert target.train.ids[0] == f"{train}/ant/0.png"


def test_test_comes_before_val_and_val_is_said_to_be_unused(tmp_path):
    for split in ("train", "val", "test"):
        write(tmp_path, f"{split}/ant/{split}.png", f"{split}/bee/{split}.png")
    target = load_target(str(tmp_path))
    assert target.test.ids == ["test/ant/test.png", "test/bee/test.png"]
    assert target.notes[1:] == ("the 2 images of val are not used",)


def test_an_archive_that_wraps_its_splits_in_a_folder(tmp_path):
    write(tmp_path, "birds/train/ant/a.png", "birds/train/bee/a.png", "birds/test/ant/a.png")
    (tmp_path / "__MACOSX").mkdir()
    target = load_target(str(tmp_path))
    assert (len(target.train), target.test.ids) == (2, ["birds/test/ant/a.png"])


def test_a_class_may_be_called_train(tmp_path):
    write(tmp_path, *(f"{c}/{i}.png" for c in ("bus", "train") for i in range(5)))
    target = load_target(str(tmp_path))
    assert target.classes == ("bus", "train")
    assert (len(target.train), len(target.test)) == (8, 2)


def test_a_name_of_ones_own(tmp_path):
    write(tmp_path, *(f"{c}/{i}.png" for c in ("ant", "bee") for i in range(5)))
    assert load_target(f"insects={tmp_path}").name == "insects"
    assert load_target(f"insects={tmp_path}").train.ids == load_target(str(tmp_path)).train.ids


def test_a_folder_with_an_equals_sign_stays_a_folder(tmp_path, monkeypatch):
    write(tmp_path, *(f"lr=1/{c}/{i}.png" for c in ("ant", "bee") for i in range(5)))
    monkeypatch.chdir(tmp_path)
    assert load_target("lr=1").classes == ("ant", "bee")


def test_csv_beside_a_folder_of_images(tmp_path):
    write(tmp_path, *(f"images/{i}.png" for i in range(4)))
    table(tmp_path / "train.csv", "filename,label", "0.png,bee", "1.png,ant", "2.png,bee")
    table(tmp_path / "test.csv", "filename,label", "3.png,bee")
    target = load_target(str(tmp_path))
    assert target.classes == ("ant", "bee")
    assert (target.train.labels.tolist(), target.test.labels.tolist()) == ([0, 1, 1], [1])
    assert target.train.ids == ["images/1.png", "images/0.png", "images/2.png"]
    assert target.train.image(0)[0, 0, 0] == 9


def test_csv_with_a_split_column_numbers_and_names_without_suffix(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(4)))
    rows = ("Image_ID,split,Label", "0,train,10", "1,train,9", "2,val,9", "3,test,10")
    table(tmp_path / "labels.csv", *rows)
    target = load_target(str(tmp_path / "labels.csv"))
    assert target.classes == ("9", "10")
    assert (target.train.labels.tolist(), target.test.ids) == ([0, 1], ["3.png"])
    assert target.notes[1:] == ("the 1 images of val are not used",)


def test_csv_without_splits_holds_out_a_fifth(tmp_path):
    write(tmp_path, *(f"images/{i}.png" for i in range(10)))
    table(tmp_path / "data.tsv", "image\tclass", *(f"images/{i}.png\t{'ab'[i % 2]}" for i in range(10)))
    target = load_target(str(tmp_path))
    assert (len(target.train), len(target.test)) == (8, 2)


def test_class_folders_win_over_a_stray_csv(tmp_path):
    write(tmp_path, *(f"{c}/{i}.png" for c in ("ant", "bee") for i in range(5)))
    table(tmp_path / "metadata.csv", "file,label", "ant/0.png,x")
    assert load_target(str(tmp_path)).classes == ("ant", "bee")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("picture,kind", "0.png,a"), "has the columns picture, kind, expected files"),
        (("image,label",), "lists no images"),
        (("image,label", "0.png,a", "gone.png,a"), r"row 3, lists 'gone\.png', which does not exist"),
        (("image,label", "gone.png,a"), "row 2, lists .gone.png., which does not exist"),
        (("image,label", "0.png,a", "1.png"), "row 3, has 1 columns, expected 2"),
        (("image,label", "0.png,a", "../out.png,a"), "row 3, lists .../out.png., which is outside"),
        (("image,label", "/etc/passwd,a"), "row 2, lists ./etc/passwd., which does not exist below"),
        (
            ("image,label,split", "0.png,a,train", "1.png,b,test"),
            "classes that no training image has: b",
        ),
    ],
)
def test_csv_that_cannot_be(rows, message, tmp_path):
    write(tmp_path, "data/0.png", "data/1.png", "out.png")
    table(tmp_path / "data/list.csv", *rows)
    with pytest.raises(UserError, match=message):
        load_target(str(tmp_path / "data/list.csv"))


def test_colour_unless_all_images_are_grey(tmp_path):
    write(tmp_path, *(f"{c}/{i:03d}.png" for c in ("ant", "bee") for i in range(150)))
    images = read_files(str(tmp_path)).train
    assert (usual_channels(images), usual_side(images)) == (1, 8)
    Image.new("RGB", (30, 20)).save(tmp_path / "bee" / "149.png")
    assert (usual_channels(images), usual_side(images)) == (3, 8)
    Image.new("RGB", (30, 20)).save(tmp_path / "ant" / "000.png")
    assert usual_side(images) == 8


def test_tables_of_kaggle_with_ids_beside_folders_of_splits(tmp_path):
    """The sample submission has labels, too, but they are not those of the images."""
    write(tmp_path, *(f"train/{i}.png" for i in range(10)), *(f"test/{i}.png" for i in range(10, 14)))
    table(tmp_path / "train_labels.csv", "id,label", *(f"{i},{'ab'[i % 2]}" for i in range(10)))
    table(tmp_path / "sample_submission.csv", "id,label", *(f"{i},a" for i in range(10, 14)))
    target = load_target(str(tmp_path))
    assert (target.classes, len(target.train), len(target.test)) == (("a", "b"), 8, 2)
    assert "sample_submission.csv is not used: other files are called train" in target.notes
    assert "4 images are not used: no table lists them" in target.notes


def test_images_that_no_table_lists_are_counted(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(10)))
    table(tmp_path / "labels.csv", "file,label", "0.png,a", "1.png,b", "2.png,a")
    assert "7 images are not used: no table lists them" in load_target(str(tmp_path)).doubts


def test_a_row_that_lists_an_image_again(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(3)))
    table(tmp_path / "labels.csv", "file,label", "0.png,a", "1.png,b", "0.png,a")
    target = load_target(str(tmp_path))
    assert len(target.train) == 2
    assert "1 rows of labels.csv are not used: other rows list the same images" in target.notes
    table(tmp_path / "labels.csv", "file,label", "0.png,a", "1.png,b", "0.png,b")
    with pytest.raises(UserError, match=r"row 4, gives 0.png the label 'b', another row 'a'"):
        load_target(str(tmp_path))


def test_classes_by_a_regular_expression(tmp_path):
    write(tmp_path, *(f"{c}.{i}.png" for c in ("cat", "dog") for i in range(5)))
    with pytest.raises(UserError, match="or --classes-from regex:PATTERN"):
        load_target(str(tmp_path))
    assert load_target(f"{tmp_path}?classes-from=regex:([a-z]%2B)").classes == ("cat", "dog")
    with pytest.raises(UserError, match=r"dog.0.png has no class by --classes-from"):
        load_target(f"{tmp_path}?classes-from=regex:(cat)")


def test_a_table_that_lists_the_images_of_class_folders_is_not_passed_over_in_silence(tmp_path):
    write(tmp_path, *(f"{c}/{i}.png" for c in ("ant", "bee") for i in range(5)))
    table(tmp_path / "splits.csv", "file,part", "ant/0.png,train", "bee/0.png,test")
    table(tmp_path / "scores.csv", "id,part", "a,1")
    (doubt,) = load_target(str(tmp_path)).doubts
    assert doubt == "splits.csv lists images, but it is not used: none of its columns is known to hold labels"


def test_a_last_row_that_may_be_cut_off(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(4)))
    rows = ["file,label", "0.png,rose", "1.png,tulip", "2.png,rose", "3.png,tu"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    (doubt,) = load_target(str(tmp_path)).doubts
    assert doubt.startswith("labels.csv may be cut off")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    assert load_target(str(tmp_path)).doubts == ()
