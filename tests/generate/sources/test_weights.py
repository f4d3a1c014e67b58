"""Which files identify a model, and how large a batch a GPU holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file
from tiny_models import one_hot, save_biggan, save_dit, save_text_pipeline

from ppcore.errors import UserError
from ppgen.generators import load_generator
from ppgen.sources import weights_sha256
from ppgen.sources.devices import fitting_batch


def digest(folder: Path) -> str:
    return str(load_generator(str(folder)).describe()["weights_sha256"])


def test_stray_files_decide_nothing_and_loaded_ones_do(tmp_path: Path) -> None:
    folder = save_dit(tmp_path / "dit")
    own = digest(folder)
    for stray in ("old.safetensors", "transformer/pytorch_model.bin", "vae/backup.pt", "notes/x.bin"):
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).write_bytes(b"of another day")
    assert digest(folder) == own
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert digest(folder) != own


def test_biggan_is_identified_by_the_file_it_reads(tmp_path: Path) -> None:
    save_biggan(tmp_path, num_classes=7)
    own = digest(tmp_path)
    (tmp_path / "flax_model.bin").write_bytes(b"the same in another format")
    assert digest(tmp_path) == own


def test_a_model_in_parts_is_all_of_them_and_nothing_outside(tmp_path: Path) -> None:
    part = tmp_path / "unet"
    part.mkdir()
    index = part / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    for name in ("m-1.safetensors", "m-2.safetensors", "m-3.safetensors"):
        (part / name).write_bytes(name.encode())
    own = weights_sha256(tmp_path, "unet")
    (part / "m-3.safetensors").write_bytes(b"stray")
    assert weights_sha256(tmp_path, "unet") == own
    (part / "m-2.safetensors").write_bytes(b"changed")
    assert weights_sha256(tmp_path, "unet") != own
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere"}}))
    with pytest.raises(UserError, match="cannot read"):
        weights_sha256(tmp_path, "unet")


def as_variant(folder: Path, *components: str, pickled: bool = False) -> None:
    """Give the weight files of components the names, and with `pickled` the format, of the variant fp16."""
    for file in [file for name in components for file in (folder / name).glob("*.safetensors")]:
        stem = {"model": "pytorch_model"}.get(file.stem, file.stem) if pickled else file.stem
        if pickled:
            torch.save(load_file(file), file.with_name(f"{stem}.fp16.bin"))
            file.unlink()
        else:
            file.rename(file.with_name(f"{stem}.fp16.safetensors"))


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("components", [("transformer", "vae"), ("vae",)])
def test_weights_of_one_variant_alone_are_taken(
    components: tuple[str, ...], pickled: bool, tmp_path: Path
) -> None:
    """Also where other components have plain files."""
    folder, seeds = save_dit(tmp_path / "dit", num_classes=3), torch.arange(2)

    def images() -> torch.Tensor:
        return load_generator(str(folder), sampling={"steps": 2}).sample(one_hot([0, 2], 3), seeds)

    plain = images()
    before = digest(folder)
    as_variant(folder, *components, pickled=pickled)
    assert torch.equal(images(), plain)
    own = digest(folder)
    assert own != before
    (folder / "vae" / "stray.bin").write_bytes(b"of another day")
    assert digest(folder) == own


@pytest.mark.parametrize("components", [("unet", "vae", "text_encoder"), ("unet",)])
@pytest.mark.parametrize("pickled", [False, True])
def test_text_pipelines_of_one_variant_alone_are_taken(
    components: tuple[str, ...], pickled: bool, tmp_path: Path
) -> None:
    save_text_pipeline(tmp_path)
    as_variant(tmp_path, *components, pickled=pickled)
    sampling = {"class_names": ["dog", "cat"], "steps": 2, "resolution": 16}
    generator = load_generator(str(tmp_path), sampling=sampling)
    assert generator.sample(one_hot([1], 2), torch.arange(1)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("pickled", [False, True])
def test_a_repository_of_one_variant_alone_is_downloaded(
    pickled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = save_dit(tmp_path / "published", num_classes=3)
    as_variant(published, "transformer", pickled=pickled)
    (published / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not needed")
    asked = []

    def snapshot_download(_: str, **how: Any) -> str:
        names = [str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()]
        wanted = filter_repo_objects(
            names, allow_patterns=how["allow_patterns"], ignore_patterns=how["ignore_patterns"]
        )
        asked.append(set(wanted))
        for name in asked[-1]:
            (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(published / name, tmp_path / "cache" / name)
        return str(tmp_path / "cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    generator = load_generator("me/dit", sampling={"steps": 2})
    assert generator.sample(one_hot([0], 3), torch.arange(1)).shape == (1, 3, 16, 16)
    assert "transformer/diffusion_pytorch_model.safetensors" not in asked[0]


GB = 1 << 30


def dit_512(count: int) -> int:
    """Bytes at the peak: 60 MB of latents and activations a sample, 1.5 GB an image of a chunk of 32 being decoded."""
    return 60_000_000 * count + 1_500_000_000 * min(count, 32)


def test_the_decoder_s_memory_is_counted_once_a_chunk() -> None:
    assert fitting_batch(dit_512, 80 * GB) == 32  # as two and four see it: all of it once a sample
    assert fitting_batch(dit_512, 160 * GB, decode_batch=32) == 512
    assert dit_512(512) < 0.6 * 160 * GB


def test_trials_that_do_not_fit_give_way_to_smaller_ones() -> None:
    tried: list[int] = []

    def peak(count: int) -> int:
        tried.append(count)
        if dit_512(count) > 40 * GB:
            raise torch.OutOfMemoryError
        return dit_512(count)

    assert fitting_batch(peak, 40 * GB, decode_batch=32) == 16
    assert tried == [32, 8, 16]
    assert fitting_batch(lambda n: 10**12 * n, 40 * GB, decode_batch=32) == 1
