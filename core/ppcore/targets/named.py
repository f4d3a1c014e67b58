"""Where the images of a named target are: here already, downloadable, or behind a page that wants a person."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ppcore.errors import UserError
from ppcore.targets.files import read_files
from ppcore.targets.named_table import NAMED, NamedTarget
from ppcore.targets.splits import hold_out
from ppcore.targets.target import Splits

_DATA = "data"
_OFFLINE = "HF_HUB_OFFLINE"  # who sets it wants no network at all


@dataclass(frozen=True)
class TargetState:
    """A named target as `ppgen targets` lists it.

    Attributes:
        where: in a few words.
        steps: what a person has to do first; empty where nothing.
    """

    target: NamedTarget
    local: bool
    where: str
    steps: str = ""


def target_state(target: NamedTarget) -> TargetState:
    """Where a target would come from now. Looks at directories and the hub's cache, never at the network."""
    copy = _local_copy(target)
    if target.read is not None:
        return TargetState(target, True, "here: comes with scikit-learn")
    if copy is not None:
        return TargetState(target, True, f"local: {copy}")
    if target.hub and _is_cached(target):
        return TargetState(target, True, "local: in the hub's cache")
    if target.hub or target.torchvision:
        return TargetState(target, False, f"would download, {target.gigabytes:g} GB")
    steps = (
        f"unpack {target.steps} from {target.page} into {_home(target)}, or give --target {target.name}=DIR"
    )
    return TargetState(target, False, f"by hand, {target.gigabytes:g} GB", steps)


def read_named(target: NamedTarget, directory: str | None = None) -> Splits:
    """A target known by name, complete.

    Args:
        directory: where it is; by default `$PPTRANSFER_DATA/NAME` or `data/NAME`, else it is downloaded.

    Raises:
        UserError: it can be had only by hand, could not be downloaded, or is not complete.
    """
    copy = Path(directory) if directory is not None else _local_copy(target)
    if copy is not None:
        found = read_files(str(copy))
    elif target.read is not None:
        found = target.read()
    elif target.hub:
        found = read_files(target.hub, target.hub_files)
    else:
        copy = _fetch(target)
        found = read_files(str(copy))
    return check_splits(target, found, str(copy or target.hub))


def check_splits(target: NamedTarget, found: Splits, place: str) -> Splits:
    """`found` with a test split and the sizes that the table states.

    Raises:
        UserError: it has other classes, or another number of images.
    """
    train, test = found.train, found.test
    if test is None:
        train, test = hold_out(train, target.per_class)
    has = (len(found.classes), len(train), len(test))
    if has != (target.classes, target.train, target.test):
        raise UserError(
            f"{place} has {has[0]} classes, {has[1]} training and {has[2]} test images, {target.name} has {target.classes}, {target.train} "
            f"and {target.test}; complete it, or give it a name of its own: --target my-{target.name}={place}"
        )
    return found._replace(train=train, test=test)


def _local_copy(target: NamedTarget) -> Path | None:
    places = [Path(root, target.name) for root in (os.environ.get("PPTRANSFER_DATA"), _DATA) if root]
    return next((place for place in places if place.is_dir()), None)


def _home(target: NamedTarget) -> Path:
    return Path(os.environ.get("PPTRANSFER_DATA") or _DATA, target.name)


def _is_cached(target: NamedTarget) -> bool:
    from huggingface_hub import snapshot_download  # heavy: only for targets of the hub

    name, _, revision = target.hub.removeprefix("hf://datasets/").partition("@")
    try:
        snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=list(target.hub_files),
            local_files_only=True,
        )
    except Exception:  # the hub library raises a dozen types, all of them "it is not here"
        return False
    return True


def _fetch(target: NamedTarget) -> Path:
    """Download and unpack with torchvision, whole or not at all. Raises UserError."""
    home = _home(target)
    if not target.torchvision or os.environ.get(_OFFLINE, "").lower() in ("1", "on", "yes", "true"):
        what = target.steps or "the data set"
        raise UserError(
            f"the target {target.name} is not here; get {what} from {target.page}, unpack it into {home}, or give --target "
            f"{target.name}=DIR"
        )
    import torchvision.datasets  # heavy: only to download

    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(home.parent / f".{target.name}.lock"):  # ranks of one run ask at the same time
            if not home.is_dir():
                print(f"downloading {target.title}, {target.gigabytes:g} GB, to {home}", file=sys.stderr)
                download = getattr(torchvision.datasets, target.torchvision)
                part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=home.parent))
                try:
                    download(root=str(part), download=True)
                    part.chmod(0o755)
                    part.rename(home)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(
            f"{target.name} could not be downloaded ({error}); get it from {target.page}, unpack it into {home}, or give --target "
            f"{target.name}=DIR"
        ) from error
    return home


def list_targets() -> list[TargetState]:
    """Every target known by name, and where it would come from now."""
    return [target_state(target) for target in NAMED.values()]
