"""Text-to-image pipelines: one prompt for each class name. A soft label mixes prompt embeddings, or a class is drawn from it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError, first_line
from ppcore.seeds import derive
from ppgen.generators.parts.family import FamilyGenerator, check_condition, choose_names
from ppgen.generators.parts.networks import load_component, require_square
from ppgen.sources import Generator, Source, read_config, read_options

_PLACES = {
    2: ("prompt_embeds", "negative_prompt_embeds"),  # Stable Diffusion 1 and 2
    3: (
        "prompt_embeds",
        "pooled_prompt_embeds",
    ),  # FLUX, which makes its third tensor, the token positions, itself
    4: (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),  # SDXL, SD3
}

_COLUMNS = 1 << 14  # columns of the embeddings that are mixed at a time in float32, to bound the memory


@dataclass(frozen=True)
class TextOptions:
    """Sampling options.

    Attributes:
        class_names: names of the classes where the source has none, or `imagenet` for ImageNet's 1,000.
        prompt: {} stands for the class name.
        soft: how a soft label is used: `mix`, the weighted mean of the prompt embeddings, or `draw`, one class drawn from it.
        steps, guidance: of the pipeline. Guidance is 2 because low guidance makes better training data (Sariyildiz et al. 2023).
        resolution: side in pixels; 0 takes the pipeline's default.
        negative: the negative prompt; empty for the pipeline's own, which in SDXL is no embedding at all.
    """

    class_names: tuple[str, ...] | str = ()
    prompt: str = "a photo of a {}"
    soft: str = "mix"
    steps: int = 20
    guidance: float = 2.0
    resolution: int = 0
    negative: str = ""


class TextGenerator(FamilyGenerator):
    """See :class:`ppgen.generators.parts.family.FamilyGenerator`. The pipeline's own loop samples, each sample with its own noise.

    Args:
        pipe: a diffusers pipeline.
        weights: names of the folders with its weights.
    """

    def __init__(
        self,
        source: Source,
        pipe: Any,
        options: TextOptions,
        class_names: Sequence[str],
        dtype: torch.dtype,
        weights: Sequence[str],
    ) -> None:
        side = options.resolution or _own_resolution(pipe)
        super().__init__(
            source,
            image_shape=(3, side, side),
            num_classes=len(class_names),
            class_names=class_names,
            sampling=asdict(options) | {"class_names": ()},  # the plan has the names elsewhere
            device=pipe.device,
            dtype=dtype,
            weights=weights,
        )
        self._pipe, self._options = pipe, options
        self.warnings = find_cut_prompts(pipe, [self._prompt(k) for k in range(self.num_classes)])
        self._prompts: dict[
            int, dict[str, torch.Tensor]
        ] = {}  # class -> its embedded prompt, by argument of the pipeline
        self._negative: dict[str, torch.Tensor] = {}  # the same for all classes

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`FamilyGenerator.sample_float`."""
        check_condition(condition, seeds, self.num_classes)
        condition = condition.float().cpu()
        if self._options.soft == "draw":
            condition = draw_classes(condition, seeds)
        with torch.inference_mode():
            mixed = self._mix(condition)
            images = self._pipe(
                **mixed,
                num_inference_steps=self._options.steps,
                guidance_scale=self._options.guidance,
                generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds.tolist()],
                height=self.resolution,
                width=self.resolution,
                output_type="pt",
            ).images
            return images * 2 - 1

    def _prompt(self, k: int) -> str:
        return self._options.prompt.replace("{}", self.class_names[k])

    def _mix(self, condition: torch.Tensor) -> dict[str, torch.Tensor]:
        """Prompt embeddings of (B, K) rows: weighted means over the classes; for a one-hot row exactly the class's embedding."""
        used = condition.any(dim=0).nonzero().flatten().tolist()
        self._encode([k for k in used if k not in self._prompts])
        weights = condition[:, used].to(self.device)  # (B, used), float32
        mixed = {name: part.expand(len(condition), *part.shape) for name, part in self._negative.items()}
        for name in self._prompts[used[0]]:
            table = torch.stack([self._prompts[k][name] for k in used])  # (used, ...)
            columns = table.flatten(1).split(_COLUMNS, dim=1)
            total = torch.cat(
                [weights @ some.float() for some in columns], dim=1
            )  # exact for a weight of one
            mixed[name] = total.view(-1, *table.shape[1:]).to(table.dtype)
        return mixed

    def _encode(self, classes: list[int]) -> None:
        """Embed the prompts of `classes` one by one: in a batch the last bits of one would depend on the others."""
        accepted = inspect.signature(self._pipe.encode_prompt).parameters
        for k in classes:
            arguments = {
                "prompt": self._prompt(k),
                "prompt_2": None,
                "prompt_3": None,
                "device": self.device,
                "num_images_per_prompt": 1,
                "do_classifier_free_guidance": not self._negative,  # also embeds the negative prompt
                "negative_prompt": self._options.negative or None,
            }
            parts = self._pipe.encode_prompt(**{name: v for name, v in arguments.items() if name in accepted})
            if len(parts) not in _PLACES or any(
                "mask" in name for name in inspect.signature(self._pipe).parameters
            ):
                raise UserError(
                    f"{type(self._pipe).__name__} embeds prompts in a way that cannot be mixed; use a Stable Diffusion, SDXL, SD3 or "
                    "FLUX pipeline"
                )
            named = {
                name: part[0].to(self.device)
                for name, part in zip(_PLACES[len(parts)], parts, strict=False)
                if part is not None
            }
            self._negative |= {name: part for name, part in named.items() if name.startswith("negative")}
            self._prompts[k] = {name: part for name, part in named.items() if name not in self._negative}


