"""Measures every figure on the card of the letters kit.

    python -m tools.kits.letters.measure --work DIR

DIR is the work folder of `tools.kits.letters.build`; missing pictures are rendered again. Samples are made by ppgen's own generator.
"""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ppcore.classifiers import load_classifier
from ppcore.kits import EMBEDDED
from ppcore.seeds import derive, sample_seed
from ppgen.generators import load_generator
from tools.kits.arguments import new_parser
from tools.kits.letters import build, classifier, package
from tools.kits.letters.fonts import CLASS_NAMES

K = len(CLASS_NAMES)
AGREEMENT_PER_CLASS = 100
SCORE_IMAGES, SCORE_STEPS = 12_600, 1_000
JUDGE_STEPS = 3_000
SPEED_SECONDS, SPEED_BATCH = 15.0, 64


def sample(kit: str, count: int, seed: int, batch: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """`count` generated letters, classes in turn: uint8 (count, 32, 32) and labels uint8 (count,)."""
    generator = load_generator(kit, device="cpu")
    labels = torch.arange(count) % K
    seeds = torch.tensor([sample_seed(derive(seed, "measure"), i) for i in range(count)])
    parts = [
        generator.sample(torch.nn.functional.one_hot(y, K).float(), s)[:, 0]
        for y, s in zip(labels.split(batch), seeds.split(batch), strict=True)
    ]
    return torch.cat(parts).numpy(), labels.numpy().astype(np.uint8)


def judge(work: Path, real: build.Pictures) -> nn.Module:
    """The independent classifier: another architecture, real letters only."""
    fresh = classifier.PlainNet()
    train = functools.partial(classifier.train_classifier, fresh, real.train_x, real.train_y)
    return build.kept(work / "judge.pt", classifier.PlainNet(), lambda: train(JUDGE_STEPS))


def score(kit: str, work: Path, real: build.Pictures) -> Iterator[str]:
    """Classification accuracy score (Ravuri & Vinyals 2019): trained on generated against on as many real letters."""
    train = functools.partial(classifier.train_classifier, steps=SCORE_STEPS, seed=7)
    few = real.train_x[:SCORE_IMAGES], real.train_y[:SCORE_IMAGES]
    nets = {
        "generated": train(classifier.new_small(), *sample(kit, SCORE_IMAGES, seed=2)).eval(),
        "real": build.kept(
            work / "score-real.pt", classifier.new_small(), lambda: train(classifier.new_small(), *few)
        ),
    }
    reached = {name: classifier.accuracy(net, real.test_x, real.test_y) for name, net in nets.items()}
    for name, value in reached.items():
        yield f"trained on {SCORE_IMAGES} {name} letters: {value:.2%} on held-out families"
    yield f"classification accuracy score, generated / real: {reached['generated'] / reached['real']:.3f}  (bar 0.95)"


def speed(kit: str, processes: int = 2) -> float:
    """Images/s of `processes` processes of one thread each, through the product's generator."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        return sum(pool.map(_sample_for_a_while, [kit] * processes, chunksize=1))


def _sample_for_a_while(kit: str) -> float:
    torch.set_num_threads(1)
    generator = load_generator(kit, device="cpu")
    condition = torch.nn.functional.one_hot(torch.arange(SPEED_BATCH) % K, K).float()
    seeds = torch.arange(SPEED_BATCH)
    generator.sample(condition, seeds)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SPEED_SECONDS:
        generator.sample(condition, seeds + done)
        done += SPEED_BATCH
    return done / (time.perf_counter() - start)


def by_family(net: nn.Module, work: Path, real: build.Pictures) -> Iterator[str]:
    """Accuracy on every held-out family."""
    listing = (work / "test_fonts.txt").read_text().splitlines()
    families = np.array([line.split("\t")[0] for line in listing])[real.test_f]
    parts = []
    for family in sorted(set(families)):
        chosen = families == family
        parts.append(f"{family} {classifier.accuracy(net, real.test_x[chosen], real.test_y[chosen]):.1%}")
    yield "  " + ", ".join(parts)


def contact_sheet(kit: str, path: Path, rows: int = 12) -> None:
    """`rows` samples of every class, one class a column."""
    x, _ = sample(kit, rows * K, seed=3)
    Image.fromarray(x.reshape(rows, K, 32, 32).transpose(0, 2, 1, 3).reshape(rows * 32, K * 32)).save(path)


def lines(kit: str, work: Path) -> Iterator[str]:
    """One line for each figure, as soon as it is measured."""
    folder = Path(kit) if Path(kit).is_dir() else EMBEDDED / kit
    yield f"size: {package.size_of(folder) / 1e6:.2f} MB  (bar 8)"
    yield f"speed: {speed(kit):.0f} images/s, two processes of one thread  (bar 150)"
    real = build.pictures(work)
    source = load_classifier(str(folder / "classifier"))
    yield f"classifier: {classifier.accuracy(source.net, real.test_x, real.test_y):.2%} on held-out families  (bar 92 %)"
    yield from by_family(source.net, work, real)
    independent = judge(work, real)
    yield f"independent judge: {classifier.accuracy(independent, real.test_x, real.test_y):.2%} on held-out families"
    x, y = sample(kit, AGREEMENT_PER_CLASS * K, seed=1)
    agreement = classifier.accuracy(independent, x, y)
    yield f"agreement of the judge with the label of {len(y)} samples: {agreement:.2%}  (bar 90 %)"
    contact_sheet(kit, work / "contact.png")
    yield from score(kit, work, real)


def main() -> None:
    """Command line."""
    parser = new_parser("letters.measure", __doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/letters-kit"), help="work folder of tools.kits.letters.build"
    )
    parser.add_argument("--kit", default="letters", help="kit name or directory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for line in lines(options.kit, options.work):
        print(line, flush=True)


if __name__ == "__main__":
    main()
