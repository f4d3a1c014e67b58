"""`pptransfer`: shard directories as datasets, and soft labels."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset
from toyshards import ShardWriter, index_of

import pptransfer
from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.storage import Store
from pptrain.data import LaneOrder
from pptransfer import open_shards, soft_labels

GOLDEN = Path(__file__).parents[2] / "golden/version-2"
SYNTH, PSEUDO = str(GOLDEN / "synth"), str(GOLDEN / "pseudo")


def _seen(loader: Any) -> list[int]:
    """Positions of the samples, read from the pictures of a loader's batches."""
    return [index for batch in loader for index in index_of(batch[0])]


def _batches(loader: Any) -> list[list[int]]:
    return [index_of(batch[0]) for batch in loader]


every_loader = pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 3}, {"num_workers": 2, "persistent_workers": True}],
    ids=["one process", "workers", "persistent workers"],
)


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
    assert torch.equal(shards[np.int64(-5)][0], image)
    assert [label for _, label in Subset(shards, np.arange(16))] == [shards[i][1] for i in range(16)]  # type: ignore[arg-type]
    for position in (16, -17, np.int64(16)):
        with pytest.raises(IndexError):
            shards[position]
    with pytest.raises(TypeError):
        shards[1.0]  # type: ignore[index]
    assert opened.fetch(np.int64(3)) == opened.fetch(3) == opened.fetch("000000003")
    for absent in (16, -1, "x"):
        with pytest.raises(UserError, match="it holds 0 to 15"):
            opened.fetch(absent)


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
    rows = pq.read_table(f"{PSEUDO}/manifest.parquet").to_pylist()
    stored = [row["confidence"] for row in rows]
    assert (sorted(weights) if stream else weights) == (sorted(stored) if stream else stored)
    seen: list[dict[str, Any]] = []
    whole = open_shards(PSEUDO, weight=lambda row: seen.append(dict(row)) or row["entropy"])  # type: ignore[func-returns-value]
    assert [whole[i][2] for i in range(16)] == [row["entropy"] for row in rows]
    assert seen == rows
    with pytest.raises(UserError, match="no confidence"):
        open_shards(SYNTH, weight="confidence")[0]
    with pytest.raises(UserError, match="unknown weight"):
        open_shards(SYNTH, weight="entropy")  # type: ignore[call-overload]


