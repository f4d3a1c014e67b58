"""The order of samples: exact epochs, uneven shards, workers, ranks, resume, mixtures."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from toyshards import CLASSES, ShardWriter, encode, index_of

from ppcore.errors import UserError
from ppcore.images import decode
from pptrain.data.feed import BatchShare, RawBatch, ResidentFeed, load_resident
from pptrain.data.order import LaneOrder, Mixture, Permuted
from pptrain.data.shard_pool import open_shard_pool
from pptrain.data.stream import StreamFeed
from pptrain.data.transforms import read_plain_png

COUNTS = [7, 1, 12, 5, 9, 3, 11, 6]  # 54 samples
TOTAL = sum(COUNTS)


def stream(root: Path, share: BatchShare, **options: object) -> StreamFeed:
    pool = open_shard_pool([str(root)], "synth")
    return StreamFeed([pool], share, seed=3, name="t", **{"window": 10, **options})  # type: ignore[arg-type]


def collect(feed: StreamFeed | ResidentFeed, batches: int, start: int = 0) -> list[RawBatch]:
    return list(islice(feed.batches(start), batches))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_every_sample_once_an_epoch(write_shards: ShardWriter, workers: int, world: int) -> None:
    root = write_shards("s", COUNTS)
    epochs, batch = 4, 6  # 54 * 4 = 216 samples = 36 batches of 6
    seen: Counter[int] = Counter()
    for rank in range(world):
        feed = stream(root, BatchShare(batch, rank, world, world), workers=workers)
        for images in collect(feed, TOTAL * epochs // batch):
            assert images.images.shape == (batch // world, 1, 8, 8)
            ids = images.ids.tolist()
            assert index_of(images.images) == ids  # the image at that position
            assert images.labels.tolist() == [i % len(CLASSES) for i in ids]
            seen.update(ids)
    assert set(seen) == set(range(TOTAL))
    # Lanes change epochs independently: at the same step, some lanes may be a sample or two into the next epoch.
    assert sum(seen.values()) == TOTAL * epochs
    assert all(epochs - 1 <= count <= epochs + 1 for count in seen.values())


@pytest.mark.parametrize("lanes", [1, 2, 3, 8])
def test_lanes_cover_every_epoch_exactly(lanes: int) -> None:
    orders = [LaneOrder(COUNTS, 0, "x", lane=lane, lanes=lanes, window=5) for lane in range(lanes)]
    for epoch in range(5):
        plans = [order.epoch(epoch) for order in orders]
        assert sorted(np.concatenate([p.index[p.order] for p in plans]).tolist()) == list(range(TOTAL))
        lengths = [len(p.order) for p in plans]
        assert max(lengths) - min(lengths) <= 1
        for plan in plans:
            assert (
                plan.order <= np.arange(len(plan.order)) + 5
            ).all()  # nothing moves ahead beyond the window
    totals = [sum(order.length(epoch) for epoch in range(lanes)) for order in orders]
    assert len(set(totals)) == 1  # over many epochs all lanes are equally long
    assert orders[0].locate(sum(orders[0].length(e) for e in range(7)) + 2) == (7, 2)


def test_epochs_are_shuffled_anew() -> None:
    order = LaneOrder(COUNTS, 0, "x", lane=0, lanes=1, window=10)
    first, second = order.epoch(0), order.epoch(1)
    assert first.index[first.order].tolist() != second.index[second.order].tolist()
    again = LaneOrder(COUNTS, 0, "x", lane=0, lanes=1, window=10).epoch(1)
    assert again.index[again.order].tolist() == second.index[second.order].tolist()


@pytest.mark.parametrize(("workers", "lanes"), [(0, 1), (0, 2), (2, 2)])
def test_resume_continues_the_same_sequence(write_shards: ShardWriter, workers: int, lanes: int) -> None:
    root = write_shards("s", COUNTS)
    share = BatchShare(4)
    whole = collect(stream(root, share, workers=workers, lanes=lanes), 40)
    for start in (1, 7, 23):
        resumed = collect(stream(root, share, workers=workers, lanes=lanes), 40 - start, start)
        for a, b in zip(whole[start:], resumed, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.ids, b.ids)


def test_order_does_not_depend_on_workers_or_ranks(write_shards: ShardWriter) -> None:
    root = write_shards("s", COUNTS)
    alone = collect(stream(root, BatchShare(8, groups=2), lanes=2), 10)
    with_workers = collect(stream(root, BatchShare(8, groups=2), lanes=2, workers=2), 10)
    ranks = [collect(stream(root, BatchShare(8, rank, 2, 2), lanes=2), 10) for rank in range(2)]
    for step in range(10):
        assert torch.equal(alone[step].ids, with_workers[step].ids)
        both = torch.cat([ranks[0][step].ids, ranks[1][step].ids])
        assert torch.equal(alone[step].ids, both)


def test_too_few_shards_is_one_sentence(write_shards: ShardWriter) -> None:
    root = write_shards("s", [4, 4, 4])
    with pytest.raises(UserError, match=r"3 shards for 2 workers.*2 ranks"):
        stream(root, BatchShare(4, 0, 2, 2), workers=2)
    with pytest.raises(UserError, match="cannot be shared by 2 processes"):
        BatchShare(5, 0, 2, 2)


def test_resident_set_is_permuted_whole_and_split_over_ranks(write_shards: ShardWriter) -> None:
    pool = open_shard_pool([str(write_shards("s", COUNTS))], "synth")
    images, labels, keys = load_resident([pool])
    assert index_of(images) == list(range(TOTAL))
    assert len(set(keys)) == TOTAL
    ranks = [ResidentFeed(images, labels, keys, BatchShare(6, r, 2, 2), seed=0, name="x") for r in range(2)]
    alone = collect(ResidentFeed(images, labels, keys, BatchShare(6), seed=0, name="x"), 9)
    parts = [collect(feed, 9) for feed in ranks]
    for step in range(9):
        both = torch.cat([parts[0][step].ids, parts[1][step].ids])
        assert torch.equal(alone[step].ids, both)
    assert sorted(torch.cat([b.ids for b in alone]).tolist()) == list(range(TOTAL))  # 9 * 6 = one epoch
    resumed = collect(ResidentFeed(images, labels, keys, BatchShare(6), seed=0, name="x"), 4, start=5)
    assert torch.equal(resumed[0].ids, alone[5].ids)


def test_small_sets_repeat_evenly() -> None:
    order = Permuted(5, 0, "x")
    counts = np.bincount(order.positions(0, 64), minlength=5)
    assert counts.max() - counts.min() <= 1


def test_directories_are_mixed_by_weight(write_shards: ShardWriter) -> None:
    roots = [str(write_shards("a", [8] * 4)), str(write_shards("b", [8] * 4))]
    pool = open_shard_pool(roots, "synth")
    feed = StreamFeed(pool.split(), BatchShare(10), seed=0, name="x", weights=[0.8, 0.2], window=5)
    ids = torch.cat([images.ids for images in collect(feed, 30)])
    assert (ids < 32).float().mean().item() == pytest.approx(0.8, abs=0.02)
    tail = torch.cat([images.ids for images in collect(feed, 10, start=20)])
    assert torch.equal(ids[200:], tail)
    images, labels, keys = load_resident(pool.split())
    resident = ResidentFeed(
        images, labels, keys, BatchShare(10), seed=0, name="x", sizes=[32, 32], weights=[0.8, 0.2]
    )
    ids = torch.cat([images.ids for images in collect(resident, 30)])
    assert (ids < 32).float().mean().item() == pytest.approx(0.8, abs=0.02)
    tail = torch.cat([images.ids for images in collect(resident, 10, start=20)])
    assert torch.equal(ids[200:], tail)
    assert feed.key(35).startswith(roots[1])
    assert feed.key(35).endswith("000000003")


def test_mixture_counts_agree_with_choices() -> None:
    mixture = Mixture([1, 2, 5])
    assert mixture.drawn(1000).tolist() == np.bincount(mixture.choose(0, 1000)).tolist()
    assert mixture.drawn(1000).tolist() == pytest.approx([125, 250, 625], abs=3)


def test_jpeg_and_colour(write_shards: ShardWriter) -> None:
    pool = open_shard_pool(
        [str(write_shards("j", [6, 6], channels=3, resolution=16, extension="jpg"))], "synth"
    )
    images, labels, _ = load_resident([pool])
    assert images.shape == (12, 3, 16, 16)
    assert images.is_contiguous()
    band = images[torch.arange(12), 0, labels * 4 + 1, 8]
    assert (band > 150).all()  # the place of the bright band shows the label


def test_unusable_directories(write_shards: ShardWriter, tmp_path: Path) -> None:
    synth, pseudo = write_shards("s", [4]), write_shards("p", [4], kind="pseudo")
    with pytest.raises(UserError, match="pseudo samples where synth"):
        open_shard_pool([str(pseudo)], "synth")
    with pytest.raises(UserError, match="synth samples where pseudo"):
        open_shard_pool([str(synth)], "pseudo")
    with pytest.raises(UserError, match="empty shard"):
        open_shard_pool([str(write_shards("e", [4, 0]))], "synth")
    with pytest.raises(UserError, match="must agree"):
        open_shard_pool([str(synth), str(write_shards("c", [4], channels=3))], "synth")
    with pytest.raises(UserError, match="no shard directory"):
        open_shard_pool([str(tmp_path / "missing")], "synth")
    lying = write_shards("l", [4], plan={"resolution": 16})
    with pytest.raises(UserError, match="8x8 pixels, its plan says 16x16"):
        load_resident([open_shard_pool([str(lying)], "synth")])
    foreign = write_shards("f", [4], plan={"classes": [0, 1]})
    with pytest.raises(UserError, match="which is not in its plan"):
        load_resident([open_shard_pool([str(foreign)], "synth")])


@pytest.mark.parametrize("channels", [1, 3])
def test_plain_png_reader_agrees_with_pillow_or_declines(channels: int) -> None:
    from ppgen.plan.build import choose_encoding
    from ppgen.shards.pack import make_encoder

    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, channels)).astype(np.uint8)
    plain = make_encoder(choose_encoding("png", 20))(pixels.transpose(2, 0, 1))
    out = np.zeros_like(pixels)
    assert read_plain_png(plain, out)
    np.testing.assert_array_equal(out, pixels)
    np.testing.assert_array_equal(decode(plain, channels=channels), pixels)
    for damaged in (
        plain[:-20],
        plain[:50],
        plain.replace(b"IDAT", b"IDOT"),
        b"",
        plain[:45] + b"\0" + plain[46:],
    ):
        assert not read_plain_png(damaged, out)
    assert not read_plain_png(plain, np.zeros((12, 20, channels), dtype=np.uint8))
    assert not read_plain_png(plain, np.zeros((20, 12, 4 - channels), dtype=np.uint8))
    assert not read_plain_png(
        encode(np.kron(pixels, np.ones((3, 3, 1), np.uint8)), "png"), np.zeros((60, 36, channels), np.uint8)
    )
