"""`ppgen doctor`: looks at packages, GPUs, disk and hub, and says what will not work on this machine, why, and what to do."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement

from ppcore import SHARD_FORMAT, __version__
from ppcore.errors import UserError
from ppcore.kits import is_repository, list_kits
from ppcore.storage import Store
from ppgen.plan import format_bytes
from ppgen.sources import COSTS, has_weights

_NEEDED_FOR = {
    "": "every command",
    "generate": "ppgen synth and pseudo, --engine ray, reading shards with WebDataset",
    "text": "sources that are conditioned on text",
    "train": "TensorBoard, timm and trackers in pptrain run",
    "export": "pptrain export --to onnx",
    "s3": "directories in s3://",
    "gs": "directories in gs://",
}
_FOR_DEVELOPERS = ("dev", "docs")  # extras that no command needs
_MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
_BESIDE = 2e9  # bytes that a source needs besides its weights: Python, torch, a batch
_SHARED = Path("/dev/shm")
_LEAST_SHARED = 512 << 20  # bytes; containers get 64 MB unless started with --shm-size
_WRITTEN = {True: 64 << 20, False: 1 << 20}  # bytes of the test file on a local disk, in an object store
_SLOW = 20e6  # bytes a second; a GPU makes about 2 MB of JPEG a second


@dataclass(frozen=True)
class Finding:
    """One entry of the report.

    Attributes:
        check: what was looked at, one word.
        facts: what is there.
        state: `limited` if something optional will not work, `broken` if ordinary commands will not work.
        lost: what will not work and why; empty if the state is `ok`.
        remedy: what to do; empty if the state is `ok`.
    """

    check: str
    facts: str
    state: Literal["ok", "limited", "broken"] = "ok"
    lost: str = ""
    remedy: str = ""


def examine(out: str) -> list[Finding]:
    """All checks. `out` is the path or URL where shards would be written."""
    return [*check_packages(), *check_gpus(), check_shared_memory(), check_out(out), check_hub()]


def as_json(findings: Sequence[Finding]) -> str:
    """One object: versions, the worst state, and the findings."""
    states = {finding.state for finding in findings}
    worst = next((state for state in ("broken", "limited") if state in states), "ok")
    content = {"version": __version__, "shard_format": SHARD_FORMAT, "state": worst}
    return json.dumps({**content, "findings": [asdict(finding) for finding in findings]})


def as_text(findings: Sequence[Finding]) -> str:
    """One line for each finding, and two more where something will not work."""
    width = max(len(finding.check) for finding in findings)
    lines = [f"pptransfer {__version__}, shard format {SHARD_FORMAT}, Python {platform.python_version()}"]
    for finding in findings:
        lines.append(f"{finding.state:8}{finding.check:{width}}  {finding.facts}")
        if finding.lost:
            lines += [f"{'':8}{'':{width}}  {finding.lost}", f"{'':8}{'':{width}}  -> {finding.remedy}"]
    return "\n".join(lines)


def check_packages(distribution: str = "pptransfer") -> list[Finding]:
    """One finding for the packages that are always needed and one for each extra. Every package is imported."""
    try:
        requirements = [Requirement(line) for line in requires(distribution) or []]
    except PackageNotFoundError:
        lost = "its required packages are unknown, because the program runs from a source tree"
        return [Finding("packages", f"{distribution} is not installed", "limited", lost, "pip install it")]
    by_extra: dict[str, list[Requirement]] = {}
    for requirement in requirements:
        found = re.search(r"""extra == ['"]([\w.-]+)['"]""", str(requirement.marker or ""))
        by_extra.setdefault(found[1] if found else "", []).append(requirement)
    extras = sorted(extra for extra in by_extra if extra not in _FOR_DEVELOPERS)
    return [_check_extra(distribution, extra, by_extra[extra]) for extra in extras]


def _check_extra(distribution: str, extra: str, needed: list[Requirement]) -> Finding:
    check = f"packages[{extra}]" if extra else "packages"
    problems = {requirement.name: _problem_with(requirement) for requirement in needed}
    good = [name for name, problem in problems.items() if not problem]
    facts = ", ".join(f"{name} {version(name)}" for name in good) or "none"
    if len(good) == len(problems):
        return Finding(check, facts)
    lost = "; ".join(f"{name} {problem}" for name, problem in problems.items() if problem)
    lost += f"; needed for {_NEEDED_FOR.get(extra, f'the extra {extra}')}"
    remedy = f"pip install '{distribution}[{extra}]'" if extra else f"pip install {distribution}"
    return Finding(check, facts, "limited" if extra else "broken", lost, remedy)


