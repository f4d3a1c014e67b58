"""The targets known by name. A new one is a row here, and a layout in `ppcore.targets.layouts` if its archive has a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from ppcore.targets.pixels import array_set
from ppcore.targets.target import Splits

_DIGITS_TEST = 900


def read_digits() -> Splits:
    """1,797 handwritten digits (Alpaydin & Kaynak 1998, UCI, 8x8, 16 grey levels), enlarged to 32x32.

    They are padded by one pixel and resized (bicubic). A fixed permutation chooses 900 test images.
    """
    images, labels = _digits()
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.sort(order[:_DIGITS_TEST]), np.sort(order[_DIGITS_TEST:])
    whole = array_set([f"digits-{i:04d}" for i in range(len(labels))], labels, images)
    return Splits(whole.select(train), whole.select(test), tuple("0123456789"))


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 32, 32, 1) and labels int64 (N,)."""
    from sklearn.datasets import load_digits  # slow to import

    data = load_digits()
    small = np.pad(np.round(data.images * 255 / 16).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))
    large = [np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BICUBIC)) for i in small]
    return np.stack(large)[:, :, :, None], data.target.astype(np.int64)


_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"


@dataclass(frozen=True)
class NamedTarget:
    """A data set that is known by name, its sizes, and where it comes from.

    Attributes:
        classes, train, test: numbers of classes and images of a complete copy, checked when it is loaded.
        split: origin of the split.
        licence: as its authors state it.
        page: web page of the data set.
        torchvision: class of `torchvision.datasets` that downloads it; empty if that is impossible.
        hub: `hf://datasets/ORG/NAME@COMMIT`.
        hub_files: patterns of the files to download from the hub.
        steps: files that must be downloaded from `page` by hand.
        gigabytes: size of the download.
        per_class: training images a class if there is no published split.
        read: reads a data set that is part of a library.
    """

    name: str
    title: str
    classes: int
    train: int
    test: int
    split: str
    licence: str
    page: str
    torchvision: str = ""
    hub: str = ""
    hub_files: tuple[str, ...] = ()
    steps: str = ""
    gigabytes: float = 0.0
    per_class: int | None = None
    read: Callable[[], Splits] | None = None


