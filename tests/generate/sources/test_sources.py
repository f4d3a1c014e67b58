"""How a source is found, named, aligned with a classifier, and refused."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import one_hot, save_biggan, save_dit, save_unet

from ppcore.errors import UserError
from ppcore.kits import KITS, Kit, KitFile
from ppgen.generators import load_generator
from ppgen.sources import Generator
from ppgen.sources.models import find_family, find_licence

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline hub whose cache holds the repository me/dit at COMMIT, called main."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--me--dit"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = save_dit(
        repository / "snapshots" / COMMIT, num_classes=3, names=["tench, Tinca tinca", "crane", "crane"]
    )
    (folder / "README.md").write_text("---\nlicense: mit\n---\nA model.\n")
    return folder


def test_cached_hub_models_work_offline(hub: Path) -> None:
    for revision in (None, "main", COMMIT):
        generator = load_generator("me/dit", revision=revision, sampling={"steps": 2})
        assert generator.revision == COMMIT
        assert generator.licence == "mit"
        assert generator.class_names == ("tench, Tinca tinca", "crane", "crane")
    assert generator.sample(one_hot([2], 3), torch.arange(1)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("source", ["me/other", "dit-xl-2-256", "cd-imagenet-64", "biggan-deep-256"])
def test_weights_that_cannot_be_had_are_said_so(hub: Path, source: str) -> None:
    with pytest.raises(UserError, match="--source letters"):
        load_generator(source)


def test_an_unknown_revision_is_said_so(hub: Path) -> None:
    with pytest.raises(UserError, match="cannot be downloaded"):
        load_generator("me/dit", revision="f" * 40)


@pytest.fixture
def hub_of_var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline hub whose cache holds two models and their autoencoder in one repository; the kits d2 and d3 are these models."""
    from huggingface_hub import constants
    from parity import save_var

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = save_var(tmp_path / "models--me--var" / "snapshots" / COMMIT)
    (folder / "var_d3.pth").write_bytes((folder / "var_d2.pth").read_bytes())
    for depth in ("2", "3"):
        names = [f"var_d{depth}.pth", "vae_ch32v64z8.pth", "config.json"]
        files = {
            name: KitFile((folder / name).stat().st_size, sha256((folder / name).read_bytes()).hexdigest())
            for name in names
        }
        kit = Kit(f"d{depth}", "var", "me/var", "", "MIT", True, 64, revision=COMMIT, files=files)
        monkeypatch.setitem(KITS, f"d{depth}", kit)
    return folder


def test_a_kit_takes_its_own_files_out_of_a_repository_of_several_models(hub_of_var: Path) -> None:
    generator = load_generator("d3")
    assert (generator.licence, generator.revision, generator.num_classes) == ("MIT", COMMIT, 10)
    (hub_of_var / "var_d2.pth").unlink()
    with pytest.raises(UserError, match="me/var cannot be downloaded"):
        load_generator("d2")


@pytest.mark.parametrize("damage", ["size", "content"])
def test_a_downloaded_file_is_checked_once_and_removed_if_it_is_another(
    hub_of_var: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    import huggingface_hub

    load_generator("d2")
    file = hub_of_var / "var_d2.pth"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content + b"more" if damage == "size" else content)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)  # as if it were new
    with pytest.raises(UserError, match=r"is not the file that this version knows \(\w+ \w+ \w* ?instead of"):
        load_generator("d2")
    assert not file.exists()
    assert (hub_of_var / "var_d3.pth").exists()


def test_code_from_a_repository_needs_leave_and_a_pinned_commit(hub: Path) -> None:
    index = hub / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": ["pipeline", "Own"]}))
    with pytest.raises(UserError, match="trust-remote-code"):
        load_generator("me/dit")
    with pytest.raises(UserError, match="fixed commit"):
        load_generator("me/dit", trust_remote_code=True, revision="main")


def test_pickles_with_code_in_them_do_not_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    save_biggan(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"embeddings.weight": Evil()}))
    with pytest.raises(UserError, match="cannot be read"):
        load_generator(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_damaged_directories_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no known generator"):
        load_generator(str(tmp_path))
    folder = save_dit(tmp_path / "dit")
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_generator(str(folder))
    (folder / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        load_generator(str(folder))
    network = save_biggan(tmp_path / "biggan")
    state = network.state_dict()
    del state["generator.layers.0.bn_0.running_means"]
    torch.save(state, tmp_path / "biggan" / "pytorch_model.bin")
    with pytest.raises(UserError, match="missing: generator"):
        load_generator(str(tmp_path / "biggan"))
    config = json.loads((tmp_path / "biggan" / "config.json").read_text())
    (tmp_path / "biggan" / "config.json").write_text(json.dumps({**config, "channel_width": 4}))
    with pytest.raises(UserError):
        load_generator(str(tmp_path / "biggan"))


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": []},
        {"_class_name": ["a"]},
        {"_class_name": {"a": 1}},
        {"_class_name": "X", "unet": 5},
        {"_class_name": "X", "unet": ["diffusers", {}]},
        ["DiTPipeline"],
    ],
    ids=str,
)
def test_an_index_of_other_types_is_refused(index: Any, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="cannot read"):
        find_family(tmp_path, "here", trust_remote_code=True)


