"""A reader of shard directories written from docs/reference/shards.md alone, as a program in another language would be.

It uses the standard library and a parquet reader, and none of our code.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

M64, M63 = 2**64 - 1, 2**63 - 1


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def without(plan: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in plan.items() if name not in names}


def plan_fingerprint(plan: dict[str, Any]) -> str:
    return sha256(canonical(without(plan, "samples", "fingerprint")))


def shard_fingerprint(plan: dict[str, Any], segment: dict[str, Any]) -> str:
    return sha256(canonical({**without(plan, "samples", "fingerprint", "load"), "segments": [segment]}))


def derive(seed: int, *labels: str | int) -> int:
    text = "\x1f".join(str(part) for part in (seed, *labels)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") & M63


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M64
    return z ^ (z >> 31)


def number(seed: int, index: int) -> int:
    return mix((seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xD1342543DE82EF95) & M64) & M63


def permute(position: int, size: int, seed: int) -> int:
    half = max(1, -(-(size - 1).bit_length() // 2))
    mask = 2**half - 1
    while True:
        left, right = position >> half, position & mask
        for turn in range(6):
            left, right = right, left ^ (mix(right ^ derive(seed, "feistel", turn)) & mask)
        position = left << half | right
        if position < size:
            return position


def class_of(plan: dict[str, Any], segment: dict[str, Any], mixed: int) -> int:
    counts = segment["per_class"]
    for label, count in zip(
        plan["classes"], counts if isinstance(counts, list) else [counts] * len(plan["classes"]), strict=True
    ):
        if mixed < count:
            return int(label)
        mixed -= count
    raise AssertionError("beyond the segment")


def soft_label(npy: bytes) -> list[float]:
    assert npy[:8] == b"\x93NUMPY\x01\x00"
    data = npy[10 + struct.unpack("<H", npy[8:10])[0] :]
    return [value for (value,) in struct.iter_unpack("<f", data)]


def planned(plan: dict[str, Any], conditions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every shard its fingerprint, and for every sample its index, seed, and class or target row."""
    shards: list[dict[str, Any]] = []
    run_seed = derive(plan["seed"], plan["kind"])
    for segment in plan["segments"]:
        start, count = segment["start"], segment["samples"]
        for first in range(0, count, plan["samples_per_shard"]):
            samples = []
            for position in range(first, min(first + plan["samples_per_shard"], count)):
                mixed = permute(position, count, derive(plan["seed"], "order", start))
                sample = {"index": start + position, "seed": number(run_seed, start + position)}
                if plan["kind"] == "synth":
                    sample["class"] = class_of(plan, segment, mixed)
                else:
                    sample["condition"] = conditions[(start + mixed) % plan["target"]["images"]]
                samples.append(sample)
            shards.append({"fingerprint": shard_fingerprint(plan, segment), "samples": samples})
    return shards


def drawn(plan: dict[str, Any], soft: list[float], index: int) -> int:
    """The class of a pseudo sample with a hard condition."""
    u = (number(derive(plan["seed"], "draw"), index) >> 10) / 2**53
    if plan["condition"]["mode"] == "uniform":
        return int(u * len(soft))
    sums = [0.0]
    for value in soft:
        sums.append(sums[-1] + value)
    return sum(total <= u * sums[-1] for total in sums[1:])


def check(root: Path) -> int:
    """Everything that the page says of a directory that was not merged; returns the number of samples."""
    plan = json.loads((root / "plan.json").read_text())
    assert plan["format"] == "pptransfer-shards"
    assert plan_fingerprint(plan) == plan["fingerprint"]
    conditions: list[dict[str, Any]] = []
    if plan["kind"] == "pseudo":
        assert sha256((root / "conditions.parquet").read_bytes()) == plan["condition"]["sha256"]
        conditions = pq.read_table(root / "conditions.parquet").to_pylist()
    shards = planned(plan, conditions)
    index = json.loads((root / "index.json").read_text())
    assert [entry["url"] for entry in index["shardlist"]] == [
        f"shards/{n:06d}.tar" for n in range(len(shards))
    ]
    everything = []
    for n, (shard, entry) in enumerate(zip(shards, index["shardlist"], strict=True)):
        tar, meta = (root / f"shards/{n:06d}.tar").read_bytes(), (root / f"meta/{n:06d}.parquet").read_bytes()
        commit = json.loads((root / f"commits/{n:06d}.json").read_text())
        assert commit["fingerprint"] == shard["fingerprint"]
        assert commit["tar"] == {"bytes": len(tar), "sha256": sha256(tar)}
        assert commit["parquet"] == {"bytes": len(meta), "sha256": sha256(meta)}
        assert entry == {
            "index": n, "url": entry["url"], "nsamples": commit["samples"], "filesize": len(tar), "sha256": sha256(tar),
        }  # fmt: skip
        rows = pq.read_table(io.BytesIO(meta)).to_pylist()
        check_shard(plan, shard["samples"], tar, rows)
        everything += rows
    assert pq.read_table(root / "manifest.parquet").to_pylist() == everything
    return len(everything)


def check_shard(plan: dict[str, Any], samples: list[dict[str, Any]], tar: bytes, rows: list[Any]) -> None:
    """Compare a shard's tar and rows with the plan of its samples."""
    assert len(tar) % 10240 == 0
    archive = tarfile.open(fileobj=io.BytesIO(tar))  # noqa: SIM115 - in memory
    members = archive.getmembers()
    assert all((m.isreg(), m.mode, m.uid, m.gid, m.mtime) == (True, 0o644, 0, 0, 0) for m in members)
    assert len(members) == 2 * len(samples) == 2 * len(rows)
    for sample, row, image, label in zip(samples, rows, members[::2], members[1::2], strict=True):
        key = f"{sample['index']:09d}"
        assert row["key"] == key
        assert row["index"] == sample["index"]
        assert image.name == f"{key}.{plan['encoding']['format']}"
        data = tar[row["offset"] : row["offset"] + row["bytes"]]
        assert row["offset"] == image.offset_data
        assert (len(data), sha256(data)) == (image.size, row["sha256"])
        attempt = row["attempt"]
        assert row["seed"] == (derive(sample["seed"], "attempt", attempt) if attempt else sample["seed"])
        said = tar[label.offset_data : label.offset_data + label.size]
        if plan["kind"] == "synth":
            assert (label.name, said.decode()) == (f"{key}.cls", str(sample["class"]))
            assert row["class"] == sample["class"]
            continue
        assert label.name == f"{key}.soft.npy"
        assert row["target_id"] == sample["condition"]["target_id"]
        soft = sample["condition"]["soft"]
        if plan["condition"]["mode"] == "soft":
            assert soft_label(said) == soft
            best = sorted(range(len(soft)), key=lambda c: -soft[c])[:10]
            assert row["soft_classes"] == [c for c in best if soft[c] > 0]
        else:
            assert row["class"] == drawn(plan, soft, sample["index"])
            assert soft_label(said) == [float(c == row["class"]) for c in range(len(soft))]
