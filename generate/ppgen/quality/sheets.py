"""The contact sheets of a report: random samples, most and least confident ones, every class, look-alikes, target pairs."""

from __future__ import annotations

from html import escape

import numpy as np

from ppcore.images import decode
from ppcore.page import PAIR_STYLE, conditioned, pairs, sheet, strip
from ppcore.seeds import numpy_rng
from ppcore.shards import ShardSet
from ppgen.quality import duplicates
from ppgen.quality.assessment import Assessment

_RANDOM, _COLUMNS = 78, 13
_EXTREMES = 22
_CLASSES, _OF_A_CLASS = 60, 6
_BESIDE = 7  # letters of a name that stands beside its images and not above them
_PAIRS, _OF_A_PAIR = 20, 9
_ALIKE, _OF_A_GROUP = 4, 8

STYLE = (
    """
h2 + .small { margin-top: -.4rem; } .note { border-left: 3px solid var(--soft); padding-left: .7rem; color: var(--soft); }
img.sheet { width: 100%; image-rendering: auto; } .two { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(70px, 1fr)); gap: .6rem .4rem; }
.figures figure { margin: 0; } .figures img { width: 64px; height: 64px; display: block; }
.figures figcaption { margin-top: .2rem; font-size: .7rem; line-height: 1.25; color: var(--soft); overflow-wrap: anywhere; }
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(268px, 1fr)); gap: .5rem 1rem; }
.classes div { display: flex; align-items: center; gap: .6rem; } .classes img { height: 32px; }
.classes b { font-size: .85rem; line-height: 1.1; overflow-wrap: anywhere; width: 4rem; flex: none; text-align: right; }
.classes.above div { display: block; } .classes.above b { display: block; width: auto; text-align: left; margin: .3rem 0 .15rem; }
.classes.above img { height: 43px; }
.alike img { height: 40px; display: block; margin: .3rem 0; }
@media (max-width: 700px) { .two { grid-template-columns: 1fr; } }
"""
    + PAIR_STYLE
)


def contact_sheets(assessment: Assessment) -> list[str]:
    """Pieces of HTML."""
    return [
        *_pairs(assessment),
        *_random(assessment),
        *_extremes(assessment),
        *_classes(assessment),
        *_alike(assessment),
    ]


def _image(shards: ShardSet, position: int) -> np.ndarray:
    """uint8 (H, W, C)."""
    return decode(shards.fetch(int(position)).image, max_side=shards.resolution)


def _random(assessment: Assessment) -> list[str]:
    order = numpy_rng(assessment.figures["seed"], "sheet").permutation(len(assessment.samples))[:_RANDOM]
    images = [_image(assessment.shards, assessment.samples.position[i]) for i in order]
    source = sheet(images, min(_COLUMNS, len(images)))
    return ["<h2>Random samples</h2>", f'<img class="sheet" alt="random samples" src="{source}">']


def _extremes(assessment: Assessment) -> list[str]:
    samples = assessment.samples
    if samples.probabilities is None or samples.condition is None:
        return []
    confidence = (samples.probabilities * samples.condition).sum(axis=1)
    order = np.argsort(confidence, kind="stable")
    count = min(_EXTREMES, len(order) // 2)
    out = []
    for title, chosen in (("Least confident", order[:count]), ("Most confident", order[::-1][:count])):
        if count:
            out.append(f"<h2>{title}</h2>")
            out.append('<p class="small">Made for, seen as, and the probability of what it was made for.</p>')
            figures = "".join(_figure(assessment, int(i), float(confidence[i])) for i in chosen)
            out.append(f'<div class="figures">{figures}</div>')
    return out


def _figure(assessment: Assessment, number: int, confidence: float) -> str:
    samples, names = assessment.samples, assessment.shards.class_names
    assert samples.condition is not None
    assert samples.probabilities is not None
    wanted, found = (
        _short(names[int(row[number].argmax())]) for row in (samples.condition, samples.probabilities)
    )
    image = strip([_image(assessment.shards, samples.position[number])])
    caption = f"{escape(wanted)} → {escape(found)}<br>{confidence:.3f}"
    return f'<figure><img alt="{escape(wanted)}" src="{image}"><figcaption>{caption}</figcaption></figure>'


def _classes(assessment: Assessment) -> list[str]:
    assert assessment.samples.condition is not None
    wanted = assessment.samples.condition.argmax(axis=1)
    present = np.unique(wanted)
    shown = present
    if len(present) > _CLASSES:
        shown = present[np.linspace(0, len(present) - 1, _CLASSES).astype(int)]
    lines = []
    names = {label: escape(_short(assessment.shards.class_names[label])) for label in shown}
    for label, name in names.items():
        members = np.flatnonzero(wanted == label)[:_OF_A_CLASS]
        images = [_image(assessment.shards, assessment.samples.position[i]) for i in members]
        lines.append(f'<div><b>{name}</b><img alt="samples of {name}" src="{strip(images)}"></div>')
    part = "" if len(shown) == len(present) else f", {len(shown)} of {len(present)}"
    what = (
        "Classes"
        if not assessment.figures.get("seen_as", {}).get("soft")
        else "By the first class of the soft label"
    )
    above = " above" if max(map(len, names.values())) > _BESIDE else ""
    return [f"<h2>{what}{part}</h2>", f'<div class="classes{above}">{"".join(lines)}</div>']


def _alike(assessment: Assessment) -> list[str]:
    found = duplicates.groups(assessment.samples.hashes)[:_ALIKE]
    if not found:
        return []
    lines = []
    for group in found:
        images = [_image(assessment.shards, assessment.samples.position[i]) for i in group[:_OF_A_GROUP]]
        lines.append(f'<img alt="{len(group)} look-alikes" src="{strip(images)}">')
    text = "Samples with the same perceptual hash, the largest groups first; the eye decides whether they repeat each other."
    return ["<h2>Look-alikes</h2>", f'<p class="small">{text}</p><div class="alike">{"".join(lines)}</div>']


def _pairs(assessment: Assessment) -> list[str]:
    if assessment.target is None:
        return []
    items = conditioned(assessment.shards, assessment.target, _OF_A_PAIR, classes=_PAIRS)
    if not items:
        return []
    return [
        "<h2>Target images and the samples they conditioned</h2>",
        '<p class="small">Left: a target image. Middle: the largest entries of its soft label under the source classifier. Right: '
        "samples of this set that carry its name.</p>",
        pairs(items),
    ]


def _short(name: str) -> str:
    """ImageNet names list synonyms; the first says enough."""
    return name.split(",")[0]
