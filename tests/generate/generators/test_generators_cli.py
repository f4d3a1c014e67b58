"""The commands through real model formats, end to end."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightningdit import save_lightningdit
from parity import save_sit, save_var
from PIL import Image
from tiny_models import save_biggan, save_dit

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.cli.commands import app


def call(*args: str) -> None:
    """The command in this process; UserError passes through."""
    app(args=list(args), standalone_mode=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def samples(root: Path) -> list[tuple[int | None, np.ndarray | None, Image.Image]]:
    """(class, soft label, image) of every sample of a shard directory."""
    from ppcore.shards.tars import iter_tar

    found = []
    shards = ShardSet.open(str(root))
    for shard in shards.shards:
        with (root / shard.path).open("rb") as handle:
            found += [(s.label, s.soft, Image.open(io.BytesIO(s.image))) for s in iter_tar(handle)]
    return found


def test_synth_through_a_dit_of_a_thousand_classes(here: Path) -> None:
    save_dit(here / "dit", num_classes=1000)
    call(
        *(
            "synth",
            "--source",
            "dit",
            "--classes",
            "1000",
            "--per-class",
            "2",
            "--out",
            "out",
            "--device",
            "cpu",
        ),
        *("--sampler", "steps=2", "--sampler", "guidance_interval=null", "--workers", "1", "--seed", "3"),
    )
    made = samples(here / "out")
    counts = np.bincount([int(cls) for cls, _, _ in made if cls is not None], minlength=1000)
    assert counts.tolist() == [2] * 1000
    assert {image.size for _, _, image in made} == {(16, 16)}
    assert {image.mode for _, _, image in made} == {"RGB"}
    source = ShardSet.open(str(here / "out")).plan["source"]
    assert source["family"] == "dit"
    assert source["sampling"]["steps"] == 2
    call("verify", "out", "--regenerate", "1", "--source", "dit")


@pytest.mark.parametrize("family", ["sit", "lightningdit", "var"])
def test_samples_depend_on_their_label_and_seed_alone(here: Path, family: str) -> None:
    """Two workers make the bytes of one, another order of shards and another batch size the same images."""
    {"sit": save_sit, "lightningdit": save_lightningdit, "var": save_var}[family](here / family)
    few = ("--sampler", "steps=2") if family != "var" else ()
    common = ("synth", "--source", family, "--per-class", "1", "--device", "cpu", *few)
    call(*common, "--workers", "2", "--batch-size", "4", "--samples-per-shard", "4", "--out", "two")
    call(*common, "--workers", "1", "--batch-size", "4", "--samples-per-shard", "4", "--out", "one")
    tars = [sorted((here / out / "shards").iterdir()) for out in ("two", "one")]
    assert [path.read_bytes() for path in tars[0]] == [path.read_bytes() for path in tars[1]]
    assert len(tars[0]) == 3
    call("verify", "two", "--regenerate", "10", "--source", family)
    call(*common, "--workers", "1", "--batch-size", "1", "--samples-per-shard", "10", "--out", "single")
    other = [np.asarray(image, dtype=int) for _, _, image in samples(here / "single")]
    same = [np.asarray(image, dtype=int) for _, _, image in samples(here / "one")]
    assert max(np.abs(a - b).max() for a, b in zip(other, same, strict=True)) <= 1
    assert len({image.tobytes() for image in same}) == 10


def test_pseudo_through_biggan_and_a_torchvision_checkpoint(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torchvision

    save_biggan(here / "biggan", num_classes=12)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=12).state_dict(), here / "resnet.pth")
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (here / "target" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "target" / name / f"{i}.png")
    common = ("--source", "biggan", "--target", "target", "--device", "cpu", "--workers", "1")
    call("pseudo", *common, "--classifier", "resnet18@resnet.pth", "--per-image", "3", "--out", "out")
    share = re.search(r"soft labels: .* embeddings have (0\.\d\d) of the norm", capsys.readouterr().out)
    assert share is not None
    assert 0.1 < float(share[1]) < 0.8  # 12 nearly equal probabilities
    call(
        "plan",
        "pseudo",
        *common,
        "--classifier",
        "resnet18@resnet.pth",
        "--sampler",
        "keep_norm=true",
        "--no-calibrate",
    )
    assert "embeddings have 1.00 of the norm" in capsys.readouterr().out
    call(
        "plan",
        "pseudo",
        *common,
        "--classifier",
        "resnet18@resnet.pth",
        "--condition",
        "draw",
        "--no-calibrate",
    )
    assert "of the norm" not in capsys.readouterr().out  # one class is drawn, nothing is mixed
    made = samples(here / "out")
    assert len(made) % 3 == 0
    assert made
    assert {image.size for _, _, image in made} == {(32, 32)}
    for cls, soft, _ in made:
        assert cls is None
        assert soft is not None
        assert soft.shape == (12,)
        assert soft.sum() == pytest.approx(1, abs=1e-3)
    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), here / "other.pth")
    with pytest.raises(UserError, match="10 classes"):
        call("pseudo", *common, "--classifier", "resnet18@other.pth", "--per-image", "1", "--out", "refused")
    assert not (here / "refused").exists()


def test_label_spaces_are_aligned_by_class_id(here: Path) -> None:
    """The same classifier with its classes in another order, or under other names with a map, conditions alike."""
    import dataclasses

    from ppcore.classifiers import ClassifierSpec, build, save_classifier

    names = [f"class {k}" for k in range(12)]
    save_biggan(here / "biggan", num_classes=12)
    torch.manual_seed(0)
    network = build("small", 12, 3).eval()
    spec = ClassifierSpec("small", tuple(names), 3, 32, mean=(0.5,) * 3, std=(0.5,) * 3)
    save_classifier(here / "same", network, spec)
    save_classifier(
        here / "other", network, dataclasses.replace(spec, class_names=tuple(n.upper() for n in names))
    )
    with torch.no_grad():
        network.fc.weight.copy_(network.fc.weight.flip(0))
        network.fc.bias.copy_(network.fc.bias.flip(0))
    save_classifier(here / "turned", network, dataclasses.replace(spec, class_names=tuple(names[::-1])))
    save_classifier(
        here / "wrong", network, dataclasses.replace(spec, class_names=tuple(f"thing {k}" for k in range(12)))
    )
    (here / "target" / "only").mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
        here / "target/only/0.png"
    )
    (here / "map.csv").write_text("".join(f"{name.upper()},{name}\n" for name in names))

    def soft(classifier: str, *more: str) -> np.ndarray:
        out = f"out-{classifier}"
        call(
            *(
                "pseudo",
                "--source",
                "biggan",
                "--sampler",
                f"class_names={names}",
                "--target",
                "target",
                "--device",
                "cpu",
            ),
            *("--per-image", "1", "--workers", "1", "--classifier", classifier, "--out", out, *more),
        )
        row = samples(here / out)[0][1]
        assert row is not None
        return row

    expected = soft("same")
    assert expected.std() > 0.001
    np.testing.assert_allclose(soft("turned"), expected, atol=1e-3)
    np.testing.assert_allclose(soft("other", "--class-map", "map.csv"), expected, atol=1e-3)
    with pytest.raises(UserError, match="class mapping"):
        soft("wrong")


def test_licences_can_be_refused_before_anything_is_fetched(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="licence 'CC-BY-NC"):
        call("synth", "--allow-licence", "MIT", "--allow-licence", "Apache-2.0")
    call("sources", "--allow-licence", "commercial")
    shown = capsys.readouterr().out
    assert "letters" in shown
    assert re.search(r"^dit-xl", shown, re.MULTILINE) is None
