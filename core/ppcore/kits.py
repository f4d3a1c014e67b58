"""Kits: named sources. A kit is a generator, the classifier with the same classes, their names and the licence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ppcore.errors import UserError
from ppcore.images import MAX_SIDE
from ppcore.storage import read_json, require_inside

EMBEDDED = Path(__file__).parent / "embedded"
KIT_FILE = "kit.json"
IMAGENET_IDS = tuple((EMBEDDED / "imagenet.txt").read_text("ascii").split())
"""WordNet ids of ImageNet's 1,000 classes, in the order of the published classifiers; made by tools/imagenet.py."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PUBLISHED = re.compile(r"(timm/)?\w[\w.-]*")


_Text = Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


@dataclass(frozen=True)
class KitFile:
    """A file of a hub repository as its commit records it; checked when it is downloaded.

    Attributes:
        size: bytes; None if it is not known here.
        sha256: in hexadecimal; None if it is not known here.
    """

    size: int | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


@dataclass(frozen=True)
class Kit:
    """A named source; the content of kit.json.

    Attributes:
        family: `unet`, `dit`, `sit`, `lightningdit`, `var`, `consistency`, `biggan`, `text` or `callable` (see ppgen.generators).
        generator: local directory, hub id or `module:callable`.
        classifier: spec for :func:`ppcore.classifiers.load_classifier`; empty if the kit has none.
        class_names, class_ids: the K source classes; empty if the generator's configuration names them.
        commercial: whether the licence allows commercial use of the weights.
        revision: commit of the hub repository; None follows its branch main, because no commit of the weights is known here.
        files: files of the hub repository that the generator needs; empty for a repository that is one model.
        sampling: defaults of the sampling options (solver, steps, guidance, ...).
        image_format: `jpg`, `png` or `webp`; `auto` depends on the resolution.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    name: _Text
    family: _Text
    generator: _Text
    classifier: _Text
    licence: _Text
    commercial: bool
    resolution: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    channels: Annotated[int, Field(ge=1, le=3)] = 3
    class_names: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    revision: str | None = None
    files: dict[_Text, KitFile] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    image_format: str = "auto"
    description: str = ""


def _imagenet(
    name: str, family: str, generator: str, licence: str, resolution: int, description: str, **more: Any
) -> Kit:
    commercial = licence == "MIT"
    return Kit(
        name,
        family,
        generator,
        "resnet50",
        licence,
        commercial,
        resolution,
        class_ids=IMAGENET_IDS,
        description=description,
        **more,
    )


def _var(depth: int, resolution: int, size: int | None, sha256: str | None) -> Kit:
    """VAR of one depth; sizes and checksums are those that the hub shows for these commits."""
    return _imagenet(
        f"var-d{depth}-{resolution}",
        "var",
        "FoundationVision/var",
        "MIT",
        resolution,
        f"VAR-d{depth} (Tian et al. 2024), ImageNet",
        revision=_VAR_512 if resolution == 512 else _VAR_256,
        files={f"var_d{depth}.pth": KitFile(size, sha256), "vae_ch160v4096z32.pth": _VQVAE},
    )


_VAR_256 = "367386cbd701447557c18f0ba8fb3ad7d761ba75"
_VAR_512 = "6d0ee6598a42f75079aa79e58b012b57b284c91b"  # a later commit, which added the 512-pixel model
_VQVAE = KitFile(436_075_834, "7c3ec27ae28a3f87055e83211ea8cc8558bd1985d7b51742d074fb4c2fcf186c")
_SIT_FOLDER = "SiT-XL-2-256-diffusers"
_SIT_FILES = (
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


_DIT, _NO_PRODUCT = "DiT-XL/2 (Peebles & Xie 2023), ImageNet", "CC-BY-NC-4.0"
_SIT = "SiT-XL/2 (Ma et al. 2024), ImageNet"
_REPA = (
    "SiT-XL/2 with REPA (Yu et al. 2024), ImageNet; give the published checkpoint and vae/ with --source DIR"
)
_LIGHTNING = "LightningDiT-XL/1 (Yao et al. 2025), ImageNet; give the three published files with --source DIR"
_CONSISTENCY = "consistency distillation (Song et al. 2023), ImageNet"
_BIGGAN = "BigGAN-deep (Brock et al. 2019), ImageNet; give the published state dict with --source DIR"
_IMAGENET = (
    _imagenet("dit-xl-2-256", "dit", "facebook/DiT-XL-2-256", _NO_PRODUCT, 256, _DIT),
    _imagenet("dit-xl-2-512", "dit", "facebook/DiT-XL-2-512", _NO_PRODUCT, 512, _DIT),
    _imagenet(
        "sit-xl-2-256",
        "sit",
        "BiliSakura/SiT-diffusers",
        "MIT",
        256,
        _SIT,
        files={f"{_SIT_FOLDER}/{name}": KitFile() for name in _SIT_FILES},
    ),
    _imagenet("repa-xl-2-256", "sit", "repa-xl-2-256", "MIT", 256, _REPA),
    _imagenet("lightningdit-xl-1-256", "lightningdit", "lightningdit-xl-1-256", "MIT", 256, _LIGHTNING),
    _var(16, 256, 1_243_116_346, "4f6151aad91c94e03e224dd7358d8389fa05301c0c291279566998efb54b0ecb"),
    _var(20, 256, 2_405_720_018, "f7d232978e6fe82a4f2e0f5d82b012e01b1aa5abfe93ce2b56104ec0e878a10f"),
    _var(24, 256, 4_135_702_618, "1f5fa9cfec7be1c60034511eeacde06e24892f416d3d1e5fd227fdac56293dfc"),
    _var(30, 256, None, None),
    _var(36, 512, 9_436_153_085, "660201c829c6f7b775b9119867c12c11aaa68c72770dc33653eec1fa67e27d4d"),
    _imagenet("cd-imagenet-64", "consistency", "openai/diffusers-cd_imagenet64_l2", "MIT", 64, _CONSISTENCY),
    _imagenet("biggan-deep-256", "biggan", "biggan-deep-256", "MIT", 256, _BIGGAN),
)

KITS: dict[str, Kit | Path] = {"letters": EMBEDDED / "letters", **{kit.name: kit for kit in _IMAGENET}}
"""Name -> kit, or the directory of an embedded kit, which :func:`get_kit` reads."""


def is_repository(name: str) -> bool:
    """Whether `name` can be a hub id OWNER/NAME."""
    return _REPOSITORY.fullmatch(name) is not None


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit (40 hexadecimal digits), which always means the same content."""
    return _COMMIT.fullmatch(revision or "") is not None