@pytest.mark.parametrize(
    ("index", "family"),
    [
        ({"_class_name": "DiTPipeline", "scheduler": ["diffusers", "X"]}, "dit"),
        ({"_class_name": "Own", "unet": ["diffusers", "UNet2DModel"], "requires": None}, "unet"),
        ({"_class_name": "Own", "unet": ["diffusers", "Other"], "text_encoder_2": ["a", "b"]}, "text"),
        ({"_class_name": ["file", "Own"]}, "text"),
    ],
    ids=str,
)
def test_the_index_names_the_family(index: Any, family: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert find_family(tmp_path, "here", trust_remote_code=True) == family


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\ntext", "mit"),
        ('---\nlicence: "CC0-1.0"\n---\n', "CC0-1.0"),
        ("---\nlicense: [mit]\n---\n", "unknown"),
        ("---\n: : :\n- [\n---\n", "unknown"),
        ("---\n- a\n---\n", "unknown"),
        ("no header", "unknown"),
        ("\ufeff", "unknown"),
    ],
)
def test_the_licence_is_the_card_s(card: str, licence: str, tmp_path: Path) -> None:
    assert find_licence(tmp_path) == "unknown"
    (tmp_path / "README.md").write_text(card)
    assert find_licence(tmp_path) == licence


def test_a_kit_directory_brings_names_licence_and_sampling(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    save_unet(tmp_path / "generator", DDIMScheduler(), rows=4)
    kit = {
        "name": "mine",
        "family": "unet",
        "generator": "generator",
        "classifier": "",
        "licence": "CC0-1.0",
        "commercial": True,
        "resolution": 16,
        "class_names": ["a", "b", "c"],
        "sampling": {"steps": 3, "guidance": 1.0},
    }
    (tmp_path / "kit.json").write_text(json.dumps(kit))
    generator = load_generator(str(tmp_path), sampling={"guidance": 2.0})
    assert (generator.class_names, generator.num_classes, generator.licence) == (
        ("a", "b", "c"),
        3,
        "CC0-1.0",
    )
    sampling = generator.describe()["sampling"]
    assert (sampling["steps"], sampling["guidance"], sampling["solver"]) == (3, 2.0, "dpmpp_2m")


def test_imagenet_names_can_be_asked_for(tmp_path: Path) -> None:
    save_biggan(tmp_path, num_classes=1000)
    assert load_generator(str(tmp_path)).class_names[1] == "1"
    assert load_generator(str(tmp_path), sampling={"class_names": "imagenet"}).class_names[1] == "goldfish"


# ---- a user's own generator: the functions below are what `test_sources:NAME` finds


def make_plain(num: int = 2, device: Any = None) -> Any:
    """The least a generator may be."""

    def sample(condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        return torch.full((len(seeds), 1, 4, 4), int(condition.argmax()), dtype=torch.uint8)

    assert isinstance(device, torch.device)
    return SimpleNamespace(num_classes=num, resolution=4, channels=1, sample=sample)


def make_nothing() -> int:
    return 3


def test_a_callable_makes_a_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "own_generators", sys.modules[__name__])
    generator = load_generator("own_generators:make_plain", sampling={"num": 5}, device="cpu")
    assert isinstance(generator, Generator)
    assert (generator.class_names, generator.licence) == (tuple("01234"), "unknown")
    assert generator.sample(one_hot([3], 5), torch.arange(1)).unique().tolist() == [3]
    assert generator.describe() == {
        "family": "callable",
        "callable": "own_generators:make_plain",
        "sampling": {"num": 5},
    }
    with pytest.raises(UserError, match="does not take"):
        load_generator("own_generators:make_plain", sampling={"size": 5})
    with pytest.raises(UserError, match="without num_classes"):
        load_generator("own_generators:make_nothing")
    with pytest.raises(UserError, match="cannot import"):
        load_generator("own_generators:make_what")


# ---- devices


def test_unknown_devices_and_number_types_are_refused() -> None:
    with pytest.raises(UserError, match="unknown device"):
        load_generator("letters", device="abacus")
    with pytest.raises(UserError, match="number type"):
        load_generator("letters", device="cpu", dtype="int8")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            load_generator("letters", device="cuda")


def test_the_batch_fits_the_memory() -> None:
    from ppgen.sources.devices import automatic_batch_size, fitting_batch

    assert fitting_batch(lambda n: 1000 + 10 * n, 100_000) == 512
    assert fitting_batch(lambda n: 1000 + 100 * n, 15_000) == 64  # 80 fit
    assert fitting_batch(lambda n: 10**9 * n, 100) == 1
    assert automatic_batch_size(load_generator("letters", device="cpu")) == 100
