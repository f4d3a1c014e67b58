"""Where shards go, where weights come from, and one image from the embedded source."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path

import torch

from ppcore.errors import UserError
from ppcore.kits import list_kits
from ppcore.storage import Store
from ppgen.doctor.finding import Finding
from ppgen.generators import open_generator
from ppgen.plan import format_bytes
from ppgen.sources import SourceSpec, is_repository, sample_checked

_PROBE = ".tmp-doctor"
_WRITTEN = 64 * 2**20  # bytes to a disk
_PUT = 2**20  # bytes to an object store
_SLOW = 20e6  # bytes a second; a GPU makes about 2 MB of JPEG a second
_ANSWER_S = 3.0


def check_out(out: str) -> Finding:
    """Write a file where shards would go, read it back and delete it."""
    name = f"{_PROBE}-{uuid.uuid4().hex}"
    try:
        store = Store(out)
        data = os.urandom(_WRITTEN if store.is_local else _PUT)
        folder = _existing(Path(store.root)) if store.is_local else None
        probe = store if folder is None else Store(folder)
        start = time.perf_counter()
        probe.write_atomic(name, data)
        rate = len(data) / (time.perf_counter() - start)
        same = probe.read(name) == data
        probe.delete(name)
    except (OSError, UserError) as error:
        return Finding("out", out, "broken", f"it cannot be written: {error}", "choose another --out")
    free = "" if folder is None else f", {format_bytes(shutil.disk_usage(folder).free)} free"
    facts = f"{folder or out}: {rate / 1e6:.0f} MB/s written{free}"
    if not same:
        return Finding("out", facts, "broken", "what is read is not what was written", "choose another --out")
    if rate < _SLOW and folder is not None:
        return Finding("out", facts, "limited", "several GPUs would wait for it", "choose a faster --out")
    return Finding("out", facts)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def check_hub(timeout_s: float = _ANSWER_S) -> Finding:
    """The hub's cache, and whether the hub can be reached."""
    from huggingface_hub import constants, try_to_load_from_cache  # heavy: only here

    cache = Path(constants.HF_HUB_CACHE)
    kits = {kit.name: kit.generator for kit in list_kits() if is_repository(kit.generator)}
    there = [n for n, repository in kits.items() if try_to_load_from_cache(repository, "model_index.json")]
    facts = f"cache {cache}, {format_bytes(shutil.disk_usage(_existing(cache)).free)} free, it holds {', '.join(there) or 'no kit'}"
    missing = [name for name in kits if name not in there]
    if not os.access(_existing(cache), os.W_OK):
        lost = f"no weights can be put there, so of the hub's kits {', '.join(missing)} will not work"
        return Finding("hub", facts, "limited", lost, "set HF_HOME to a directory that can be written")
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(timeout_s)
    if reason is None:
        return Finding("hub", f"{facts}; the hub answers")
    lost = f"{reason}, so {', '.join(missing)} cannot be had"
    remedy = "connect to the hub, copy a cache here (HF_HOME), or use --source letters or a local directory"
    return Finding("hub", facts, "limited" if missing else "ok", lost if missing else "", remedy)


def _unreachable(timeout_s: float) -> str | None:
    """Why the hub does not answer; None where it does, be the answer what it may."""
    from huggingface_hub import constants, get_session  # heavy: only here

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout_s)
    except Exception as error:  # of whatever library its client is built on
        return f"the hub does not answer ({type(error).__name__})"
    return None


def check_source() -> Finding:
    """One image from the embedded source, on the device that would be used."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        generator = open_generator(SourceSpec("letters", device=device))
        start = time.perf_counter()
        sample_checked(generator, torch.eye(generator.num_classes)[:1], torch.zeros(1, dtype=torch.int64))
    except Exception as error:  # a broken installation may raise anything, and this says what
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return Finding(
            "source", "letters", "broken", f"no image could be made: {reason}", "see the other findings"
        )
    return Finding("source", f"an image of letters in {time.perf_counter() - start:.2f} s on {device}")