def is_published(classifier: str) -> bool:
    """Whether a name can be that of a classifier published by torchvision or timm (`resnet50`, `timm/NAME`)."""
    return _PUBLISHED.fullmatch(classifier) is not None


def list_kits() -> list[Kit]:
    """All named kits, the embedded one first."""
    return [get_kit(name) for name in KITS]


def get_kit(source: str) -> Kit:
    """A kit by name, or from a directory that holds kit.json.

    Raises:
        UserError: unknown name, or a damaged kit.json.
    """
    known = KITS.get(source)
    if isinstance(known, Kit):
        return known
    folder = known if known is not None else Path(source)
    if not (folder / KIT_FILE).is_file():
        raise UserError(
            f"unknown source {source!r}; expected one of {', '.join(KITS)}, or a directory with a {KIT_FILE} or a generator in it"
        )
    return _read_kit(folder, name=source if known is not None else "")


def _read_kit(folder: Path, name: str) -> Kit:
    require_inside(folder, KIT_FILE)
    try:
        kit = read_json(folder / KIT_FILE, Kit)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / KIT_FILE} does not describe a kit ({error}); compare it with the embedded kit's"
        ) from error
    return replace(
        kit,
        name=name or kit.name,
        classifier=_locate(folder, kit.classifier, published=True),
        generator=_locate(
            folder, kit.generator, code=kit.family == "callable", pinned=is_commit(kit.revision)
        ),
    )


def _locate(
    folder: Path, part: str, *, code: bool = False, pinned: bool = False, published: bool = False
) -> str:
    """The path of a part in the kit's folder; if there is none, the part must be a name that means the same on every machine.

    Args:
        code: it may be `module:callable`; the loader checks whether that may run.
        pinned: it may be a hub repository, because the kit names a commit.
        published: it may be a classifier that torchvision or timm publish.

    Raises:
        UserError: the part is none of these, or leads out of the folder.
    """
    if Path(part).is_absolute() or ".." in Path(part).parts:
        raise UserError(
            f"{folder / KIT_FILE} names {part!r}, which is outside its folder; put that part into the folder"
        )
    require_inside(folder, part)
    if not part or (folder / part).exists():
        return str(folder / part) if part else ""
    named = (code and ":" in part) or (pinned and is_repository(part))
    if not (named or (published and is_published(part))) or (not code and Path(part).exists()):
        raise UserError(
            f"{folder / KIT_FILE} names {part!r}, which is not in its folder; expected a file or folder in it, a hub repository "
            "with a commit of 40 digits as revision, or a classifier of torchvision or timm"
        )
    return part
