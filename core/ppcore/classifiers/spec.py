"""What a model directory's `config.json` says: how to rebuild a classifier and how to feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ppcore.errors import UserError
from ppcore.images import MAX_SIDE
from ppcore.storage import read_json

MAX_CLASSES = 100_000  # the head of a network of strangers is allocated before its weights are looked at


@dataclass(frozen=True)
class ClassifierSpec:
    """Everything needed to rebuild a classifier and feed it.

    Attributes:
        arch: name for :func:`ppcore.classifiers.build`.
        class_names: the K class names; `class_ids` are stable identifiers (WordNet ids, say), empty when there are none.
        channels: 1 or 3, what the network takes.
        resolution: side in pixels the network is fed at.
        resize: side the shorter edge is resized to before the centre crop of `resolution`; 0 is `resolution` itself.
        mean, std: per channel, of images scaled to [0, 1].
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    arch: Annotated[str, Field(max_length=200)]
    class_names: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    channels: Annotated[int, Field(ge=1, le=3)]
    resolution: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    resize: Annotated[int, Field(ge=0, le=MAX_SIDE)] = 0
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] = (0.5,)
    std: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] = (0.5,)
    class_ids: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @classmethod
    def read(cls, path: Path) -> ClassifierSpec:
        """Of a config.json. Raises UserError."""
        try:
            return read_json(path, cls)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} does not describe a classifier ({error}); expected the config.json that pptrain writes"
            ) from error
