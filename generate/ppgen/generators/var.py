"""VAR (Tian et al. 2024): tokens of one scale after the other, from coarse to fine, from the published `.pth` files.

A directory holds `var_d16.pth` (or another depth) and the autoencoder `vae_ch160v4096z32.pth`. Against the published code: every token is
drawn from its sample's own seed, the adaptive-norm parameters are computed once for all scales, and keys and values are stored in
tensors of fixed size. Every scale has fixed shapes, so that a block can be compiled once for each scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ppcore.classifiers import read_weights
from ppcore.errors import UserError
from ppcore.seeds import PerSampleNoise
from ppgen.generators.parts.family import FamilyGenerator, check_condition, choose_names, embed
from ppgen.generators.parts.networks import compile_network
from ppgen.generators.parts.published import State, require_shapes
from ppgen.generators.parts.tokens import MultiScaleDecoder, draw_tokens
from ppgen.generators.parts.transformer import InferenceLinear
from ppgen.sources import Generator, Source, find_weights, read_config, read_options

PUBLISHED_SCALES = {
    680: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),  # 256 pixels
    2240: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),  # 512 pixels
}
"""Tokens of an image -> sides of the published models' scales."""
_LARGEST_SCALE = math.log(100)  # of the attention logits, as the published code limits it
_BUFFERS = re.compile(
    r"lvl_1L|attn_bias_for_masking|blocks\.\d+\.attn\.zero_k_bias"
)  # not trained, made again
_CPU_MEMORY = 4 << 30  # bytes of keys and values in a batch on a CPU


