"""The dataset card: where the samples come from, under which licence, and how to open them without this project."""

from __future__ import annotations

import json
from typing import Any

from ppcore.shards import index_pages
from ppgen.plan import MergedPlan, Plan, ShardPlan

_OPEN = """\
```python
import io, json, tarfile
import webdataset as wds, pyarrow.parquet as pq
from datasets import load_dataset

urls = [shard["url"] for shard in json.load(open("index.json"))["shardlist"]]  # relative to this directory
wds.WebDataset(urls, shardshuffle=False).decode("rgb8")                        # webdataset
load_dataset("webdataset", data_files=urls, split="train", streaming=True)     # Hugging Face datasets
tarfile.open(urls[0]).getnames()                                               # or tar tf
pq.read_table("manifest.parquet")                                              # one row a sample
```
"""
_LISTED = _OPEN.splitlines(keepends=True)[5]
_PAGED = """\
pages = [page["url"] for page in json.load(open("index.json"))["pages"]]
urls = [shard["url"] for page in pages for shard in json.load(open(page))["shardlist"]]
"""


def write_card(
    plan: Plan | MergedPlan, versions: list[dict[str, str]], redrawn: int, below: int, bad: int = 0
) -> str:
    """README.md of a shard directory, Markdown with the Hub's YAML header; no clock, host or path in it.

    Args:
        plan: what was made.
        versions: library versions the shards were made with, the most frequent first.
        redrawn, below: samples drawn again, and samples kept below the threshold, where the plan draws any again.
        bad: first draws that were no images.
    """
    if isinstance(plan, MergedPlan):
        return _merged_card(plan, versions, redrawn, below, bad)
    facts = {
        **_facts(plan),
        **_selection(plan, redrawn, below),
        **_bad(bad),
        "Libraries": "; ".join(_text(v) for v in versions),
    }
    return _page(plan, f"{_meaning(plan)}\n\n{_table(facts)}", _layout(plan))


def _merged_card(
    merged: MergedPlan, versions: list[dict[str, str]], redrawn: int, below: int, bad: int
) -> str:
    """The parts one after the other."""
    facts = {
        "Samples": merged.samples,
        "Shards": merged.num_shards,
        "Libraries": "; ".join(_text(v) for v in versions),
    }
    if any(part.plan.redraw is not None for part in merged.parts):
        facts["Drawn again"] = f"{redrawn} samples replaced, {below} still below the threshold"
    facts |= _bad(bad)
    body = [
        f"{_meaning(merged.parts[0].plan)}\n\n{len(merged.parts)} directories were merged into this one; their samples follow each "
        f"other in the order below, under new keys.\n\n{_table(facts)}"
    ]
    for number, part in enumerate(merged.parts, start=1):
        last = part.sample + part.plan.samples - 1
        own = {**_facts(part.plan), **({"Confidence by": _text(part.plan.score)} if part.plan.score else {})}
        body.append(f"## Part {number}: samples {part.sample} to {last}\n\n{_table(own)}")
    return _page(merged, "\n\n".join(body), _layout(merged.parts[0].plan))


def _page(plan: ShardPlan, body: str, layout: str) -> str:
    source = plan.source
    title = f"{plan.samples} {'synthetic' if plan.kind == 'synth' else 'pseudo'} images from {source['name']}"
    how = _OPEN.replace(_LISTED, _PAGED) if index_pages(plan.num_shards) else _OPEN
    return (
        f"---\nlicense: other\nlicense_name: {json.dumps(str(source['licence']))}\ntags: [synthetic, webdataset]\n"
        f"configs:\n- config_name: default\n  data_files: shards/*.tar\n---\n\n"
        f"# {title}\n\n{body}\n\n## Open it\n\n{how}\n{layout}\n"
    )


def _table(facts: dict[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])


def _facts(plan: Plan) -> dict[str, Any]:
    source = plan.source
    return {
        "Samples": plan.samples,
        "Shards": plan.num_shards,
        "Images": f"{plan.encoding['format']}, {plan.resolution}x{plan.resolution}, {plan.channels} channels",
        **_content(plan),
        "Generator": source["name"],
        "Licence of the generator": source["licence"],
        "Revision": source["revision"] or "none given",
        **{_label(key): _text(value) for key, value in source.items() if key not in _STATED and value},
        **{
            f"Sampling: {_label(key)}": _text(value)
            for key, value in source.get("sampling", {}).items()
            if value is not None
        },
        "Encoding": _text(plan.encoding),
        "Seed": plan.seed,
        "Batch size": plan.batch_size,
        "Fingerprint": f"`{plan.fingerprint}`",
    }


_STATED = {"name", "class_names", "class_ids", "licence", "revision", "sampling"}


def _selection(plan: Plan, redrawn: int, below: int) -> dict[str, str]:
    """Rows on the confidence of the samples and on what was done about it."""
    if plan.score is None:
        return {}
    facts = {"Confidence by": _text(plan.score)}
    if plan.redraw is not None:
        facts["Drawn again"] = (
            f"samples of confidence below {plan.redraw['below']}, at most {plan.redraw['draws']} draws each; "
            f"{redrawn} samples replaced, {below} of them kept below it as the best of their draws"
        )
    return facts


def _bad(bad: int) -> dict[str, str]:
    return (
        {"Not images": f"{bad} first draws held NaN or infinite values and were drawn again"} if bad else {}
    )


def _content(plan: Plan) -> dict[str, Any]:
    if plan.kind == "synth":
        counts = plan.per_class
        return {
            "Classes": len(plan.classes),
            "Samples a class": counts if isinstance(counts, int) else "see manifest.parquet",
        }
    assert plan.target is not None
    assert plan.condition is not None
    return {
        "Target": plan.target["name"],
        "Target images": plan.target["images"],
        "Labels a class": plan.target["labels_per_class"] or "all",
        "Condition": _text({k: v for k, v in plan.condition.items() if k not in ("sha256", "classifier")}),
        "Source classifier": _text(plan.condition["classifier"]),
    }


def _meaning(plan: Plan) -> str:
    if plan.kind == "synth":
        return (
            "Every image was sampled from a pre-trained conditional generator for the class in its `.cls` file (pseudo pre-training "
            "data). Its classes are the generator's, listed in `plan.json` under `source.class_names`."
        )
    return (
        "Every image was sampled from a pre-trained conditional generator conditioned on the source classifier's soft label of a "
        "target image (pseudo conditional sampling); the condition is in its `.soft.npy` file. The images have no target label."
    )


def _layout(plan: Plan) -> str:
    label = (
        "`<key>.cls` (class id)"
        if plan.kind == "synth"
        else "`<key>.soft.npy` (float32, one probability a source class)"
    )
    return (
        f"`shards/NNNNNN.tar` holds `<key>.{plan.encoding['format']}` and {label}; the key is the sample's number. `meta/` has one "
        f"parquet row a sample (seed, sha256, offset in the tar), `commits/` the checksums of every shard, `plan.json` the request. "
        f"`ppgen verify` checks all of it and can sample any image again."
    )


def _label(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items() if inner is not None)
    return str(value).replace("|", "/")
