"""LightningDiT and VA-VAE against the plainest computation of the same (lightningdit.py), and what is opened or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightningdit as reference
import pytest
import torch
from tiny_models import one_hot

from ppcore.errors import UserError
from ppgen.generators import lightningdit, load_generator
from ppgen.generators.parts import diffusion
from ppgen.generators.parts.diffusion import DiffusionOptions
from ppgen.generators.sit import SiTConfig, read_network, require_sit

CPU = torch.device("cpu")
NETWORK, DECODER, STATISTICS = reference.make_states()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.save_lightningdit(tmp_path_factory.mktemp("lightningdit"))


def load(folder: Path, **sampling: Any) -> Any:
    return load_generator(str(folder), sampling=sampling)


def make_decoder(state: dict[str, torch.Tensor], statistics: dict[str, torch.Tensor]) -> Any:
    return lightningdit.read_vavae(
        state, statistics, 8, "here", CPU, torch.float32, chunk=2, compile_mode="none"
    )


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in parts of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_one_evaluation_equals_the_plain_computation() -> None:
    torch.manual_seed(0)
    x, times, labels = torch.randn(4, 8, 4, 4), torch.tensor([0.0, 0.21, 0.5, 0.97]), [0, 3, 9, 10]
    shape, _ = require_sit(NETWORK, SiTConfig(), "here")
    assert shape == (8, 4, 4)
    schedule = lightningdit.make_schedule(DiffusionOptions(solver="flow_euler", steps=4))
    schedule = replace(schedule, timesteps=tuple(times.tolist()))
    network = read_network(
        NETWORK, SiTConfig(), schedule, shape, device=CPU, dtype=torch.float32, compile_mode="none"
    )
    classes = NETWORK["y_embedder.embedding_table.weight"][labels]
    with torch.inference_mode():
        rows = [network.predict(x[i : i + 1], i, classes[None, i : i + 1], guided=False) for i in range(4)]
    assert error(torch.cat(rows), reference.velocity(NETWORK, x, times, classes)) < 1e-5


@pytest.mark.parametrize(("guidance", "start", "channels"), [(6.7, 0.125, 3), (1.5, 0.0, 8), (1.0, 1.0, 8)])
def test_sampling_equals_the_plain_computation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, guidance: float, start: float, channels: int
) -> None:
    """The first row is the published setting."""
    noise = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(3))
    interval = [0.0, (1 - start) / start] if start else None
    generator = load(
        folder,
        solver="flow_euler",
        steps=9,
        guidance=guidance,
        guidance_interval=interval,
        guidance_channels=channels,
    )
    monkeypatch.setattr(
        diffusion, "PerSampleNoise", lambda seeds: type("Noise", (), {"randn": lambda *_, **__: noise})()
    )
    images = generator.sample_float(one_hot([2, 7], 10), torch.arange(2))
    latents = reference.sample(NETWORK, noise, torch.tensor([2, 7]), 9, guidance, start, channels)
    assert error(images, reference.decode(DECODER, STATISTICS, latents)) < 1e-4


def test_images_of_latents_equal_the_plain_computation() -> None:
    latents = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        found = make_decoder(DECODER, STATISTICS)(latents)
    assert error(found, reference.decode(DECODER, STATISTICS, latents)) < 1e-5


def test_one_hot_labels_are_rows_of_the_table(folder: Path) -> None:
    network = load(folder, steps=1)._network
    assert torch.equal(
        network.embed(one_hot([4, 0], 10))[0], NETWORK["y_embedder.embedding_table.weight"][[4, 0]]
    )


def wrong(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """(a weight, the state dict without it, or with it in another shape, or with a further one of that name)."""
    for name, tensor in state.items():
        yield name, {key: value for key, value in state.items() if key != name}
        yield name, {**state, name: torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 1)}
    yield "decoder.more", {**state, "decoder.more": torch.zeros(1)}


@pytest.mark.parametrize(
    ("whole", "check"),
    [
        (NETWORK, lambda state: require_sit(state, SiTConfig(), "here")),
        (DECODER, lambda state: make_decoder(state, STATISTICS)),
        (STATISTICS, lambda state: make_decoder(DECODER, state)),
    ],
    ids=["network", "decoder", "statistics"],
)
def test_every_missing_or_foreign_weight_is_an_error_that_names_it(
    whole: dict[str, torch.Tensor], check: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    check(whole)
    for name, state in wrong(whole):
        with pytest.raises(UserError) as caught:
            check(state)
        assert name in str(caught.value)


def test_files_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = reference.save_lightningdit(tmp_path)
    assert load(folder, steps=1).describe()["family"] == "lightningdit"
    statistics, decoder = folder / "latents_stats.pt", folder / "vavae-tiny.pt"
    statistics.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"there is no file .*latents_stats\.pt"):
        load(folder)
    (tmp_path / "elsewhere").rename(statistics)
    narrow = dict(DECODER)
    narrow["post_quant_conv.weight"], narrow["post_quant_conv.bias"] = torch.zeros(4, 4, 1, 1), torch.zeros(4)
    narrow["decoder.conv_in.weight"] = torch.zeros(128, 4, 3, 3)
    torch.save(narrow, decoder)
    torch.save({"mean": torch.zeros(1, 4, 1, 1), "std": torch.ones(1, 4, 1, 1)}, statistics)
    with pytest.raises(
        UserError,
        match=r"vavae-tiny\.pt and latents_stats\.pt in .*decoder\.conv_in\.weight \(128, 4, 3, 3\) instead of \(128, 8, 3, 3\)",
    ):
        load(folder)
    decoder.unlink()
    with pytest.raises(UserError, match="weights of a vavae; found none"):
        load(folder)
