"""The arithmetic of an estimate."""

from __future__ import annotations

from plans import make_plan

from ppgen.plan.estimate import Estimate, Rate, estimate_bytes, format_bytes


def test_units() -> None:
    assert format_bytes(999) == "999 B"
    assert format_bytes(62.44e9) == "62.4 GB"


def test_rough_bytes_need_no_generator() -> None:
    total, image = estimate_bytes(make_plan(), None)
    assert 0 < image < 256
    assert total > 75 * (1024 + image)


def test_an_estimate_in_words() -> None:
    rate = Rate(images_per_s=5.0, bytes_per_image=200.0, row_bytes=100.0, images=8, device="cuda:0")
    text = Estimate(make_plan(), "out", left=36, workers=2, rate=rate, price_per_hour=100.0).describe()
    for line in (
        "synth: 3 of 10 classes of dummy, 75 images of 16x16x1 as png, seed 5",
        "4 shards of at most 20 images, batches of 8 -> out",
        "39 images are made already, 36 are missing",
        "5.0 images/s a worker on cuda:0, 10.0 with 2 workers",
        "about 3s with 2 workers: 0.00 GPU-hours, 0.20 at 100 an hour",
    ):
        assert line in text.splitlines()