def test_a_weight_reads_its_column_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a table of each shard: random positions of a thousand shards would read a thousand tables."""
    opened: list[str] = []
    open_file = Store.open

    def recorded(store: Store, name: str) -> IO[bytes]:
        opened.append(name)
        return open_file(store, name)

    monkeypatch.setattr(Store, "open", recorded)
    shards = open_shards(PSEUDO, weight="confidence")
    for position in (15, 0, 9, 3):
        shards[position]
    assert opened == ["manifest.parquet"]


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


@every_loader
def test_each_iteration_is_the_next_epoch(write_shards: ShardWriter, options: dict[str, Any]) -> None:
    out = str(write_shards("a", [7, 5, 9, 6, 4]))
    stream = open_shards(out, stream=True)
    loader = DataLoader(stream, batch_size=3, **options)
    epochs = []
    for _ in range(4):
        torch.manual_seed(0)  # the loader's own seed is then the same in every epoch
        epochs.append(_seen(loader))
        assert sorted(epochs[-1]) == list(range(31))
    assert len(set(map(tuple, epochs))) == 4
    for epoch in (2, 0):
        stream.set_epoch(epoch)
        assert _seen(loader) == epochs[epoch]
    next(iter(loader))  # the epoch after the last, broken off
    assert stream.state_after(1, batch_size=3) == {"epoch": 1, "batches": 1, "batch_size": 3}
    assert _seen(loader) == epochs[2]


@every_loader
@pytest.mark.parametrize("done", [0, 1, 5, -1, None])
def test_a_resumed_loader_goes_on(
    write_shards: ShardWriter, options: dict[str, Any], done: int | None
) -> None:
    out = str(write_shards("a", [7, 5, 9, 6, 4]))
    whole = DataLoader(open_shards(out, stream=True), batch_size=3, **options)
    epochs = [_batches(whole) for _ in range(3)]
    taken = list(range(len(epochs[0])))[done] if done is not None else len(epochs[0])
    stream = open_shards(out, stream=True)
    state = stream.state_after(taken, batch_size=3)
    stream.load_state_dict(state)
    assert stream.state_dict() == state
    loader = DataLoader(stream, batch_size=3, **options)
    assert _batches(loader) == epochs[0][taken:]
    assert [_batches(loader), _batches(loader)] == epochs[1:]


@every_loader
def test_two_loaders_of_one_stream_at_once(write_shards: ShardWriter, options: dict[str, Any]) -> None:
    stream = open_shards(str(write_shards("a", [7, 5, 9, 6, 4])), stream=True)
    loaders = [DataLoader(stream, batch_size=3, **options) for _ in range(2)]
    for epochs in (0, 2), (2, 4):
        both = [_seen(side) for side in zip(*(map(list, zip(*loaders, strict=True))), strict=True)]
        for seen, epoch in zip(both, range(*epochs), strict=True):
            alone = open_shards(str(stream._reader.shards.store), stream=True)
            alone.set_epoch(epoch)
            assert seen == _seen(DataLoader(alone, batch_size=3, **options))


def test_only_loader_processes_know_their_position(write_shards: ShardWriter) -> None:
    stream = open_shards(str(write_shards("a", [7, 5])), stream=True)
    loader = DataLoader(stream, batch_size=3, num_workers=1)
    _seen(loader)
    with pytest.raises(UserError, match="use state_after"):
        stream.state_dict()
    stream.set_epoch(4)
    assert stream.state_dict() == {"epoch": 4, "taken": 0}


def test_a_stream_of_another_process_needs_an_epoch(write_shards: ShardWriter) -> None:
    """A forked process has the memory of its parent's stream, where the epochs of several loaders would be mixed."""
    stream = open_shards(str(write_shards("a", [7, 5])), stream=True)
    stream._owner = 1
    loader = DataLoader(stream, batch_size=3, num_workers=1)
    with pytest.raises(UserError, match="call set_epoch"):
        _seen(loader)
    stream.set_epoch(0)
    assert sorted(_seen(loader)) == list(range(12))


class _OpenedLate(IterableDataset[Any]):
    def __init__(self, out: str) -> None:
        self.out = out

    def __iter__(self) -> Iterator[Any]:
        return iter(open_shards(self.out, stream=True))


def test_a_stream_opened_in_loader_processes(write_shards: ShardWriter) -> None:
    late = _OpenedLate(str(write_shards("a", [7, 5])))
    assert sorted(_seen(DataLoader(late, batch_size=3, num_workers=2))) == list(range(12))


