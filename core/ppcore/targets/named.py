"""Finds the images of a named target: a local copy, a download, or instructions to get them by hand."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ppcore.errors import UserError
from ppcore.places import local_path
from ppcore.targets.files import read_files
from ppcore.targets.named_table import NAMED, NamedTarget
from ppcore.targets.target import Splits, hold_out

_DATA = "data"
_OFFLINE = "HF_HUB_OFFLINE"  # if set, nothing is downloaded


@dataclass(frozen=True)
class TargetState:
    """A named target as `ppgen targets` lists it.

    Attributes:
        local: whether its images are on this machine.
        where: in a few words.
        steps: what the user must do first; may be empty.
    """

    target: NamedTarget
    local: bool
    where: str
    steps: str = ""


def target_state(target: NamedTarget) -> TargetState:
    """Where a target would come from now. Checks directories and the hub's cache, not the network."""
    copy = _local_copy(target)
    if target.read is not None:
        return TargetState(target, True, "local: part of scikit-learn")
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
    """Read a target that is known by name.

    Args:
        directory: its place; by default `$PPTRANSFER_DATA/NAME` or `data/NAME`, else it is downloaded.

    Raises:
        UserError: it must be downloaded by hand, the download failed, or it is not complete.
    """
    copy = Path(directory) if directory is not None else _local_copy(target)
    if copy is not None:
        splits = read_files(str(copy))
    elif target.read is not None:
        splits = target.read()
    elif target.hub:
        splits = read_files(target.hub, target.hub_files)
    else:
        copy = _fetch(target)
        splits = read_files(str(copy))
    return check_splits(target, splits, str(copy or target.hub))


def check_splits(target: NamedTarget, splits: Splits, place: str) -> Splits:
    """`splits` with a test split, after a check of its sizes.

    Raises:
        UserError: it has another number of classes or images than the table says.
    """
    train, test = splits.train, splits.test
    if test is None:
        train, test = hold_out(train, target.per_class)
    has = (len(splits.classes), len(train), len(test))
    if has != (target.classes, target.train, target.test):
        raise UserError(
            f"{place} has {has[0]} classes, {has[1]} training and {has[2]} test images, {target.name} has {target.classes}, {target.train} "
            f"and {target.test}; complete it, or give it another name: --target my-{target.name}={place}"
        )
    return splits._replace(train=train, test=test)


def _local_copy(target: NamedTarget) -> Path | None:
    places = [Path(root, target.name) for root in (_own_data(), _DATA) if root]
    return next((place for place in places if place.is_dir()), None)


def _home(target: NamedTarget) -> Path:
    return Path(_own_data() or _DATA, target.name)


def _own_data() -> str:
    return local_path(os.environ.get("PPTRANSFER_DATA", ""))


def _is_cached(target: NamedTarget) -> bool:
    from huggingface_hub import snapshot_download  # slow to import

    name, _, revision = target.hub.removeprefix("hf://datasets/").partition("@")
    try:
        snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=list(target.hub_files),
            local_files_only=True,
        )
    except Exception:  # the hub library raises many types
        return False
    return True


def _fetch(target: NamedTarget) -> Path:
    """Download and unpack a data set with torchvision, completely or not at all. Raises UserError."""
    home = _home(target)
    if not target.torchvision or os.environ.get(_OFFLINE, "").lower() in ("1", "on", "yes", "true"):
        what = target.steps or "the data set"
        raise UserError(
            f"the target {target.name} is not on this machine; get {what} from {target.page}, unpack it into {home}, or give --target "
            f"{target.name}=DIR"
        )
    import torchvision.datasets  # slow to import

    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(
            home.parent / f".{target.name}.lock"
        ):  # several processes of a run may download at once
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
