"""Parameters that a recipe leaves open (`resolution`, `channels`, `classifier`), chosen from the images, the network and the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ppcore.classifiers import usual_input
from ppcore.errors import UserError
from ppcore.targets import ImageSet, describe_target, read_files, usual_channels, usual_side
from ppgen.sources import source_kit
from ppgen.sources.protocol import BANK
from pptrain.engine.inputs import open_target
from pptrain.models import make_network, make_spec

RECOMMENDED, WITHOUT_SOURCE = "best", "best-scratch"
"""The recipe for a user's own images, and what takes its place if no source is likely to help."""
_EMBEDDED = "letters"
_SMALL = 64  # pixels; larger colour images are photographs
_MULTIPLE = 32  # of pixels; networks halve their input up to five times


@dataclass(frozen=True)
class Looks:
    """What labelled images look like: median of the shorter sides in pixels, and 1 (grey) or 3 (colour) channels."""

    side: int
    channels: int

    @property
    def photographs(self) -> bool:
        """Whether they are colour images of more than 64 pixels."""
        return self.channels == 3 and self.side > _SMALL

    def __str__(self) -> str:
        return f"{'colour' if self.channels == 3 else 'grey'}, {self.side} pixels"


def look_at(images: ImageSet) -> Looks:
    """The looks of a set. Raises UserError for a damaged image."""
    return Looks(usual_side(images), usual_channels(images))


def fit(name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    """Choose what a recipe leaves open: its parameters `source`, `classifier`, `resolution` and `channels` that are null.

    Args:
        parameters: of the recipe `name`.

    Returns:
        (name of the recipe to run, chosen parameters, lines for the user). Only `best` can become another recipe: without a
        source that suits the target, it trains from scratch.

    Raises:
        UserError: the target or the source cannot be read, or the network cannot be built.
    """
    target, arch = parameters.get("target"), parameters.get("arch")
    missing = [
        name for name in ("source", "classifier", "resolution", "channels") if parameters.get(name, 0) is None
    ]
    if not isinstance(target, str) or not isinstance(arch, str) or not (missing or name == RECOMMENDED):
        return name, {}, []
    opened = open_target(target)
    looks, source = look_at(opened.train), parameters.get("source")
    notes = [*describe_target(opened), *(f"warning: {doubt}" for doubt in opened.doubts)]
    if name == RECOMMENDED:
        if looks.photographs and source in (None, _EMBEDDED):
            notes.append(
                f"{target} holds photographs ({looks}), which the source {_EMBEDDED} (grey, 32 pixels) is unlikely to help"
            )
            if source is None:
                name = WITHOUT_SOURCE
                notes.append(
                    "so the network is trained from scratch, with and without strong views; for pre-training, choose a source with "
                    "--source: a kit, a generator or bank:DIR (docs/howto/source.md)"
                )
        if name == RECOMMENDED:
            source = source or _EMBEDDED
    images = None if source is None else _looks_of_source(str(source))
    channels = parameters.get("channels") or max(looks.channels, images.channels if images else 1)
    side = parameters.get("resolution") or _resolution(arch, channels, looks, images)
    notes.append(
        f"{target}: {looks}; {arch} gets {'colour' if channels == 3 else 'grey'} images of {side} pixels"
    )
    chosen: dict[str, Any] = {"resolution": side, "channels": channels}
    if source is not None:
        kit = source_kit(str(source))
        # Without a classifier of the source's classes, the stage `pretrain` of the recipe is one.
        has_classifier = kit is not None and kit.classifier
        chosen |= {"source": source} if has_classifier else {"source": source, "classifier": "pretrain"}
    return name, {key: value for key, value in chosen.items() if key in missing}, notes


def _looks_of_source(source: str) -> Looks:
    kit = source_kit(source)
    if kit is not None:
        return Looks(kit.resolution, kit.channels)
    if source.startswith(BANK):
        return look_at(read_files(source.removeprefix(BANK)).train)
    return Looks(0, 3)  # unknown before it is opened; a network for colour takes grey images, too


def _resolution(arch: str, channels: int, looks: Looks, images: Looks | None) -> int:
    """The network's usual resolution; less, in multiples of 32, if the target's images are smaller and the network takes that.

    Drawings and small images get no more pixels than those of the source, as in `pptrain run`. Photographs would lose too much.
    """
    usual, side = usual_input(arch, channels)[0], looks.side
    if images is not None and images.side and not looks.photographs:
        side = min(side, images.side)
    side = max(side // _MULTIPLE, 1) * _MULTIPLE
    if side >= usual:
        return usual
    try:
        make_network(make_spec(arch, ("0", "1"), channels, side, None), None, "")
    except UserError:  # a network of one size, such as a vision transformer
        return usual
    return side