@dataclass(frozen=True)
class VAROptions:
    """Sampling options.

    Attributes:
        cfg: guidance as the published code counts it: at scale i of S the logits are (1 + t) * conditional - t * unconditional with
            t = cfg * i / (S - 1). 0 is no guidance and takes half the time.
        temperature: divides the logits; below 1 the images vary less.
        top_k: draw from the k likeliest tokens; 0 for all.
        top_p: draw from the likeliest tokens that hold this share of the probability; 1 for all.
        class_names: K names where the source has none, or `imagenet`.
        keep_norm: scale the mixed class embedding of a soft label, see :func:`ppgen.generators.parts.family.embed`.
        decode_batch: images that the autoencoder decodes at a time.
        compile: `none` or `default`, see :func:`ppgen.generators.parts.networks.compile_network`.
    """

    cfg: float = 1.5
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    class_names: tuple[str, ...] | str = ()
    keep_norm: bool = False
    decode_batch: int = 8
    compile: str = "none"

    def __post_init__(self) -> None:
        limits = {
            "cfg": (self.cfg >= 0, "at least 0"),
            "temperature": (self.temperature > 0, "above 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "decode_batch": (self.decode_batch >= 1, "at least 1"),
            # CUDA graphs do not allow that keys and values are written into a tensor from outside.
            "compile": (self.compile in ("none", "default"), "none or default"),
        }
        for name, (fits, what) in limits.items():
            if not fits:
                raise UserError(f"sampling option {name}={getattr(self, name)!r} must be {what}")


@dataclass(frozen=True)
class VARConfig:
    """The field of an optional config.json.

    Attributes:
        patch_nums: side of every scale, where the model is none of the published ones.
    """

    patch_nums: tuple[int, ...] = ()


class VARBlock(nn.Module):
    """One transformer block. Queries and keys have length 1, so the attention logits are cosines times a learnt scale for each head.

    Args:
        scale: (1, H, 1, 1), the scales.
    """

    scale: torch.Tensor

    def __init__(
        self, qkv: nn.Module, project: nn.Module, feed_forward: nn.Module, scale: torch.Tensor
    ) -> None:
        super().__init__()
        self.qkv, self.project, self.feed_forward = qkv, project, feed_forward
        self.register_buffer("scale", scale)

    def forward(
        self, x: torch.Tensor, parameters: Sequence[torch.Tensor], cache: torch.Tensor, start: int
    ) -> torch.Tensor:
        """
        Args:
            x: (N, T, C), the tokens of one scale.
            parameters: six (N, 1, C): gates of attention and feed-forward, their scales with 1 added, their shifts.
            cache: (2, N, H, L, d), keys and values of the tokens before `start`; those of x are written behind them.

        Returns:
            (N, T, C).
        """
        gate, gate_ff, scale, scale_ff, shift, shift_ff = parameters
        n, t, c = x.shape
        heads, end = cache.shape[2], start + t
        y = torch.addcmul(shift, _normalise(x), scale)
        q, k, v = self.qkv(y).view(n, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4).unbind(0)
        cache[0, :, :, start:end] = F.normalize(k, dim=-1)
        cache[1, :, :, start:end] = v
        q = F.normalize(q, dim=-1) * self.scale
        y = F.scaled_dot_product_attention(q, cache[0, :, :, :end], cache[1, :, :, :end], scale=1.0)
        x = torch.addcmul(x, gate, self.project(y.transpose(1, 2).reshape(n, t, c)))
        y = torch.addcmul(shift_ff, _normalise(x), scale_ff)
        return torch.addcmul(x, gate_ff, self.feed_forward(y))


@dataclass(frozen=True)
class Memory:
    """What a batch of N rows needs at every scale.

    Attributes:
        modulation: (depth, 6, N, 1, C), see :class:`VARBlock`.
        final: (2, N, 1, C), scale with 1 added and shift of the last norm.
        cache: (depth, 2, N, H, L, d), keys and values.
    """

    modulation: torch.Tensor
    final: torch.Tensor
    cache: torch.Tensor


class VARNetwork(nn.Module):
    """The transformer, from a state dict that :func:`require_var` has accepted.

    Attributes:
        scales: side of every scale in tokens.
        table: (K + 1, C), class embeddings; the last is the null label.
        positions: (L, C), embedding of position and scale.
    """

    table: torch.Tensor
    positions: torch.Tensor
    start: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        state: State,
        scales: Sequence[int],
        device: torch.device,
        dtype: torch.dtype,
        compile_mode: str = "none",
    ) -> None:
        super().__init__()
        pack = compile_mode == "none"

        def get(name: str) -> torch.Tensor:
            # A copy, because the tensors of the state are parts of the file, which may change later.
            return state[name].to(device, dtype, copy=True)

        def linear(name: str, gelu: bool = False) -> InferenceLinear:
            return InferenceLinear(get(f"{name}.weight"), get(f"{name}.bias"), gelu=gelu, pack=pack)

        self.scales = tuple(scales)
        self.heads = state["blocks.0.attn.scale_mul_1H11"].shape[1]
        depth = sum(name.endswith("attn.mat_qkv.weight") for name in state)
        blocks = []
        for i in range(depth):
            key = torch.zeros_like(get(f"blocks.{i}.attn.q_bias"))  # keys have no bias
            bias = torch.cat([get(f"blocks.{i}.attn.q_bias"), key, get(f"blocks.{i}.attn.v_bias")])
            scale = state[f"blocks.{i}.attn.scale_mul_1H11"].float().clamp(max=_LARGEST_SCALE).exp()
            blocks.append(
                VARBlock(
                    InferenceLinear(get(f"blocks.{i}.attn.mat_qkv.weight"), bias, pack=pack),
                    linear(f"blocks.{i}.attn.proj"),
                    nn.Sequential(
                        linear(f"blocks.{i}.ffn.fc1", gelu=True),
                        linear(f"blocks.{i}.ffn.fc2"),
                    ),
                    scale.to(device, dtype),
                )
            )
        self.blocks = nn.ModuleList(blocks)
        if compile_mode != "none":
            # All blocks share their graphs: one for each scale, of full batches and of the last batch. PyTorch's limit is 8.
            limits = torch._dynamo.config
            limits.recompile_limit = max(limits.recompile_limit, 2 * len(scales))
        self._run_block = compile_network(VARBlock.forward, compile_mode, device)
        self.words, self.head = linear("word_embed"), linear("head")
        levels = torch.cat([torch.full((side**2,), i) for i, side in enumerate(scales)])
        positions = state["lvl_embed.weight"].float()[levels] + state["pos_1LC"][0].float()
        self.register_buffer("table", get("class_emb.weight"))
        self.register_buffer("positions", positions.to(device, dtype))
        self.register_buffer("start", get("pos_start"))
        if "shared_ada_lin.1.weight" in state:  # one product for all blocks, and an offset for each
            offsets = torch.stack([get(f"blocks.{i}.ada_gss") for i in range(depth)]).view(depth, 1, -1)
            self.register_buffer("weight", get("shared_ada_lin.1.weight").T[None])  # (1, C, 6C)
            self.register_buffer("bias", offsets + get("shared_ada_lin.1.bias"))  # (depth, 1, 6C)
        else:
            names = [f"blocks.{i}.ada_lin.1" for i in range(depth)]
            self.register_buffer(
                "weight", torch.stack([state[f"{name}.weight"].T for name in names]).to(device, dtype)
            )
            self.register_buffer("bias", torch.stack([get(f"{name}.bias") for name in names])[:, None])
        self.final = linear("head_nm.ada_lin.1")

    def begin(self, classes: torch.Tensor) -> Memory:
        """The memory of a batch, from embedded classes (N, C)."""
        count, width = classes.shape
        condition = F.silu(classes)
        rows = condition @ self.weight + self.bias  # (depth, N, 6C)
        modulation = rows.view(len(rows), count, 6, width).transpose(1, 2).unsqueeze(3).contiguous()
        modulation[:, 2:4] += 1
        final = self.final(condition).view(count, 2, width).transpose(0, 1).unsqueeze(2).contiguous()
        final[0] += 1
        size = (len(rows), 2, count, self.heads, len(self.positions), width // self.heads)
        return Memory(modulation, final, torch.empty(size, dtype=classes.dtype, device=classes.device))

    def forward(self, x: torch.Tensor, start: int, memory: Memory) -> torch.Tensor:
        """
        Args:
            x: (N, T, C), embedded input of one scale, without its position.
            start: number of tokens of the scales before.

        Returns:
            float32 (N, T, V), logits of the tokens of this scale.
        """
        x = x + self.positions[start : start + x.shape[1]]
        for block, parameters, cache in zip(self.blocks, memory.modulation, memory.cache, strict=True):
            x = self._run_block(block, x, parameters.unbind(0), cache, start)
        return self.head(torch.addcmul(memory.final[1], _normalise(x), memory.final[0])).float()


class VARGenerator(FamilyGenerator):
    """See :class:`ppgen.generators.parts.family.FamilyGenerator`.

    Args:
        files: names of the two weight files.

    Attributes:
        automatic_batch: batch size on a CPU, chosen by the size of the keys and values; None on a GPU, where it is measured.
        decode_batch: images that the autoencoder decodes at a time.
    """

    def __init__(
        self,
        source: Source,
        network: VARNetwork,
        decoder: MultiScaleDecoder,
        options: VAROptions,
        files: Sequence[str],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(
            source,
            image_shape=decoder.image_shape(network.scales[-1]),
            num_classes=len(network.table) - 1,
            class_names=choose_names(options.class_names, source.class_names),
            sampling=asdict(options) | {"class_names": ()},  # the plan has the names elsewhere
            device=device,
            dtype=dtype,
            weights=files,
        )
        self.class_tables = [network.table]
        self.network, self.decoder, self._options = network, decoder, options
        self.decode_batch, self.compile_mode = options.decode_batch, options.compile
        tokens, width = network.positions.shape
        rows = 2 if options.cfg else 1
        each = 2 * rows * tokens * width * len(network.blocks) * network.table.element_size()
        self.automatic_batch = max(1, min(100, _CPU_MEMORY // each)) if device.type == "cpu" else None

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`FamilyGenerator.sample_float`; float32 in [-1, 1]."""
        check_condition(condition, seeds, self.num_classes)
        network, options = self.network, self._options
        uniform = PerSampleNoise(seeds).rand((len(network.positions),), device=self.device)
        with torch.inference_mode():
            classes = embed(network.table, condition, self.keep_norm)  # (B, C)
            if options.cfg:
                classes = torch.cat([classes, network.table[-1:].expand_as(classes)])
            memory = network.begin(classes)
            x, start = classes[:, None] + network.start, 0
            found = self.decoder.begin(len(condition))
            for i, side in enumerate(network.scales):
                logits = network(x, start, memory)
                if options.cfg:
                    t = options.cfg * i / (len(network.scales) - 1)
                    conditional, plain = logits.chunk(2)
                    logits = (1 + t) * conditional - t * plain
                tokens = draw_tokens(
                    logits / options.temperature,
                    uniform[:, start : start + side**2],
                    top_k=options.top_k,
                    top_p=options.top_p,
                )
                found = self.decoder.add(found, tokens, i)
                start += side**2
                if i + 1 < len(network.scales):
                    words = network.words(self.decoder.shrink(found, i + 1).to(network.table.dtype))
                    x = words.repeat(len(classes) // len(words), 1, 1)
            return self.decoder(found)


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from the published files.

    Defaults: cfg 1.5 and no truncation, because training data needs variety; the published images have cfg 4, top_k 900, top_p 0.95.

    Raises:
        UserError: files missing or damaged, weights that are not all there or do not fit, options outside their limits.
    """
    folder = Path(source.location)
    options = read_options(VAROptions, source)
    file, decoder_file = (find_weights(folder, family, source.files) for family in ("var", "vqvae"))
    config_file = folder / "config.json"
    config = read_config(config_file, VARConfig) if config_file.is_file() else VARConfig()
    state = read_weights(file, mmap=True)
    state = {name: tensor for name, tensor in state.items() if not _BUFFERS.fullmatch(name)}
    scales = require_var(state, config, str(file))
    decoder = MultiScaleDecoder(
        read_weights(decoder_file, mmap=True),
        scales,
        str(decoder_file),
        device,
        dtype,
        chunk=options.decode_batch,
        compile_mode=options.compile,
    )
    words, vocabulary = state["word_embed.weight"].shape[1], len(state["head.bias"])
    if (vocabulary, words) != tuple(decoder.table.shape):
        raise UserError(
            f"{file} draws from {vocabulary} tokens of {words} values, but {decoder_file} has {len(decoder.table)} of "
            f"{decoder.table.shape[1]}; use the two files that belong together"
        )
    network = VARNetwork(state, scales, device, dtype, options.compile).requires_grad_(False)
    files = [path.relative_to(folder).as_posix() for path in (file, decoder_file)]
    return VARGenerator(source, network, decoder, options, files, device, dtype)


def require_var(state: State, config: VARConfig, where: str) -> tuple[int, ...]:
    """Check that the weights are all of a VAR, and nothing else. Returns the side of every scale.

    Raises:
        UserError: weights missing, unexpected or of another shape, or unknown scales.
    """
    heads, positions = state.get("blocks.0.attn.scale_mul_1H11"), state.get("pos_1LC")
    table, words = state.get("class_emb.weight"), state.get("word_embed.weight")
    if heads is None or positions is None or table is None or words is None:
        raise UserError(
            f"{where} lacks class_emb.weight, word_embed.weight, pos_1LC or blocks.0.attn.scale_mul_1H11; expected the state dict of a VAR "
            "with normalised queries and keys"
        )
    depth, width, tokens = heads.shape[1], table.shape[1], positions.shape[1]
    vocabulary, values = len(state.get("head.bias", ())), words.shape[-1]
    scales = config.patch_nums or PUBLISHED_SCALES.get(tokens, ())
    if sum(side**2 for side in scales) != tokens:
        raise UserError(
            f"{where} has {tokens} tokens an image, which are not those of the scales {list(scales) or 'of a published model'}; give "
            'config.json with the side of every scale as "patch_nums"'
        )
    shared = "shared_ada_lin.1.weight" in state or "blocks.0.ada_gss" in state
    shapes = var_shapes(
        depth, len(table), scales, width=width, vocabulary=vocabulary, values=values, shared=shared
    )
    require_shapes(state, shapes, where, "a VAR")
    return tuple(scales)


def var_shapes(
    depth: int,
    rows: int,
    scales: Sequence[int],
    *,
    width: int,
    vocabulary: int = 4096,
    values: int = 32,
    shared: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every trained weight of a published VAR.

    Args:
        depth: number of blocks, and of attention heads.
        rows: of the class table, the null label included.
        scales: side of every scale.
        vocabulary, values: tokens of the autoencoder, and values in the vector of a token.
        shared: one layer makes the adaptive-norm parameters of all blocks (the 512-pixel model).
    """
    layers = {
        "word_embed": (width, values),
        "head": (vocabulary, width),
        "head_nm.ada_lin.1": (2 * width, width),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "class_emb.weight": (rows, width),
        "pos_start": (1, scales[0] ** 2, width),
        "pos_1LC": (1, sum(side**2 for side in scales), width),
        "lvl_embed.weight": (len(scales), width),
    }
    if shared:
        layers["shared_ada_lin.1"] = (6 * width, width)
    for i in range(depth):
        layers |= {
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.ffn.fc1": (4 * width, width),
            f"blocks.{i}.ffn.fc2": (width, 4 * width),
        }
        shapes |= {
            f"blocks.{i}.attn.mat_qkv.weight": (3 * width, width),
            f"blocks.{i}.attn.q_bias": (width,),
            f"blocks.{i}.attn.v_bias": (width,),
            f"blocks.{i}.attn.scale_mul_1H11": (1, depth, 1, 1),
        }
        if shared:
            shapes[f"blocks.{i}.ada_gss"] = (1, 1, 6, width)
        else:
            layers[f"blocks.{i}.ada_lin.1"] = (6 * width, width)
    shapes |= {f"{name}.weight": shape for name, shape in layers.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def _normalise(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