def test_a_copy_has_its_own_epochs(write_shards: ShardWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open_shards(str(write_shards("a", [7, 5])), stream=True)
    stream.set_epoch(3)
    with monkeypatch.context() as patch:
        patch.setattr("pptransfer.streamed._rank", lambda: (1, 2))
        copy = pickle.loads(pickle.dumps(stream))
    assert (len(copy), len(stream)) == (6, 12)  # a process without a process group has the rank of its maker
    assert len(_seen(DataLoader(copy, batch_size=3, num_workers=1))) == 6
    assert copy.state_after(0, 3)["epoch"] == stream.state_after(0, 3)["epoch"] == 3
    assert _seen(DataLoader(copy, batch_size=3)) != _seen(DataLoader(stream, batch_size=3))
    assert (copy.state_dict()["epoch"], stream.state_dict()["epoch"]) == (5, 4)


@pytest.mark.slow  # starts Python anew
def test_spawned_loader_processes(write_shards: ShardWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(write_shards("a", [7, 5, 9, 6]))
    monkeypatch.setattr("pptransfer.streamed._rank", lambda: (1, 2))
    forked, spawned = open_shards(out, stream=True), open_shards(out, stream=True)
    spawn = DataLoader(spawned, batch_size=3, num_workers=1, multiprocessing_context="spawn")
    fork = DataLoader(forked, batch_size=3, num_workers=1)
    for _ in range(2):
        assert _batches(spawn) == _batches(fork)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_ranks_have_equally_many_batches(
    write_shards: ShardWriter, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    out = str(write_shards("a", [7, 5, 9]))
    for epoch in range(3):
        seen: list[list[list[int]]] = []
        for rank in range(2):
            monkeypatch.setattr("pptransfer.streamed._rank", lambda rank=rank: (rank, 2))
            stream = open_shards(out, stream=True)
            stream.set_epoch(epoch)
            seen.append(_batches(DataLoader(stream, batch_size=5, num_workers=workers)))
            assert sum(map(len, seen[-1])) == len(stream) == 10
        assert [len(batch) for batch in seen[0]] == [len(batch) for batch in seen[1]]
        assert len({index for batches in seen for batch in batches for index in batch}) == 20


@pytest.mark.parametrize("workers", [1, 4])
def test_lanes_of_ranks_are_equally_long(workers: int) -> None:
    """2,501 samples on 2 ranks in batches of 25 were 50 and 51 batches."""
    sizes = [500] * 5 + [1]
    lanes = 2 * workers
    orders = [LaneOrder(sizes, 0, "x", lane=i, lanes=lanes, window=5, ranks=2) for i in range(lanes)]
    left_out = set()
    for epoch in range(5):
        lengths = [order.length(epoch) for order in orders]
        assert lengths[:workers] == lengths[workers:]
        seen = np.concatenate([plan.index[plan.order] for plan in (order.epoch(epoch) for order in orders)])
        assert len(set(seen.tolist())) == len(seen) == 2500
        left_out |= set(range(2501)) - set(seen.tolist())
    assert len(left_out) > 1


def test_ranks_share_an_epoch(write_shards: ShardWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(write_shards("a", [7, 5, 9, 6]))
    seen: Counter[int] = Counter()
    for rank in range(3):
        monkeypatch.setattr("pptransfer.streamed._rank", lambda rank=rank: (rank, 3))
        stream = open_shards(out, stream=True)
        own = _seen(DataLoader(stream, batch_size=2, num_workers=2))
        assert len(own) == len(stream)
        seen.update(own)
    assert seen == Counter(range(27))


@every_loader
@pytest.mark.parametrize("done", [0, 3, 7, None])
def test_the_state_of_torchdatas_loader(
    write_shards: ShardWriter, options: dict[str, Any], done: int | None
) -> None:
    """It is asked for after some batches, after 7 of 8 or 9, when a process has finished, and after the last."""
    loaders = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
    out = str(write_shards("a", [7, 5, 9, 6, 2]))
    loader = loaders.StatefulDataLoader(open_shards(out, stream=True), batch_size=4, **options)
    batches = iter(loader)
    list(islice(batches, done))
    state = loader.state_dict()
    rest = [_seen(batches if done is not None else loader), _seen(loader), _seen(loader)]
    again = loaders.StatefulDataLoader(open_shards(out, stream=True), batch_size=4, **options)
    again.load_state_dict(state)
    assert [_seen(again) for _ in range(3)] == rest
    assert len(set(map(tuple, rest))) == 3


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(SYNTH, out)
    (out / "meta/000001.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match="run ppgen verify"):
        open_shards(str(out), weight="confidence")[9]
    (out / "manifest.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"manifest.parquet cannot be read .*run ppgen verify"):
        open_shards(str(out), weight="confidence")[3]
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
