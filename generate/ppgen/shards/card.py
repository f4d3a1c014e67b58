"""The dataset card: where the samples come from, under which licence, and how to open them without this project."""

from __future__ import annotations

import json
from typing import Any

from ppcore.shards import index_pages
from ppgen.plan import Plan

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


def write_card(plan: Plan, versions: list[dict[str, str]], bad: int = 0) -> str:
    """README.md of a shard directory: Markdown with the header that the hub reads. It contains no time, host or path.

    Args:
        versions: library versions the shards were made with, the most frequent first.
        bad: images with NaN or infinite values that were drawn again.
    """
    facts = {
        **_facts(plan),
        **({} if plan.score is None else {"Confidence by": _text(plan.score)}),
        **(
            {"Not images": f"{bad} first draws held NaN or infinite values and were drawn again"}
            if bad
            else {}
        ),
        "Libraries": "; ".join(_text(v) for v in versions),
    }
    return _page(plan, f"{_meaning(plan)}\n\n{_table(facts)}", _layout(plan))


def _page(plan: Plan, body: str, layout: str) -> str:
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
