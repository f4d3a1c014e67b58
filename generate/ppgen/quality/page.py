"""Writes quality.json and report.html, one self-contained page with the figures and contact sheets of a directory."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import numpy as np

from ppcore.console import printable_name
from ppcore.errors import UserError
from ppcore.images import decode
from ppcore.page import PAIR_STYLE, conditioned, histogram, page, pairs, sheet, strip, table
from ppcore.seeds import numpy_rng
from ppcore.shards import REPORT, ShardSet
from ppcore.storage import Store
from ppgen.quality.assessment import Assessment
from ppgen.quality.figures import groups

QUALITY = "quality.json"
_RANDOM, _COLUMNS = 78, 13
_EXTREMES = 22
_CLASSES, _OF_A_CLASS = 60, 6
_BESIDE = 7  # longest name, in letters, that is set beside its images; a longer one is set above them
_PAIRS, _OF_A_PAIR = 20, 9
_ALIKE, _OF_A_GROUP = 4, 8

_STYLE = (
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


def write_report(assessment: Assessment, store: Store) -> None:
    """Write quality.json and report.html. Raises UserError when the directory cannot be written."""
    text = json.dumps(_rounded(assessment.figures), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    html = make_page(assessment)
    try:
        store.write_atomic(QUALITY, text.encode())
        store.write_atomic(REPORT, printable_name(html).encode())
    except OSError as error:
        raise UserError(f"cannot write to {store} ({error.strerror or error}); give another --out") from error


def make_page(assessment: Assessment) -> str:
    """The page as HTML text. It contains no time, host or path, so equal figures give equal pages."""
    figures, shards = assessment.figures, assessment.shards
    kind = "Pseudo samples" if figures["kind"] == "pseudo" else "Synthetic samples"
    title = f"{kind} from {figures['source']}"
    extractor = figures.get("extractor")
    by = f" through the source classifier <code>{escape(extractor['name'])}</code>" if extractor else ""
    whole = figures["looked_at"] == figures["all"]["samples"]
    part = "all of them were" if whole else f"a random {figures['looked_at']} of them were"
    size = f"{shards.resolution}x{shards.resolution}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{figures["all"]["samples"]} images of {size}; {part} measured{by}.</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in figures["notes"]),
        table((), summary_rows(figures)),
        *_agreement(figures),
        *_distances(figures),
        *_pairs(assessment),
        *_random(assessment),
        *_extremes(assessment),
        *_classes(assessment),
        *_alike(assessment),
        *_provenance(shards.plan),
    ]
    return page(title, body, _STYLE)


def summary_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The main figures of quality.json as (name, text) rows."""
    known, rows = figures["all"], []
    if "classes" in known:
        few, many = known["classes"]["fewest"], known["classes"]["most"]
        each = f"{few} of each" if few == many else f"{few} to {many} of each"
        rows.append(("Classes", f"{known['classes']['present']}, {each}"))
    else:
        classes = f"{known['effective_classes']:.1f} classes"
        rows.append(("Condition", f"soft labels, over {classes} on average (exp of the entropy)"))
    if "seen_as" in figures:
        rows += _agreement_rows(figures["seen_as"])
    rows.append(("Equal files", f"{known['exact_duplicates']} images repeat another byte for byte"))
    rows.append(("Look-alikes", _look_alikes(figures["look_alikes"])))
    if "reference_look_alikes" in figures:
        rows.append(("Look-alikes in the reference", _look_alikes(figures["reference_look_alikes"])))
    spread = figures.get("class_spread")
    if spread:
        text = f"{spread['within_class']:.3g} between features of a class, {spread['overall']:.3g} between any two"
        rows.append(("Spread", f"{text} (ratio {spread['ratio']:.2f})"))
    return rows


def _agreement_rows(seen: dict[str, Any]) -> list[tuple[str, str]]:
    share, confidence = f"{seen['agreement']:.1%} of samples", f"{seen['confidence']['mean']:.3f}"
    if not seen["soft"]:
        return [
            ("Agreement", f"{share} are classified as their condition"),
            ("Confidence", f"{confidence} on average in that class"),
        ]
    exact = f"{seen['echo']:.3f} if every prediction equalled the soft label"
    kl = f"{seen['kl']['mean']:.2f} nats on average, median {seen['kl']['median']:.2f}"
    return [
        ("Agreement", f"{share} are classified as the largest class of their soft label"),
        ("Expected probability", f"{confidence}; {exact}"),
        ("KL from soft label to sample", kl),
    ]


def _look_alikes(alike: dict[str, Any]) -> str:
    return (
        f"{alike['same_hash']} of {alike['looked_at']} repeat another's perceptual hash, {alike['near']} are within "
        f"{alike['bits']} bits of another's"
    )


