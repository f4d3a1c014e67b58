"""Target classes of pseudo samples, as the source classifier sees them: the class means of its features (prototypes, arXiv 1703.05175).

The source classifier was trained on far more images than the target network, so a few labelled images tell it more about the target.
It runs once before training, over the labelled images and the pseudo samples; a training step only reads what it found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ppcore.classifiers import Classifier
from ppcore.console import Progress
from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.targets import ImageSet, decode_ahead
from pptrain.data import ShardPool, decode_into
from pptrain.engine.prepare import PreparedRun
from pptrain.engine.process_group import ProcessGroup
from pptrain.methods import Condition

_BATCH = 64
_MOST_OF_A_CLASS = 20  # labelled images; more change a mean little
_ENOUGH = 0.5  # of the labelled images: a network that knows so many before training has outgrown the teacher (docs/results.md)
_TEMPERATURES = torch.logspace(-2, 0, 41)  # of the softmax over cosines


@dataclass(frozen=True)
class Prototypes:
    """A classifier of features: the softmax over their cosines with the mean of each class.

    Attributes:
        centre: float32 (D,), subtracted from features.
        means: float32 (K, D), of length 1; zeros for a class without images.
        temperature: of the softmax.
        accuracy: share of the labelled images that the means of all others recognise (leave-one-out).
    """

    centre: Tensor
    means: Tensor
    temperature: float
    accuracy: float

    def soft_labels(self, features: Tensor) -> Tensor:
        """float32 (N, D) -> (N, K), rows sum to 1."""
        cosines = F.normalize(features - self.centre, dim=1) @ self.means.T
        return (cosines / self.temperature).softmax(1)


def fit_prototypes(features: Tensor, labels: Tensor, num_classes: int) -> Prototypes:
    """The prototypes of labelled images. The temperature is the one with the smallest leave-one-out cross-entropy.

    Args:
        features: float32 (N, D).
        labels: int64 (N,), below `num_classes`.
    """
    centre = features.mean(0)
    unit = F.normalize(features - centre, dim=1)
    sums = unit.new_zeros(num_classes, unit.shape[1]).index_add(0, labels, unit)
    cosines = unit @ F.normalize(sums, dim=1).T  # (N, K)
    without = F.normalize(sums[labels] - unit, dim=1)  # of an image's own class, without the image
    alone = torch.bincount(labels, minlength=num_classes)[labels] == 1  # nothing is left to recognise it by
    cosines[torch.arange(len(labels)), labels] = (unit * without).sum(1).masked_fill(alone, -1.0)
    losses = [F.cross_entropy(cosines / temperature, labels) for temperature in _TEMPERATURES]
    best = float(_TEMPERATURES[int(torch.stack(losses).argmin())])
    accuracy = float((cosines.argmax(1) == labels).float().mean())
    return Prototypes(centre, F.normalize(sums, dim=1), best, accuracy)


def with_prototypes(prepared: PreparedRun, group: ProcessGroup, *, quiet: bool) -> PreparedRun:
    """The run with the target classes of its pseudo samples, if its method uses them.

    They are left out (None) where the initial network's own class means recognise half of the labelled images: training then
    goes beyond what the teacher knows. They are left out, too, where the teacher's recognise no more than chance.

    Raises:
        UserError: there are no pseudo samples.
    """
    method, source = prepared.method, prepared.source
    if not isinstance(method, Condition) or method.prototypes == 0 or source is None:
        return prepared
    teacher, train, pool = prepared.teacher, prepared.train, prepared.pseudo
    assert teacher is not None
    assert train is not None
    assert pool is not None
    if all(opened.kind != "pseudo" for opened in pool.sets):
        raise UserError(
            "method.options.prototypes needs pseudo samples; give --unlabeled a directory of ppgen pseudo, or leave the option out"
        )
    device = group.device
    train = train.select(few_of_each(train.labels))
    labels, classes = torch.from_numpy(train.labels).long(), prepared.spec.num_classes
    student = Classifier(prepared.net, prepared.spec).eval()
    seen = [
        fit_prototypes(_features_of_images(network.to(device), train, device), labels, classes)
        for network in (teacher, student)
    ]
    line = (
        f"class means of features recognise {seen[0].accuracy:.0%} of the labelled images (leave-one-out) by the teacher, "
        f"{seen[1].accuracy:.0%} by the initial network"
    )
    taught = None
    if seen[1].accuracy < _ENOUGH and seen[0].accuracy > 1 / classes:
        taught = _soft_labels_of_samples(teacher, seen[0], pool, device, quiet=quiet).to(device)
        group.share([taught])  # all processes train on the same numbers
    else:
        line += ": the teacher is not used"
    again = teacher if method.target == "classifier" else None
    notes = [*prepared.notes, line] if group.is_main else []
    return replace(prepared, source=replace(source, taught=taught), teacher=again, notes=notes)


def few_of_each(labels: np.ndarray) -> np.ndarray:
    """Positions of at most 20 images of every class, int64, ascending; the same in every run."""
    order = numpy_rng(0, "prototypes").permutation(len(labels))
    chosen = [order[labels[order] == label][:_MOST_OF_A_CLASS] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


@torch.no_grad()
def _features_of_images(classifier: Classifier, images: ImageSet, device: torch.device) -> Tensor:
    whole = classifier.whole()
    parts = [range(first, min(first + _BATCH, len(images))) for first in range(0, len(images), _BATCH)]
    batches = decode_ahead(images, parts, classifier.spec.preparation)
    return torch.cat([whole.features(pixels.to(device)).cpu() for pixels in batches])


@torch.no_grad()
def _soft_labels_of_samples(
    teacher: Classifier, prototypes: Prototypes, pool: ShardPool, device: torch.device, *, quiet: bool
) -> Tensor:
    """float32 (N, K), in the order of the whole set. Rows of synth samples are zero: only pseudo samples are made for the target."""
    made = [owner for owner, opened in enumerate(pool.sets) if opened.kind == "pseudo"]
    total = sum(ref.samples for owner, ref in pool.refs if owner in made)
    progress = None if quiet else Progress(total, "samples", label="teacher")
    found = []
    for shard, (owner, ref) in enumerate(pool.refs):
        if owner not in made:
            found.append(torch.zeros(ref.samples, len(prototypes.means)))
            continue
        for images in _batches(pool, shard):
            found.append(prototypes.soft_labels(teacher.features(images.to(device)).cpu()))
            if progress is not None:
                progress.advance(len(images))
    if progress is not None:
        progress.close()
    return torch.cat(found)


def _batches(pool: ShardPool, shard: int) -> Iterator[Tensor]:
    """uint8 (B, C, H, W) of the samples of a shard, in order."""
    where, samples = pool.where(shard), pool.read(shard)
    for first in range(0, len(samples), _BATCH):
        part = samples[first : first + _BATCH]
        images = np.empty((len(part), pool.resolution, pool.resolution, pool.channels), dtype=np.uint8)
        for sample, pixels in zip(part, images, strict=True):
            decode_into(sample, pixels, where)
        yield torch.from_numpy(images).permute(0, 3, 1, 2)
