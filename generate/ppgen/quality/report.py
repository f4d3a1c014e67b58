"""`ppgen report`: quality.json and one self-contained page, report.html."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from ppcore.errors import UserError
from ppcore.page import histogram, page, table
from ppcore.shards import REPORT
from ppcore.storage import Store
from ppgen.quality.assessment import Assessment
from ppgen.quality.sheets import STYLE, contact_sheets

QUALITY = "quality.json"


def write_report(assessment: Assessment, store: Store) -> None:
    """Write quality.json and report.html. Raises UserError when the directory cannot be written."""
    text = json.dumps(_rounded(assessment.figures), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    html = make_page(assessment)
    try:
        store.write_atomic(QUALITY, text.encode())
        store.write_atomic(REPORT, html.encode())
    except OSError as error:
        raise UserError(f"cannot write to {store} ({error.strerror or error}); give another --out") from error


def make_page(assessment: Assessment) -> str:
    """The page as HTML text; no clock, host or path in it."""
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
        f'<p class="lead">{figures["all"]["samples"]} images of {size}; {part} looked at{by}.</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in figures["notes"]),
        table((), summary_rows(figures)),
        *_agreement(figures),
        *_distances(figures),
        *contact_sheets(assessment),
        *_provenance(shards.plan),
    ]
    return page(title, body, STYLE)


def summary_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of quality.json in words: (what, value)."""
    known, rows = figures["all"], []
    if "classes" in known:
        few, many = known["classes"]["fewest"], known["classes"]["most"]
        each = f"{few} of each" if few == many else f"{few} to {many} of each"
        rows.append(("Classes", f"{known['classes']['present']}, {each}"))
    else:
        rows.append(
            (
                "Condition",
                f"soft labels, over {known['effective_classes']:.1f} classes on average (exp of the entropy)",
            )
        )
    if "redraw" in known:
        rule = known["redraw"]
        text = f"{rule['redrawn']} samples drawn again for a confidence below {rule['below']:g}"
        if rule["kept_below"]:
            text += f"; {rule['kept_below']} are still below it after {rule['draws']} draws, the best of which was kept"
        rows.append(("Selection", text))
    if "seen_as" in figures:
        rows += _agreement_rows(figures["seen_as"])
    alike = figures["look_alikes"]
    rows.append(("Equal files", f"{known['exact_duplicates']} images repeat another byte for byte"))
    rows.append(("Look-alikes", _look_alikes(alike)))
    if "reference_look_alikes" in figures:
        rows.append(("Look-alikes in the reference", _look_alikes(figures["reference_look_alikes"])))
    spread = figures.get("class_spread")
    if spread:
        rows.append(
            (
                "Spread",
                f"{spread['within_class']:.3g} between features of a class, {spread['overall']:.3g} between any two "
                f"(ratio {spread['ratio']:.2f})",
            )
        )
    return rows


def _agreement_rows(seen: dict[str, Any]) -> list[tuple[str, str]]:
    text = f"{seen['agreement']:.1%} of samples are seen as the class they were made for"
    if not seen["soft"]:
        return [
            ("Agreement", text),
            ("Confidence", f"{seen['confidence']['mean']:.3f} on average in that class"),
        ]
    return [
        ("Agreement", f"{seen['agreement']:.1%} of samples are seen as the first class of their soft label"),
        (
            "Expected probability",
            f"{seen['confidence']['mean']:.3f}; {seen['echo']:.3f} if every sample echoed its soft label",
        ),
        (
            "KL from soft label to sample",
            f"{seen['kl']['mean']:.2f} nats on average, median {seen['kl']['median']:.2f}",
        ),
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
    what = (
        "expected probability under the soft label"
        if seen["soft"]
        else "probability of the conditioning class"
    )
    entropies = {"of the samples": entropy["counts"]}
    label = "entropy of the classifier's prediction, nats"
    if "condition_entropy" in figures["all"]:
        entropies["of their soft labels"] = figures["all"]["condition_entropy"]["counts"]
        label = "entropy, nats"
    out = [
        "<h2>What the source classifier sees</h2><div class='two'>",
        histogram({"samples": confidence["counts"]}, confidence["edges"], what),
        histogram(entropies, entropy["edges"], label),
        "</div>",
    ]
    worst = sorted(seen["per_class"].items(), key=lambda item: (item[1]["agreement"], item[0]))[:12]
    if len(worst) > 1:
        cells = [
            f"{escape(name)} {100 * found['agreement']:.0f}% of {found['looked_at']}" for name, found in worst
        ]
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
        "Fréchet distance, are not comparable. The last row is the scale: one half of the reference against the other.</p>",
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
    if "merged" in plan:
        rows.append(("Merged from", f"{len(plan['merged'])} directories"))
    return ["<h2>Provenance</h2>", table((), rows)]


def _rounded(value: Any) -> Any:
    """Floats to six significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
