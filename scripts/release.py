"""Make a release: archives, checksums and notes, then the tag.

    python scripts/release.py --check     # builds both archives twice into dist/ and compares them; writes SHA256SUMS and NOTES.md
    python scripts/release.py             # the same from a clean tree, then tags v<version>; pushing and uploading are left to you

Needs hatchling. SOURCE_DATE_EPOCH is the time of the last commit, so that anyone who builds that commit gets the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


class ReleaseError(Exception):
    """One sentence: why there is no release."""


def version_of(text: str) -> str:
    """`__version__` in the text of a module. Raises ReleaseError for anything but MAJOR.MINOR.PATCH."""
    found = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE)
    if found is None:
        raise ReleaseError("core/ppcore/__init__.py has no __version__ of the form 1.2.3; write one")
    return found[1]


def notes_of(changelog: str, version: str) -> str:
    """The section of a version. Raises ReleaseError where it is missing or empty, or something is still unreleased."""
    sections = {
        title.strip(): body.strip()
        for title, body in re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    }
    if not sections.get(version):
        raise ReleaseError(f"CHANGELOG.md says nothing of {version}; rename its section Unreleased")
    if sections.get("Unreleased"):
        raise ReleaseError(
            f"CHANGELOG.md has unreleased changes beside {version}; raise __version__ and rename the section"
        )
    return sections[version] + "\n"


def build(out: Path, epoch: str) -> dict[str, bytes]:
    """Name -> bytes of the wheel and the source archive."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        stdout=subprocess.DEVNULL,
    )
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def make(dist: Path, *, check: bool) -> str:
    """Build, compare and write everything; returns the version. Raises ReleaseError."""
    version = version_of((ROOT / "core/ppcore/__init__.py").read_text())
    notes = "" if check else notes_of((ROOT / "CHANGELOG.md").read_text(), version)
    if not check and _git("status", "--porcelain"):
        raise ReleaseError("the tree has changes that are not committed; commit them first")
    epoch = _git("log", "-1", "--format=%ct")
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        archives = build(Path(first), epoch)
        if build(Path(second), epoch) != archives:
            raise ReleaseError("two builds of the same tree differ; see which file does with diffoscope")
    dist.mkdir(exist_ok=True)
    for name, data in archives.items():
        (dist / name).write_bytes(data)
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in archives.items()]
    (dist / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    (dist / "NOTES.md").write_text(notes)
    return version


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Archives, checksums, notes and the tag of a release.")
    parser.add_argument("--check", action="store_true", help="build and compare only")
    options = parser.parse_args()
    try:
        version = make(ROOT / "dist", check=options.check)
    except ReleaseError as error:
        sys.exit(f"error: {error}")
    print((ROOT / "dist/SHA256SUMS").read_text(), end="")
    if not options.check:
        _git("tag", "--annotate", f"v{version}", "--file", str(ROOT / "dist/NOTES.md"))
        print(f"tagged v{version}; git push origin v{version}, then upload what is in dist/")


if __name__ == "__main__":
    main()
