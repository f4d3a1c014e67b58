"""Python, the packages of every extra, and compilers."""

from __future__ import annotations

import importlib
import platform
import re
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from ppgen.doctor.finding import Finding
from ppgen.generators import missing_compiler

_LOST = {
    "diffusers": "the embedded source and the hub's, so ppgen synth and pseudo with --source letters or dit-xl-2-256",
    "ray": "--engine ray and pptrain run --ray",
    "webdataset": "reading shards with WebDataset, as their cards show it",
    "transformers": "sources that are conditioned on text",
    "accelerate": "sources that are conditioned on text, and loop.trackers of pptrain",
    "tensorboard": "pptrain run, unless with --set loop.tensorboard=false",
    "timm": "--arch timm/NAME and classifiers of timm",
    "onnx": "pptrain export --to onnx",
    "onnxscript": "pptrain export --to onnx",
    "onnxruntime": "pptrain export --to onnx and int8",
    "s3fs": "directories in s3://",
    "gcsfs": "directories in gs://",
}
_MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
_FOR_DEVELOPERS = "dev"


def check_python() -> Finding:
    """The versions that the distribution is made for."""
    facts = f"{platform.python_version()} ({platform.machine()}, {platform.platform(terse=True)})"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("python", facts)
    lost = "its packages are made for Python 3.11 to 3.13"
    return Finding("python", facts, "broken", lost, "make an environment with one of those")


def check_packages(distribution: str = "pptransfer") -> list[Finding]:
    """One finding for what is always needed and one for every extra, each package imported."""
    try:
        needed = [Requirement(line) for line in requires(distribution) or []]
    except PackageNotFoundError:
        lost = "nothing says which packages are needed: the programs run from a source tree"
        return [Finding("packages", "not installed", "limited", lost, "pip install it")]
    by_extra: dict[str, list[Requirement]] = {}
    for requirement in needed:
        extra = _extra_of(requirement)
        if extra != _FOR_DEVELOPERS and requirement.name != distribution:
            by_extra.setdefault(extra, []).append(requirement)
    return [_check_extra(distribution, extra, by_extra[extra]) for extra in sorted(by_extra)]


def _extra_of(requirement: Requirement) -> str:
    """The name in a marker `extra == "name"`; empty where the package is always needed."""
    found = re.search(r"""extra == ['"]([\w.-]+)['"]""", str(requirement.marker or ""))
    return found[1] if found else ""


def _check_extra(distribution: str, extra: str, needed: list[Requirement]) -> Finding:
    wrong = {requirement.name: _wrong_with(requirement) for requirement in needed}
    wrong = {name: reason for name, reason in wrong.items() if reason}
    check = f"packages[{extra}]" if extra else "packages"
    good = [r.name for r in needed if r.name not in wrong]
    facts = ", ".join(f"{name} {version(name)}" for name in good) or "none"
    if not wrong:
        return Finding(check, facts)
    reasons = "; ".join(
        f"{name} {reason}: {_LOST.get(name, 'everything')} will not work" for name, reason in wrong.items()
    )
    remedy = f"pip install '{distribution}[{extra}]'" if extra else f"pip install {distribution}"
    return Finding(check, facts, "limited" if extra else "broken", reasons, remedy)


def _wrong_with(requirement: Requirement) -> str:
    """Why a package cannot be used; empty where it can."""
    name = requirement.name
    try:
        found = version(name)
    except PackageNotFoundError:
        return "is not installed"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"is {found}, expected {requirement.specifier}"
    module = _MODULES.get(name, name.replace("-", "_"))
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a package of another build may raise
        first = next(iter(str(error).splitlines()), "")
        return f"{found} cannot be imported ({type(error).__name__}: {first})"
    return ""


def check_compiler() -> Finding:
    """What `--set compile=default` needs, for the device that would be used."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    missing = missing_compiler(device)
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    if missing is None and headers:
        return Finding("compiler", f"there, for {device.type}")
    lost = "networks run uncompiled, slower on a GPU, because there is no "
    lost += missing if missing is not None else f"Python.h for Python {platform.python_version()}"
    return Finding(
        "compiler", "incomplete", "limited", lost, "install gcc, g++ and Python's headers (python3-dev)"
    )
