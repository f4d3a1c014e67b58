"""What attackers do to a shard directory, and what our programs say to it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rig import stored

from ppcore.errors import UserError
from ppcore.storage import Store
from ppgen.plan.plan import canonical_json
from ppgen.upkeep.gather import gather
from ppgen.upkeep.verify import verify_directory
from pptrain.data import decode_into, open_shard_pool

BOMB = 3 << 30  # bytes that something small claims to be


@contextmanager
def memory(more: int) -> Iterator[None]:
    """A bomb that goes off fails the test and not the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def rewrite(out: Path, name: str, data: bytes) -> None:
    """Replace one file of shard 1 and make its commit record and the index agree, as an attacker would."""
    folder, suffix = {"tar": ("shards", "tar"), "parquet": ("meta", "parquet")}[name]
    (out / folder / f"000001.{suffix}").write_bytes(data)
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    record = json.loads((out / "commits/000001.json").read_text())
    record[name] = facts
    (out / "commits/000001.json").write_text(json.dumps(record))
    if name == "tar":
        index = json.loads((out / "index.json").read_text())
        index["shardlist"][1] |= {"filesize": facts["bytes"], "sha256": facts["sha256"]}
        (out / "index.json").write_text(json.dumps(index))


def tar_of(sound: Path, change: Callable[[int, str, bytes], tuple[str, bytes]]) -> bytes:
    """Shard 1 with other members."""
    buffer = io.BytesIO()
    with (
        tarfile.open(sound / "shards/000001.tar") as old,
        tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for number, member in enumerate(old):
            file = old.extractfile(member)
            assert file is not None
            name, data = change(number, member.name, file.read())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def forge_plan(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change plan.json and give it the fingerprint that fits."""
    plan = json.loads((out / "plan.json").read_text())
    change(plan)
    identity = {key: value for key, value in plan.items() if key not in ("samples", "fingerprint")}
    plan["fingerprint"] = hashlib.sha256(canonical_json(identity)).hexdigest()
    (out / "plan.json").write_text(json.dumps(plan))


def refusals(out: Path) -> list[str]:
    """What verify, gather and the trainer say; none of them may raise anything but UserError, or leave a thing."""
    messages = []
    before = sorted(out.parent.rglob("*"))

    def read_all() -> None:
        pool = open_shard_pool([str(out)], "synth")
        for shard in range(len(pool.refs)):
            for sample in pool.read(shard):
                decode_into(
                    sample, np.empty((pool.resolution, pool.resolution, pool.channels), np.uint8), "x"
                )

    def checked() -> None:
        report = verify_directory(*stored(out))
        problems = [problem for found in report.shards.values() for problem in found] + report.general
        if problems:
            raise UserError("; ".join(problems))

    for action in (
        checked,
        lambda: gather([Store(out)], Store(out.parent / "gathered")),
        read_all,
    ):
        try:
            with memory(BOMB // 2):
                action()
        except UserError as error:
            messages.append(str(error))
        shutil.rmtree(out.parent / "gathered", ignore_errors=True)
    assert sorted(out.parent.rglob("*")) == before
    assert all(text.isprintable() and len(text) < 2000 for text in messages)
    return messages
