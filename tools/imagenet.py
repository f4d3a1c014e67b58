"""Writes the WordNet ids of ImageNet's 1,000 classes, from timm's list, where the package finds them: `python -m tools.imagenet`."""

from __future__ import annotations

from timm.data import ImageNetInfo

from ppcore.kits import EMBEDDED


def imagenet_ids() -> list[str]:
    """The ids in the order of the published classifiers."""
    return list(ImageNetInfo("imagenet-1k").label_names())


if __name__ == "__main__":
    (EMBEDDED / "imagenet.txt").write_text("\n".join(imagenet_ids()) + "\n", "ascii")
