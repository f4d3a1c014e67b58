"""Which files identify a model, and how large a batch a GPU holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import save_biggan, save_dit

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