def _agreement(figures: dict[str, Any]) -> list[str]:
    seen = figures.get("seen_as")
    if seen is None:
        return []
    confidence, entropy = seen["confidence"]["histogram"], seen["entropy"]["histogram"]
    what = "expected probability under the soft label" if seen["soft"] else "probability of the condition"
    entropies = {"of the samples": entropy["counts"]}
    label = "entropy of the classifier's prediction, nats"
    if "condition_entropy" in figures["all"]:
        entropies["of their soft labels"] = figures["all"]["condition_entropy"]["counts"]
        label = "entropy, nats"
    out = [
        "<h2>Predictions of the source classifier</h2><div class='two'>",
        histogram({"samples": confidence["counts"]}, confidence["edges"], what),
        histogram(entropies, entropy["edges"], label),
        "</div>",
    ]
    worst = sorted(seen["per_class"].items(), key=lambda item: (item[1]["agreement"], item[0]))[:12]
    if len(worst) > 1:
        cells = [f"{escape(name)} {100 * one['agreement']:.0f}% of {one['looked_at']}" for name, one in worst]
        out.append(f'<p class="small">Lowest agreement by class: {" · ".join(cells)}.</p>')
    return out


def _distances(figures: dict[str, Any]) -> list[str]:
    rows = figures.get("distances")
    if not rows:
        return []
    reference = rows[0]["to"]
    head = ("", "samples", "Fréchet", "KID", "precision", "recall", "density", "coverage")
    lines = [
        (
            row["of"] if row["to"] == reference else "halves of the reference",
            f"{row['samples'][0]} / {row['samples'][1]}",
            f"{row['frechet']:.3g}",
            f"{row['kid']:.3g}",
            *(f"{row[name]:.2f}" if name in row else "-" for name in head[4:]),
        )
        for row in rows
    ]
    return [
        f"<h2>Distance to {escape(reference)}</h2>",
        table(head, lines),
        f'<p class="small">On the {figures["extractor"]["features"]} penultimate features of '
        f"<code>{escape(figures['extractor']['name'])}</code>; figures of another extractor, or of other sample sizes for the "
        "Fréchet distance, are not comparable. The last row is for scale: one half of the reference against the other.</p>",
    ]


def _provenance(plan: dict[str, Any]) -> list[str]:
    source = plan["source"]
    sampling = source.get("sampling") or {}
    rows = [
        ("Generator", str(source["name"])),
        ("Revision", str(source.get("revision") or "none given")),
        ("Licence", str(source.get("licence"))),
        *(
            (name.capitalize(), str(sampling[name]))
            for name in ("solver", "steps", "guidance")
            if sampling.get(name) is not None
        ),
        ("Fingerprint", str(plan["fingerprint"])),
    ]
    return ["<h2>Provenance</h2>", table((), rows)]


def _rounded(value: Any) -> Any:
    """Floats to six significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


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
            out.append(
                '<p class="small">Condition → predicted class, and the probability of the condition.</p>'
            )
            figures = "".join(_figure(assessment, int(i), float(confidence[i])) for i in chosen)
            out.append(f'<div class="figures">{figures}</div>')
    return out


def _figure(assessment: Assessment, number: int, confidence: float) -> str:
    samples, names = assessment.samples, assessment.shards.class_names
    assert samples.condition is not None
    assert samples.probabilities is not None
    condition, predicted = (
        _short(names[int(row[number].argmax())]) for row in (samples.condition, samples.probabilities)
    )
    image = strip([_image(assessment.shards, samples.position[number])])
    caption = f"{escape(condition)} → {escape(predicted)}<br>{confidence:.3f}"
    return f'<figure><img alt="{escape(condition)}" src="{image}"><figcaption>{caption}</figcaption></figure>'


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
        else "By the largest class of the soft label"
    )
    above = " above" if max(map(len, names.values())) > _BESIDE else ""
    return [f"<h2>{what}{part}</h2>", f'<div class="classes{above}">{"".join(lines)}</div>']


def _alike(assessment: Assessment) -> list[str]:
    alike = groups(assessment.samples.hashes)[:_ALIKE]
    if not alike:
        return []
    lines = []
    for group in alike:
        images = [_image(assessment.shards, assessment.samples.position[i]) for i in group[:_OF_A_GROUP]]
        lines.append(f'<img alt="{len(group)} look-alikes" src="{strip(images)}">')
    text = "Samples with the same perceptual hash, the largest groups first. Look at them to decide whether they repeat each other."
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
        "samples of this set that were made from it.</p>",
        pairs(items),
    ]


def _short(name: str) -> str:
    """The first of the synonyms that an ImageNet name lists."""
    return name.split(",")[0]
