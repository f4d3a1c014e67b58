"""State dicts: read from files of many programs without running code, and loaded into a network."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file
from torch import nn
from torch.nn.parameter import is_lazy

from ppcore.console import printable_name
from ppcore.errors import UserError

_WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_model", "ema"),
    *("model_state_dict", "state_dict", "model", "net", "module"),
)
"""Keys under which checkpoints of training programs store a state dict; averaged weights first, as timm prefers them."""
_COMPILED = "_orig_mod."  # torch.compile adds it to names
_COUNTER = "num_batches_tracked"  # of batch norm; files from before PyTorch 0.4.1 lack it


def read_weights(file: str | Path, *, mmap: bool = False) -> dict[str, torch.Tensor]:
    """Read a state dict from .safetensors, or from a pickle with `weights_only` (no code runs), perhaps inside a checkpoint.

    Args:
        mmap: leave the values of a pickle in the file until they are used; the file must not change while the tensors live.

    Raises:
        UserError: missing, unreadable, or not a state dict.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    try:
        state = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path, mmap)
    except Exception as error:  # pickle and safetensors raise many types for damaged files
        raise UserError(_unreadable(path, "it is damaged, or of another format")) from error
    for _ in range(2):
        inner = [state.get(key) for key in _WRAPPERS] if isinstance(state, Mapping) else []
        state = next((value for value in inner if isinstance(value, Mapping) and value), state)
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(_unreadable(path, "it holds no state dict"))
    return {str(name): tensor for name, tensor in state.items()}


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if printable_name(str(path)) != str(path):  # safetensors opens no file with a name outside UTF-8
        return load(path.read_bytes())
    return load_file(path)


def _unreadable(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be read as weights ({reason}); "
        f"expected safetensors, or a file that torch.save(net.state_dict(), FILE) writes"
    )


class _Unused:
    """Stands for every object of a checkpoint that is no tensor, such as the options of the program that wrote it."""

    def __init__(self, *_args: object, **_named: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _load_pickle(path: Path, mmap: bool) -> Any:
    """The content of a file of torch.save. Its classes and functions are neither imported nor called: :class:`_Unused` replaces them."""
    names = {"argparse.Namespace"}
    archive = zipfile.is_zipfile(path)
    if archive:  # the names in files from before PyTorch 1.6 cannot be listed
        names.update(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    with torch.serialization.safe_globals([(_Unused, name) for name in names]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and archive)


def load_weights(net: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Load `state` into `net`.

    The names may have a prefix, as torch.compile, DistributedDataParallel and Lightning add one; tensors without it are then left
    out. Of the names of one tensor (tied weights) one is enough. `num_batches_tracked` may be missing.

    Args:
        where: names the file in messages.

    Raises:
        UserError: the message names missing, unexpected and differently shaped tensors.
    """
    own = net.state_dict()
    first = first_names(own)
    given = without_prefix(state, net, where)
    shared = {first[name]: tensor for name, tensor in given.items() if name in first}
    counters = {name: tensor for name, tensor in own.items() if name.endswith(_COUNTER)}
    full = {**counters, **{n: shared[first[n]] for n in own if first[n] in shared}, **given}
    missing = sorted(set(own) - set(full))
    unexpected = sorted(set(full) - set(own))
    known = [name for name in own if name in full and not is_lazy(own[name])]
    shapes = [name for name in known if own[name].shape != full[name].shape]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        misfits = "; ".join(f"{len(names)} keys {what} such as {names[0]}" for what, names in parts if names)
        raise UserError(
            f"the weights in {where} do not fit {type(net).__name__}: {misfits}; use the architecture that they were trained with"
        )
    # `own` keeps the versions of its modules, without which torchvision's MNASNet refuses to load.
    own.update(full)
    net.load_state_dict(own)


def first_names(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Every name -> the first name of the same tensor."""
    named: dict[Any, str] = {}
    first: dict[str, str] = {}
    for name, tensor in state.items():
        address = 0 if is_lazy(tensor) else tensor.data_ptr()  # 0 if it is empty, too
        key = (address, tensor.dtype, tensor.shape, tensor.stride()) if address else name
        first[name] = named.setdefault(key, name)
    return first


def without_prefix(state: Mapping[str, torch.Tensor], net: nn.Module, where: str) -> dict[str, torch.Tensor]:
    """The tensors of `state` below the prefix under which most tensors of `net` lie, without that prefix.

    Raises:
        UserError: all of `net` lies under several prefixes.
    """
    first = first_names(net.state_dict())
    if not any(_COMPILED in name for name in first):
        state = {name.replace(_COMPILED, ""): tensor for name, tensor in state.items()}
    below: dict[str, set[str]] = {"": set()}  # prefix -> the tensors of the network that lie below it
    for name in state:
        for start in (0, *(dot + 1 for dot, letter in enumerate(name) if letter == ".")):
            if name[start:] in first:
                below.setdefault(name[:start], set()).add(first[name[start:]])
    most = max(map(len, below.values()))
    best = [prefix for prefix, names in below.items() if len(names) == most]
    needed = {name for name in first.values() if not name.endswith(_COUNTER)}
    if "" not in best and len(best) > 1 and needed <= below[best[0]]:
        raise UserError(
            f"{where} holds several networks that fit ({', '.join(best)}); store the state dict of one of them in a file of its own"
        )
    return {name.removeprefix(best[0]): t for name, t in state.items() if name.startswith(best[0])}
