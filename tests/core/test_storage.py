import os
import time

import pytest

from ppcore.errors import UserError
from ppcore.storage import in_order
from ppcore.storage.remote import UnreachableError
from ppcore.storage.store import TEMP_PREFIX, Store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return Store(tmp_path) if request.param == "local" else Store(f"memory://{tmp_path.name}")


def test_round_trip_and_listing(store):
    store.write_atomic("a/one.bin", b"1")
    store.write_atomic("a/two.bin", b"22")
    assert store.read("a/two.bin") == b"22"
    assert store.size("a/two.bin") == 2
    assert store.list("a") == ["one.bin", "two.bin"]
    assert store.exists("a/one.bin")
    store.delete("a/one.bin")
    store.delete("a/one.bin")
    assert store.list("a") == ["two.bin"]
    assert store.list("nowhere") == []


def test_sizes_come_from_one_listing(store):
    store.write_atomic("a/one.bin", b"1")
    store.write_atomic("a/two.bin", b"22")
    store.write_atomic("a/deeper/three.bin", b"333")
    assert store.sizes("a") == {"one.bin": 1, "two.bin": 2}
    assert store.sizes("nowhere") == {}


def test_an_object_is_created_once(store):
    assert store.create("a/plan.json", b"mine")
    assert not store.create("a/plan.json", b"yours")
    assert store.create("a/plan.json", b"mine")
    assert store.read("a/plan.json") == b"mine"
    assert store.list("a") == ["plan.json"]


@pytest.mark.parametrize("width", [1, 3])
def test_results_come_in_order_and_bounded(width):
    begun, taken, most = [], 0, 0

    def work(number):
        begun.append(number)
        time.sleep(0.002 * (5 - number % 5))
        if number == 15:
            raise KeyError(number)
        return number

    with pytest.raises(KeyError):
        for result in in_order(work, range(1000), width):
            assert result == taken
            taken += 1
            most = max(most, len(begun) - taken)
    assert taken == 15
    assert most < width + (width > 1)
    assert len(begun) <= 15 + 2 * width


def test_publish_moves_a_staged_file(store):
    staged = store.stage("x/big.tar")
    staged.write_bytes(b"abc")
    store.publish(staged, "x/big.tar")
    assert store.read("x/big.tar") == b"abc"
    assert not staged.exists()


def test_missing_object_is_told_at_once(store):
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        store.write_atomic("a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_only_temporary_files(tmp_path):
    store = Store(tmp_path)
    store.write_atomic("kept", b"")
    (tmp_path / f"{TEMP_PREFIX}x-torn.tar").write_bytes(b"half")
    assert store.list() == ["kept"]
    assert store.sweep() == 1
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_unknown_protocol_is_a_user_error():
    with pytest.raises(UserError, match="nosuch"):
        Store("nosuch://bucket/x")


def test_transient_errors_are_retried(monkeypatch):
    monkeypatch.setattr("ppcore.storage.remote.time.sleep", lambda _s: None)
    store = Store("memory://retry")
    store.write_atomic("a", b"1")
    calls = []
    real = store._remote.filesystem.cat_file

    def flaky(path):
        calls.append(path)
        if len(calls) < 3:
            raise ConnectionResetError("reset")
        return real(path)

    monkeypatch.setattr(store._remote.filesystem, "cat_file", flaky)
    assert store.read("a") == b"1"
    assert len(calls) == 3


@pytest.mark.parametrize(
    "url",
    ["s3://AKIA:hunter2@bucket/x", "https://host/x?X-Amz-Signature=hunter2", "abfs://x@y/z?sig=hunter2"],
)
def test_secrets_in_urls_are_refused_and_not_repeated(url):
    with pytest.raises(UserError, match="environment") as caught:
        Store(url)
    assert "hunter2" not in str(caught.value)


def test_a_store_that_never_works_is_given_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("ppcore.storage.remote.time.monotonic", lambda: now[0])
    monkeypatch.setattr("ppcore.storage.remote.time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    store = Store("memory://gone")

    def down(path):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(store._remote.filesystem, "cat_file", down)
    with pytest.raises(UnreachableError, match=r"memory://gone does not respond .* Connection refused"):
        store.read("a")
    assert 100 < now[0] < 150


def test_refused_access_is_told_at_once(monkeypatch):
    store = Store("memory://refused")

    def refused(path):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(store._remote.filesystem, "cat_file", refused)
    with pytest.raises(UserError, match="access to memory://refused is refused"):
        store.read("a")