def _problem_with(requirement: Requirement) -> str:
    """Why a package cannot be used; empty if it can."""
    name = requirement.name
    try:
        installed = version(name)
    except PackageNotFoundError:
        return "is not installed"
    if not requirement.specifier.contains(installed, prereleases=True):
        return f"is {installed}, expected {requirement.specifier}"
    try:
        importlib.import_module(_MODULES.get(name, name.replace("-", "_")))
    except Exception as error:  # packages built for another Python or torch raise any type
        first = next(iter(str(error).splitlines()), "")
        return f"{installed} cannot be imported ({type(error).__name__}: {first})"
    return ""


def check_gpus() -> list[Finding]:
    """Every GPU that PyTorch sees and the sources that do not fit into its memory; without a GPU, the reason."""
    if not torch.cuda.is_available():
        return [_no_gpu()]
    found = []
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        facts = f"{gpu.name}, {format_bytes(gpu.total_memory)}, CUDA {torch.version.cuda}"
        needed = {name: 2 * cost.parameters + _BESIDE for name, cost in COSTS.items()}  # 2 bytes a weight
        large = [f"{name} ({format_bytes(size)})" for name, size in needed.items() if size > gpu.total_memory]
        lost = f"these sources do not fit: {', '.join(large)}" if large else ""
        remedy = "use a smaller source or a larger GPU" if large else ""
        found.append(Finding(f"gpu-{number}", facts, "limited" if large else "ok", lost, remedy))
    return found


def _no_gpu() -> Finding:
    lost = "sources of 256 pixels and more take seconds to minutes an image on a CPU"
    if torch.version.cuda is None:
        facts, remedy = (
            f"none; PyTorch {torch.__version__} was built without CUDA",
            "install PyTorch's CUDA build",
        )
    else:
        facts = f"none that PyTorch with CUDA {torch.version.cuda} can use"
        remedy = (
            "use a machine with a GPU; if this one has a GPU, update its driver or unset CUDA_VISIBLE_DEVICES"
        )
    return Finding("gpu", facts, "limited", lost, remedy)


def check_shared_memory() -> Finding:
    """/dev/shm, which is small in containers."""
    size = shutil.disk_usage(_SHARED).total if _SHARED.is_dir() else 0
    facts = format_bytes(size) if size else "no /dev/shm"
    if not 0 < size < _LEAST_SHARED:
        return Finding("shared-memory", facts)
    lost = "decoding processes (pptrain --workers) and Ray pass their data through it and will crash"
    return Finding("shared-memory", facts, "limited", lost, "start the container with --shm-size=2g")


def check_out(out: str) -> Finding:
    """Write a file where shards would go, read it back and delete it."""
    name = f".tmp-doctor-{uuid.uuid4().hex}"
    try:
        store = Store(out)
        folder = _existing(Path(store.root)) if store.is_local else None
        probe, data = Store(folder or out), os.urandom(_WRITTEN[store.is_local])
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
        return Finding("out", facts, "broken", "it reads back other bytes", "choose another --out")
    if rate < _SLOW and folder is not None:
        return Finding("out", facts, "limited", "several GPUs would wait for it", "choose a faster --out")
    return Finding("out", facts)


def check_hub(timeout_s: float = 3.0) -> Finding:
    """The hub's cache, and whether the hub can be reached."""
    from huggingface_hub import constants, get_session  # heavy: only here

    cache = Path(constants.HF_HUB_CACHE)
    kits = {kit.name: kit for kit in list_kits() if is_repository(kit.generator)}
    missing = [name for name, kit in kits.items() if not has_weights(kit)]
    cached = ", ".join(name for name in kits if name not in missing) or "no kit"
    free = format_bytes(shutil.disk_usage(_existing(cache)).free)
    facts = f"cache {cache}, {free} free, it holds {cached}"
    if not os.access(_existing(cache), os.W_OK):
        lost = f"the cache cannot be written; these sources will not work: {', '.join(missing)}"
        return Finding("hub", facts, "limited", lost, "set HF_HOME to a directory that can be written")
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
    if not reason:
        try:
            get_session().head(constants.ENDPOINT, timeout=timeout_s)
            return Finding("hub", f"{facts}; the hub answers")
        except Exception as error:  # the type depends on the HTTP library
            reason = f"the hub does not answer ({type(error).__name__})"
    if not missing:
        return Finding("hub", f"{facts}; {reason}")
    remedy = "connect to the hub, copy a cache here (HF_HOME), or use --source letters or a local directory"
    return Finding("hub", facts, "limited", f"{reason}; not available: {', '.join(missing)}", remedy)


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
