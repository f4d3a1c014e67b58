"""Finds the shell and Python blocks of the documentation. Comments in a page say how its blocks are tested:

<!-- given: runs/synth-letters -->            this shard directory exists before the first block runs (anywhere on the page)
<!-- tiny: --per-class 240 => --per-class 2 | sleep 60 => true -->     text replacements that make the next block small
<!-- parsed: cluster -->                      the next block is parsed and not run; the reason is one of REASONS
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.main import get_command

from ppflow.cli import app as ppflow
from ppgen.cli import app as ppgen
from pptrain.cli import app as pptrain

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docker/README.md"))]
)  # fmt: skip
REASONS = {
    "network": "installs packages",
    "cluster": "needs a Ray cluster, several machines or GPUs; tests/generate/engines and tests/train/engine have small ones",
    "cloud": "needs an account in a cloud or a Kubernetes cluster; tests/docker checks the files",
    "slurm": "needs Slurm; tests/docker runs the scripts with a stub",
    "containers": "needs a container engine; tests/docker runs the services as plain processes",
    "store": "needs an object store; tests/generate/engines/test_store.py and tests/docker/test_topology.py have one",
    "hub": "needs the Hugging Face hub; tests/generate/exchange has a stub of it",
    "weights": "needs the weights of an ImageNet generator or a target that is not here",
    "elsewhere": "the same command is run by a test of its own",
    "examples": "tests/docs/test_examples.py runs every example",
    "tests": "is the test suite",
}
LANGUAGES = {"bash", "python", "yaml", "text"}
PROGRAMS = {"ppgen": ppgen, "pptrain": pptrain, "ppflow": ppflow}
_FENCE = re.compile(
    r"(?P<before>(?:^<!-- .* -->\n)*)^```(?P<head>.*)\n(?P<text>(?:(?!```).*\n)*?)```$", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block of shell commands or of Python.

    Attributes:
        place: page and line, for messages.
        text: the block as the page shows it.
        tiny: the shell text that a test runs.
        reason: why the test does not run it; empty if it does.
    """

    place: str
    text: str
    tiny: str
    reason: str


def fences(page: Path) -> Iterator[tuple[str, str, str, int]]:
    """(comments before it, head, text, line) of every fenced block at the left margin."""
    content = page.read_text()
    for match in _FENCE.finditer(content):
        yield match["before"], match["head"], match["text"], content.count("\n", 0, match.start("head")) + 1


def blocks(page: Path) -> list[Block]:
    """The shell and Python blocks of a page, in order. Blocks that include a file are left out: the file has tests."""
    found = []
    for before, head, text, line in fences(page):
        if head not in {"bash", "python"} or "--8<--" in text:
            continue
        place, tiny = f"{page.relative_to(ROOT)}:{line}", text
        for pair in " | ".join(re.findall(r"<!-- tiny: (.*) -->", before)).split(" | "):
            old, arrow, new = pair.partition(" =>")
            assert not arrow or old in text, f"{place}: {old!r} is not in the block"
            tiny = tiny.replace(old, new.strip()) if arrow else tiny
        if head == "python":
            text = tiny = f"python - <<'END_OF_PYTHON'\n{tiny}END_OF_PYTHON\n"
        reasons = re.findall(r"<!-- parsed: (.*) -->", before)
        found.append(Block(place, text, tiny, reasons[0] if reasons else ""))
    return found


def given(page: Path) -> list[str]:
    """The shard directories that exist before the first block runs."""
    return " ".join(re.findall(r"<!-- given: (.*) -->", page.read_text())).split()


def own_commands(text: str) -> Iterator[list[str]]:
    """The words of every command of ours in a shell text, quoted texts of commands included."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words.append(word)
                continue
            for place, candidate in enumerate(words):
                if candidate in PROGRAMS:
                    yield words[place:]
                    break
                if re.match(r"pp(gen|train|flow) ", candidate):
                    yield from own_commands(candidate)
            words = []


def require_parsed(words: list[str]) -> None:
    """Parse a command's options and arguments as the program does. Raises for unknown options and missing or wrong values."""
    command, rest = get_command(PROGRAMS[words[0]]), list(words[1:])
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    for parameter in command.params:
        parameter.callback = None  # --version and --install-completion act while they are parsed
    command.make_context(words[0], rest)


def require_read(block: Block) -> None:
    """Check a block without running it: the shell parses it, our commands parse, and files of the repository exist."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
    for words in own_commands(block.text):
        require_parsed(words)
    for file in re.findall(
        r"(?<![\w/.-])(?:docker|docs|tests|benchmarks|scripts|tools)/[\w./-]+", block.text
    ):
        assert (ROOT / file).exists(), f"{block.place}: {file} does not exist"