def find_cut_prompts(pipe: Any, prompts: Sequence[str]) -> tuple[str, ...]:
    """Warnings about prompts, one for each class, that are longer than a text encoder reads.

    Args:
        pipe: a pipeline with one or more tokenizers.

    Raises:
        UserError: two prompts are the same to every text encoder, so that their classes would be the same.
    """
    longest = inspect.signature(pipe.encode_prompt).parameters.get("max_sequence_length")
    warnings: list[str] = []
    read: list[tuple[object, ...]] = [()] * len(prompts)
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        tokenizer = getattr(pipe, name, None)
        if tokenizer is None:
            continue
        limit = tokenizer.model_max_length
        if longest is not None and "T5" in type(tokenizer).__name__:  # what the pipelines let T5 read
            limit = longest.default
        whole = tokenizer(list(prompts)).input_ids
        long = [k for k, ids in enumerate(whole) if len(ids) > limit]
        if long:
            whole = tokenizer(list(prompts), truncation=True, max_length=limit).input_ids
            warnings.append(
                f"the prompts of {len(long)} classes are longer than the {limit} tokens that a text encoder reads; their ends have no "
                f"effect (class {long[0]}: {prompts[long[0]]!r})"
            )
        read = [(*before, tuple(ids)) for before, ids in zip(read, whole, strict=True)]
    first: dict[tuple[object, ...], int] = {}
    for k, ids in enumerate(read):
        if (same := first.setdefault(ids, k)) != k:
            cut = ", as far as the text encoders read them" if warnings else ""
            raise UserError(
                f"the prompts of the classes {same} ({prompts[same]!r}) and {k} ({prompts[k]!r}) are the same{cut}; give class names that "
                "differ, or a shorter prompt with {} in it"
            )
    return tuple(warnings)


def draw_classes(condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """One-hot rows: for every row of the (B, K) `condition` a class drawn from it with the sample's seed, int64 (B,)."""
    drawn = torch.zeros_like(condition)
    for i, seed in enumerate(seeds.tolist()):
        generator = torch.Generator().manual_seed(derive(int(seed), "class"))
        drawn[i, int(torch.multinomial(condition[i].double(), 1, generator=generator))] = 1.0
    return drawn


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from any text-to-image pipeline directory or hub id that takes prompt embeddings.

    Raises:
        UserError: transformers is not installed, no class names, files missing or damaged.
    """
    options = read_options(TextOptions, source)
    if options.soft not in ("mix", "draw"):
        raise UserError(f"unknown sampling option soft={options.soft!r}; choose mix or draw")
    names = _class_names(source, options)
    pipe = _open(source, device, dtype)
    pipe.set_progress_bar_config(disable=True)
    return TextGenerator(source, pipe, options, names, dtype, list(_components(source)))


def _open(source: Source, device: torch.device, dtype: torch.dtype) -> Any:
    folder = Path(source.location)
    try:
        from diffusers import DiffusionPipeline  # takes seconds, and only this family needs all of it
        from diffusers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        parts = _components(source)
        networks = {
            name: load_component(class_name, folder / name, device, dtype, library=library)
            for name, (library, class_name) in parts.items()
            if library in ("diffusers", "transformers") and _is_network(library, class_name)
        }
        # A safety checker would replace images by black ones, which a training set must not contain.
        unsafe = {"safety_checker": None, "requires_safety_checker": False}
        checked = "safety_checker" in (folder / "model_index.json").read_text("utf-8")
        code = {"trust_remote_code": True} if source.trust_remote_code else {}
        return DiffusionPipeline.from_pretrained(
            source.location,
            dtype=dtype,
            local_files_only=True,
            **networks,
            **(unsafe if checked else {}),
            **code,
        ).to(device)
    except ImportError as error:
        raise UserError(
            f"text-to-image pipelines need further packages ({error}); pip install 'pptransfer[text]'"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source.spec} cannot be opened as a pipeline ({first_line(error)}); expected a complete pipeline directory"
        ) from error


def _is_network(library: str, class_name: str) -> bool:
    kind = getattr(importlib.import_module(library), class_name, None)
    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)


def _components(source: Source) -> dict[str, tuple[str, str]]:
    """(library, class) of the parts that are loaded, by folder: all in model_index.json but the safety checker."""
    index = read_config(Path(source.location) / "model_index.json", dict[str, Any])
    parts = {name: tuple(what) for name, what in index.items() if isinstance(what, list) and None not in what}
    return {name: what for name, what in parts.items() if name != "safety_checker" and len(what) == 2}


def _class_names(source: Source, options: TextOptions) -> tuple[str, ...]:
    names = choose_names(options.class_names, source.class_names)
    if not names:
        raise UserError(
            f"{source.spec} makes images from text and has no class names; "
            "give them with the sampling option class_names (a list, or imagenet)"
        )
    return names


def _own_resolution(pipe: Any) -> int:
    size = getattr(pipe, "default_sample_size", None) or pipe.unet.config.sample_size
    return require_square(size, "unet") * int(pipe.vae_scale_factor)
