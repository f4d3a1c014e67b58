"""VAR against the published code (see parity.py), how tokens are drawn, and the directories that are opened or refused."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import parity
import pytest
import torch
from tiny_models import one_hot

from ppcore.errors import UserError
from ppgen.generators import load_generator
from ppgen.generators.parts.tokens import cumulate, draw_tokens
from ppgen.generators.var import VARConfig, require_var

NAMES = ("var-tiny", "var-tiny-shared")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("var")
    return {name: parity.save_var(root / name, name) for name in NAMES}


def load(folder: Path, **sampling: Any) -> Any:
    return load_generator(str(folder), sampling=sampling)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in parts of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_greedy_images_and_their_logits_equal_the_published_code(folders: dict[str, Path], name: str) -> None:
    io = parity.recorded(name)
    generator = load(folders[name], cfg=1.5, top_k=1)
    logits: list[torch.Tensor] = []
    generator.network.register_forward_hook(lambda *call: logits.append(call[-1]))
    images = generator.sample_float(one_hot(io["labels"].tolist(), 10), torch.tensor([1, 2, 3]))
    for i in range(4):
        assert error(logits[i], io[f"logits_{i}"]) < 1e-5
    assert (images / 2 + 0.5 - io["image"]).abs().max() < 1e-4


def test_cumulating_by_products_equals_cumsum() -> None:
    for size in (1, 63, 64, 4096):
        x = torch.rand(3, 2, size, dtype=torch.float64)
        torch.testing.assert_close(cumulate(x), x.cumsum(-1), rtol=1e-12, atol=0)


def test_tokens_are_drawn_with_their_probabilities() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 10) * 2
    uniform = (torch.arange(100_000, dtype=torch.float64)[None] + 0.5) / 100_000
    drawn = draw_tokens(logits.expand(1, 100_000, 10), uniform, top_k=0, top_p=1.0)
    shares = torch.bincount(drawn[0], minlength=10) / 100_000
    torch.testing.assert_close(shares, logits[0, 0].softmax(0), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (0, 0.6), (12, 0.8)])
def test_truncation_keeps_the_tokens_that_the_published_code_keeps(top_k: int, top_p: float) -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 6, 64)
    kept = []
    for row in logits[0]:  # the published rule in its plainest form
        order = row.sort(descending=True).indices[: top_k or None].tolist()
        shares = row[order].softmax(0).tolist()
        kept.append({k for n, k in enumerate(order) if n == 0 or sum(shares[n:]) > 1 - top_p})
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for i, wanted in enumerate(kept):
        row = logits[:, i : i + 1].expand(1, len(uniform), 64)
        assert set(draw_tokens(row, uniform[None], top_k=top_k, top_p=top_p)[0].tolist()) == wanted


def test_options_change_the_images(folders: dict[str, Path]) -> None:
    condition, seeds = one_hot([1, 2], 10), torch.tensor([5, 6])
    options: tuple[dict[str, float], ...] = ({}, {"cfg": 0}, {"cfg": 4.0}, {"temperature": 0.5}, {"top_k": 3})
    options += ({"top_p": 0.5},)
    images = [load(folders["var-tiny"], **chosen).sample(condition, seeds) for chosen in options]
    assert len({image.numpy().tobytes() for image in images}) == len(options)


def test_every_missing_or_foreign_weight_is_an_error_that_names_it(tmp_path: Path) -> None:
    from ppgen.generators.parts.tokens import MultiScaleDecoder

    cpu, config = torch.device("cpu"), VARConfig((1, 2, 3, 4))
    for name in NAMES:
        state = parity.draw(parity.facts(name)["weights"])
        for removed in state:
            with pytest.raises(UserError, match=removed.replace(".", r"\.")):
                require_var({key: v for key, v in state.items() if key != removed}, config, "here")
        with pytest.raises(UserError, match="unexpected: extra"):
            require_var({**state, "extra": torch.zeros(1)}, config, "here")
        with pytest.raises(
            UserError, match=r"head\.bias \(63,\) instead of|head\.weight \(64, 128\) instead of"
        ):
            require_var({**state, "head.bias": torch.zeros(63)}, config, "here")
    state = parity.draw(parity.facts("var-tiny")["decoder_weights"])
    used = [key for key in state if not key.startswith(("encoder.", "quant_conv."))]
    for removed in used:
        with pytest.raises(UserError, match=removed.replace(".", r"\.")):
            MultiScaleDecoder(
                {k: v for k, v in state.items() if k != removed},
                (1, 2, 3, 4),
                "here",
                cpu,
                torch.float32,
                chunk=8,
                compile_mode="none",
            )


def test_published_files_have_buffers_that_are_made_again(folders: dict[str, Path], tmp_path: Path) -> None:
    condition, seeds = one_hot([3], 10), torch.tensor([5])
    wanted = load(folders["var-tiny"]).sample(condition, seeds)
    folder = parity.save_var(tmp_path)
    state = torch.load(folder / "var_d2.pth", weights_only=True)
    state |= {f"blocks.{i}.attn.zero_k_bias": torch.zeros(128) for i in range(2)}
    state |= {"lvl_1L": torch.zeros(1, 30), "attn_bias_for_masking": torch.zeros(1, 1, 30, 30)}
    torch.save(state, folder / "var_d2.pth")
    decoder = torch.load(folder / "vae_ch32v64z8.pth", weights_only=True)
    torch.save({**decoder, "quantize.ema_vocab_hit_SV": torch.zeros(4, 64)}, folder / "vae_ch32v64z8.pth")
    assert torch.equal(load(folder).sample(condition, seeds), wanted)


@pytest.mark.parametrize(("depth", "tokens", "side"), [(16, 680, 16), (20, 680, 16), (36, 2240, 32)])
def test_published_sizes_are_recognised_by_their_shapes(depth: int, tokens: int, side: int) -> None:
    """The last scale of 256-pixel models has 16 tokens a side, that of 512-pixel models 32."""
    width, shared = 64 * depth, tokens == 2240
    known = parity.facts("var-tiny-shared" if shared else "var-tiny")["weights"]["shapes"]
    sizes = {128: width, 256: 2 * width, 384: 3 * width, 512: 4 * width, 768: 6 * width, 30: tokens}
    sizes |= {64: 4096, 8: 32, 11: 1001, 4: 10, 2: depth}

    def shape(name: str) -> list[int]:
        return [1, 1, 6, width] if name.endswith("ada_gss") else [sizes.get(n, n) for n in known[name]]

    names = {name.replace("blocks.0.", f"blocks.{i}.") for name in known for i in range(depth)}
    state = {n: torch.empty(shape(re_block(n)), device="meta") for n in names}
    scales = require_var(state, VARConfig(), "here")
    assert (scales[-1], len(scales), sum(n * n for n in scales)) == (side, 10, tokens)
    with pytest.raises(UserError, match="patch_nums"):
        require_var({**state, "pos_1LC": torch.empty(1, 30, width, device="meta")}, VARConfig(), "here")


def re_block(name: str) -> str:
    """The name of the same weight in the first block."""
    parts = name.split(".")
    return ".".join(["blocks", "0", *parts[2:]]) if parts[0] == "blocks" else name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cfg": -1.0}, "cfg=-1.0 must be at least 0"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"compile": "graphs"}, "compile='graphs' must be none or default"),
        ({"top_p": 0.0}, "top_p=0.0 must be above 0 and at most 1"),
        ({"guidance": 2.0}, "unknown sampling option 'guidance'"),
    ],
)
def test_options_outside_their_limits(
    folders: dict[str, Path], options: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(folders["var-tiny"], **options)


def test_directories_that_are_refused(tmp_path: Path) -> None:
    folder = parity.save_var(tmp_path)
    (folder / "vae_ch32v64z8.pth").rename(tmp_path / "vae.txt")
    with pytest.raises(UserError, match="weights of a vqvae; found none"):
        load(folder)
    decoder = torch.load(tmp_path / "vae.txt", weights_only=True)
    decoder["quantize.embedding.weight"] = torch.zeros(65, 8)
    torch.save(decoder, folder / "vae.pth")
    with pytest.raises(UserError, match="draws from 64 tokens of 8 values, but"):
        load(folder)
    torch.save(torch.load(folder / "var_d2.pth", weights_only=True), folder / "var_d3.pth")
    with pytest.raises(UserError, match=r"found var_d2\.pth, var_d3\.pth; give each model a folder"):
        load(folder)


def test_one_hot_labels_are_rows_of_the_class_table(folders: dict[str, Path]) -> None:
    from ppgen.generators.parts.family import embed

    table = load(folders["var-tiny"]).network.table
    assert torch.equal(embed(table, one_hot([0, 9, 4], 10)), table[[0, 9, 4]])
    mixed = embed(table, torch.tensor([[0.25, 0.75] + [0.0] * 8]))
    torch.testing.assert_close(mixed[0], 0.25 * table[0] + 0.75 * table[1])


def test_a_compiled_network_has_one_graph_for_each_scale(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks share it, and PyTorch's limit of graphs is no limit of scales."""
    graphs: list[Any] = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = functools.partial(torch.compile, backend=keep)
    monkeypatch.setattr(torch, "compile", compiled)
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        generator = load(folders["var-tiny"], compile="default")
        images = generator.sample_float(one_hot([1, 2], 10), torch.tensor([5, 6]))
    assert len(graphs) == len(generator.network.scales) + 1  # of the decoder
    plain = load(folders["var-tiny"]).sample_float(one_hot([1, 2], 10), torch.tensor([5, 6]))
    torch.testing.assert_close(images, plain, rtol=0, atol=1e-4)