_TARGETS = (
    NamedTarget(
        name="digits",
        title="handwritten digits of scikit-learn (Alpaydin & Kaynak 1998)",
        classes=10,
        train=897,
        test=900,
        split="ours: 900 images by a fixed permutation",
        licence="CC BY 4.0",
        page="https://archive.ics.uci.edu/dataset/80",
        read=read_digits,
    ),
    NamedTarget(
        name="cars",
        title="Stanford Cars (Krause et al. 2013)",
        classes=196,
        train=8144,
        test=8041,
        split="official",
        licence="none stated; images from the web, for research",
        page="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        # torchvision's link is dead. The repository also contains distorted copies of the test images.
        hub="hf://datasets/tanganke/stanford_cars@269de5dca6d88c0f1426f8ad0dc070c0b030bb3d",
        hub_files=("*train*.parquet", "*test*.parquet"),
        gigabytes=2.0,
    ),
    NamedTarget(
        name="aircraft",
        title="FGVC-Aircraft 2013b, 100 variants (Maji et al. 2013)",
        classes=100,
        train=6667,
        test=3333,
        split="official: train + val, test",
        licence="non-commercial research only",
        page=f"{_OXFORD}/fgvc-aircraft/",
        torchvision="FGVCAircraft",
        gigabytes=2.75,
    ),
    NamedTarget(
        name="cub",
        title="Caltech-UCSD Birds 200-2011 (Wah et al. 2011)",
        classes=200,
        train=5994,
        test=5794,
        split="official",
        licence="non-commercial research and education only",
        page="https://data.caltech.edu/records/65de6-vp158",
        steps="CUB_200_2011.tgz",
        gigabytes=1.15,
    ),
    NamedTarget(
        name="dtd",
        title="Describable Textures (Cimpoi et al. 2014)",
        classes=47,
        train=3760,
        test=1880,
        split="official, the first of ten: train + val, test",
        licence="research only",
        page=f"{_OXFORD}/dtd/",
        torchvision="DTD",
        gigabytes=0.63,
    ),
    NamedTarget(
        name="flowers",
        title="Oxford Flowers-102 (Nilsback & Zisserman 2008)",
        classes=102,
        train=2040,
        test=6149,
        split="official: trnid + valid, tstid",
        licence="none stated",
        page=f"{_OXFORD}/flowers/102/",
        torchvision="Flowers102",
        gigabytes=0.35,
    ),
    NamedTarget(
        name="pets",
        title="Oxford-IIIT Pet (Parkhi et al. 2012)",
        classes=37,
        train=3680,
        test=3669,
        split="official: trainval, test",
        licence="CC BY-SA 4.0",
        page=f"{_OXFORD}/pets/",
        torchvision="OxfordIIITPet",
        gigabytes=0.81,
    ),
    NamedTarget(
        name="dogs",
        title="Stanford Dogs (Khosla et al. 2011)",
        classes=120,
        train=12000,
        test=8580,
        split="official",
        licence="images of ImageNet: its terms, research only",
        page="http://vision.stanford.edu/aditya86/ImageNetDogs/",
        steps="images.tar and lists.tar",
        gigabytes=0.82,
    ),
    NamedTarget(
        name="indoor67",
        title="MIT Indoor Scenes (Quattoni & Torralba 2009)",
        classes=67,
        train=5360,
        test=1340,
        split="official: 80 and 20 images a class of 15,620",
        licence="research only",
        page="https://web.mit.edu/torralba/www/indoor.html",
        steps="the images' tar, TrainImages.txt and TestImages.txt",
        gigabytes=2.6,
    ),
    NamedTarget(
        name="caltech256-60",
        title="Caltech-256 without clutter (Griffin et al. 2007)",
        classes=256,
        train=15360,
        test=14420,
        split="ours: 60 images a class by a hash of their names",
        licence="CC BY 4.0",
        page="https://data.caltech.edu/records/nyy15-4j048",
        torchvision="Caltech256",
        gigabytes=1.2,
        per_class=60,
    ),
    NamedTarget(
        name="food101",
        title="Food-101 (Bossard et al. 2014)",
        classes=101,
        train=75750,
        test=25250,
        split="official",
        licence="images of others, scientific fair use only",
        page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        torchvision="Food101",
        gigabytes=5.0,
    ),
    NamedTarget(
        name="eurosat",
        title="EuroSAT, RGB (Helber et al. 2019)",
        classes=10,
        train=21600,
        test=5400,
        split="ours: a fifth of every class by a hash of the names",
        licence="MIT",
        page="https://github.com/phelber/EuroSAT",
        torchvision="EuroSAT",
        gigabytes=0.09,
    ),
    NamedTarget(
        name="cifar10",
        title="CIFAR-10 (Krizhevsky 2009)",
        classes=10,
        train=50000,
        test=10000,
        split="official",
        licence="none stated",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        torchvision="CIFAR10",
        gigabytes=0.17,
    ),
    NamedTarget(
        name="cifar100",
        title="CIFAR-100, fine labels (Krizhevsky 2009)",
        classes=100,
        train=50000,
        test=10000,
        split="official",
        licence="none stated",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        torchvision="CIFAR100",
        gigabytes=0.17,
    ),
    NamedTarget(
        name="mnist",
        title="MNIST (LeCun et al. 1998)",
        classes=10,
        train=60000,
        test=10000,
        split="official",
        licence="CC BY-SA 3.0",
        page="http://yann.lecun.com/exdb/mnist/",
        torchvision="MNIST",
        gigabytes=0.01,
    ),
)

NAMED: dict[str, NamedTarget] = {target.name: target for target in _TARGETS}
"""Name -> target, in the order of `ppgen targets`."""
