"""`pptransfer`: shard directories as datasets, and soft labels."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from toyshards import ShardWriter, index_of

import pptransfer
from ppcore.errors import UserError
from ppcore.shards import ShardSet
from pptransfer import open_shards, soft_labels

GOLDEN = Path(__file__).parents[2] / "golden/version-2"
SYNTH, PSEUDO = str(GOLDEN / "synth"), str(GOLDEN / "pseudo")


def _seen(loader: Any) -> list[int]:
    """Positions of the samples, read from the pictures of a loader's batches."""
    return [index for batch in loader for index in index_of(batch[0])]


def test_public_names() -> None:
    assert set(pptransfer.__all__) >= {"open_shards", "soft_labels", "shard_urls"}
    assert all(hasattr(pptransfer, name) for name in pptransfer.__all__)


def test_synth_samples_by_position() -> None:
    shards = open_shards(SYNTH)
    opened = ShardSet.open(SYNTH)
    assert (len(shards), shards.classes) == (16, [opened.class_names[c] for c in (0, 3, 17, 41)])
    image, label = shards[11]
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (1, 32, 32))
    assert opened.classes[label] == opened.fetch(11).label
    assert torch.equal(shards[-5][0], image)
    for position in (16, -17):
        with pytest.raises(IndexError):
            shards[position]


def test_targets_of_pseudo_samples_are_soft_labels() -> None:
    for position, (_, soft) in enumerate(open_shards(PSEUDO)[i] for i in range(16)):
        assert (soft.dtype, len(soft)) == (torch.float32, ShardSet.open(PSEUDO).num_classes)
        assert float(soft.sum()) == pytest.approx(1, abs=1e-5), position
    _, one_hot = open_shards(SYNTH, soft=True)[3]
    assert sorted(one_hot.tolist())[-2:] == [0, 1]
    with pytest.raises(UserError, match="soft labels only"):
        open_shards(PSEUDO, soft=False)


@pytest.mark.parametrize("stream", [False, True])
def test_weights_come_from_the_rows(stream: bool) -> None:
    shards = open_shards(PSEUDO, stream=stream, weight="confidence")  # type: ignore[call-overload]
    weights = [weight for *_, weight in (shards if stream else [shards[i] for i in range(16)])]
    rows = ShardSet.open(PSEUDO).store
    assert rows.exists("meta/000000.parquet")
    assert len(weights) == 16
    assert all(0 < weight <= 1 for weight in weights)
    entropies = [open_shards(PSEUDO, weight=lambda row: row["entropy"])[i][2] for i in (0, 8)]
    assert entropies[0] != entropies[1]
    with pytest.raises(UserError, match="no confidence"):
        open_shards(SYNTH, weight="confidence")[0]
    with pytest.raises(UserError, match="unknown weight"):
        open_shards(SYNTH, weight="entropy")  # type: ignore[call-overload]


def test_transforms_take_pillow_images() -> None:
    sizes = [image for image, _ in open_shards(SYNTH, stream=True, transform=lambda image: image.size)]
    assert sizes == [(32, 32)] * 16


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_shuffled_and_whole(write_shards: ShardWriter, workers: int) -> None:
    out = write_shards("a", [7, 5, 9, 6])
    stream = open_shards(str(out), stream=True, seed=1, window=8)
    loader = DataLoader(stream, batch_size=4, num_workers=workers)
    first = _seen(loader)
    assert sorted(first) == list(range(27))
    assert first != sorted(first)
    stream.set_epoch(1)
    assert sorted(second := _seen(loader)) == list(range(27))
    assert second != first
    stream.set_epoch(0)
    assert _seen(loader) == first
    assert len(stream) == 27


def test_epochs_follow_each_other_in_one_process(write_shards: ShardWriter) -> None:
    stream = open_shards(str(write_shards("a", [6, 6])), stream=True)
    epochs = [[int(index) for index in _seen(DataLoader(stream, batch_size=3))] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert stream.state_dict() == {"epoch": 2, "taken": 0}


def test_state_of_a_stream(write_shards: ShardWriter) -> None:
    out = str(write_shards("a", [7, 5, 9, 6]))
    whole = [index_of(image[None])[0] for image, _ in open_shards(out, stream=True, window=8)]
    for taken in (0, 1, 7, 20, 27):
        stream = open_shards(out, stream=True, window=8)
        iterator = iter(stream)
        for _ in range(taken):
            next(iterator)
        resumed = open_shards(out, stream=True, window=8)
        resumed.load_state_dict(stream.state_dict())
        assert [index_of(image[None])[0] for image, _ in resumed] == whole[taken:]
    with pytest.raises(UserError, match="is no state"):
        open_shards(out, stream=True).load_state_dict({"step": 3})


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_loader_of_several_processes_resumes(write_shards: ShardWriter, workers: int) -> None:
    out = str(write_shards("a", [7, 5, 9, 6, 4]))
    batches = [
        index_of(b[0]) for b in DataLoader(open_shards(out, stream=True), batch_size=3, num_workers=workers)
    ]
    for done in (0, 1, 5, len(batches) - 1, len(batches)):
        stream = open_shards(out, stream=True)
        stream.load_state_dict(stream.state_after(done, batch_size=3))
        resumed = [index_of(b[0]) for b in DataLoader(stream, batch_size=3, num_workers=workers)]
        assert resumed == batches[done:], done


def test_ranks_share_an_epoch(write_shards: ShardWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(write_shards("a", [7, 5, 9, 6]))
    seen: Counter[int] = Counter()
    for rank in range(3):
        monkeypatch.setattr("pptransfer.datasets._rank", lambda rank=rank: (rank, 3))
        stream = open_shards(out, stream=True)
        own = _seen(DataLoader(stream, batch_size=2, num_workers=2))
        assert abs(len(own) - len(stream)) <= 2
        seen.update(own)
    assert seen == Counter(range(27))


def test_the_state_of_torchdatas_loader(write_shards: ShardWriter) -> None:
    loaders = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
    out = str(write_shards("a", [7, 5, 9, 6]))
    loader = loaders.StatefulDataLoader(open_shards(out, stream=True), batch_size=4, num_workers=2)
    iterator = iter(loader)
    begun = [next(iterator) for _ in range(2)]
    state = loader.state_dict()
    rest = _seen(iterator)
    again = loaders.StatefulDataLoader(open_shards(out, stream=True), batch_size=4, num_workers=2)
    again.load_state_dict(state)
    assert _seen(again) == rest
    assert len(begun) == 2


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(SYNTH, out)
    (out / "meta/000001.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match="run ppgen verify"):
        open_shards(str(out), weight="confidence")[9]
    (out / "shards/000000.tar").unlink()
    with pytest.raises(UserError, match="is missing"):
        list(open_shards(str(out), stream=True))
    with pytest.raises(UserError, match="no shard directory"):
        open_shards(str(tmp_path))


def test_soft_labels_of_your_own_images() -> None:
    grey = torch.randint(0, 256, (3, 1, 40, 40), dtype=torch.uint8)
    soft = soft_labels(grey)
    assert (soft.dtype, tuple(soft.shape)) == (torch.float32, (3, ShardSet.open(PSEUDO).num_classes))
    assert torch.allclose(soft.sum(1), torch.ones(3))
    assert (soft_labels(grey, top_k=2) > 0).sum(1).tolist() == [2, 2, 2]
    assert soft_labels(grey, temperature=9).max() < soft.max()
    assert len(soft_labels(grey[:0])) == 0
    with pytest.raises(UserError, match="give uint8"):
        soft_labels(grey.float())
    with pytest.raises(UserError, match="temperature"):
        soft_labels(grey, temperature=0)
