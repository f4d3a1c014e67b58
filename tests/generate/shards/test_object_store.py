"""Shards in an object store: a real S3 protocol server on loopback, and a proxy before it that breaks things."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty import FAULTS, Proxy
from rig import Watch, fingerprints, stored, synth
from victims import two_at_once

from ppcore.errors import UserError
from ppcore.shards import COMMITS, META, SHARDS, ShardSet
from ppcore.storage import Store, remote
from ppgen.cli.commands import app
from ppgen.upkeep.verify import verify_directory

pytestmark = pytest.mark.slow

s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

SECRETS = {"AWS_ACCESS_KEY_ID": "AKIAHUNTERTWO", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2hunter2"}


class Server:
    """An S3 server that can be stopped and started again with its objects."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = moto.ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """URL of a new bucket; short pauses between tries."""
    for name, value in {**SECRETS, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "_FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(remote, "_LAST_DELAY_S", 0.4)
    reach(server.url, monkeypatch)
    name = "bucket-" + request.node.name.replace("_", "-")[:50]
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


def reach(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point S3 clients at another server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def proxy(server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    made = Proxy(server.port)
    reach(made.url, monkeypatch)
    yield made
    made.close()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("local") / "out"
    assert synth(out) == 0
    return fingerprints(out)


def download(url: str, folder: Path) -> Path:
    """All objects as files."""
    s3fs.S3FileSystem().get(url, str(folder), recursive=True)
    return folder


def at_first_commit(act: Callable[[], None]) -> Watch:
    """Do something at the first commit."""
    left = [act]
    return Watch(lambda event: left.pop()() if left and event.event == "committed" else None)


def test_round_trip(bucket: str, proxy: Proxy, local: dict[str, str], tmp_path: Path) -> None:
    out = f"{bucket}/deep/er"
    assert synth(out) == 0
    assert fingerprints(download(out, tmp_path / "copy")) == local
    shards = ShardSet.open(out, kind="synth")
    assert [sample.key for ref in shards.shards for sample in shards.read(ref)] == [
        f"{i:09d}" for i in range(75)
    ]
    assert verify_directory(*stored(out)).ok
    put = [request.path.split("/deep/er/")[1] for request in proxy.requests if request.method == "PUT"]
    assert len(put) == len(set(put))  # whole objects, once
    for shard in ("000000", "000001", "000002", "000003"):
        assert (
            put.index(f"{SHARDS}/{shard}.tar")
            < put.index(f"{META}/{shard}.parquet")
            < put.index(f"{COMMITS}/{shard}.json")
        )
    assert put[-1] == "index.json"


def test_resume_and_verify_ask_for_every_object_once(bucket: str, proxy: Proxy) -> None:
    """Sizes come from listings; the rows are read for the manifest, the tars by verify alone."""
    assert synth(f"{bucket}/out") == 0

    def asked() -> Counter[tuple[str, str]]:
        """Method and folder of every request for an object of a shard."""
        found: Counter[tuple[str, str]] = Counter()
        for request in proxy.requests:
            folder, _, name = request.path.rpartition("/")
            if name and folder.endswith((f"/{SHARDS}", f"/{META}", f"/{COMMITS}")):
                found[request.method, folder.rsplit("/", 1)[-1]] += 1
        proxy.requests.clear()
        return found

    asked()
    assert synth(f"{bucket}/out") == 0
    assert asked() == {("GET", COMMITS): 4, ("GET", META): 4}
    assert verify_directory(*stored(f"{bucket}/out")).ok
    assert asked() == {("GET", COMMITS): 4, ("GET", META): 4, ("GET", SHARDS): 4}


def test_of_two_runs_that_begin_together_one_owns_the_bucket(bucket: str, tmp_path: Path) -> None:
    """Both have seen that there is no plan when the first of them puts it: the put is conditional."""
    out = f"{bucket}/out"
    environment = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    loser, told = two_at_once(out, environment)
    assert "another run with another request" in told[loser]
    assert told[30 - loser] == ""
    store, plan = stored(out)
    assert plan.samples == 3 * (30 - loser)
    assert verify_directory(store, plan).ok


def test_every_third_request_fails(bucket: str, proxy: Proxy, local: dict[str, str], tmp_path: Path) -> None:
    proxy.misbehave = lambda number, _: FAULTS[number // 3 % len(FAULTS)] if number % 3 == 0 else None
    watch = Watch()
    assert synth(f"{bucket}/out", watch=watch) == 0
    assert set(proxy.injected) == set(FAULTS)
    assert not watch.of("missed")
    proxy.misbehave = lambda number, _: None
    assert fingerprints(download(f"{bucket}/out", tmp_path / "copy")) == local


def test_a_server_that_dies_and_comes_back(
    server: Server, bucket: str, local: dict[str, str], tmp_path: Path
) -> None:
    def die() -> None:
        server.stop()
        threading.Timer(1.5, server.start).start()

    assert synth(f"{bucket}/out", watch=at_first_commit(die)) == 0
    assert fingerprints(download(f"{bucket}/out", tmp_path / "copy")) == local


def test_a_server_that_stays_away_and_a_resume(
    server: Server, bucket: str, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setattr(remote, "_PATIENCE_S", 0.3)
    start = time.monotonic()
    try:
        assert synth(f"{bucket}/out", watch=at_first_commit(server.stop)) == 1
    finally:
        server.start()
    assert time.monotonic() - start < 60
    messages = capfd.readouterr().err
    assert "shards failed" in messages
    assert "run the same command again" in messages
    assert not Store(f"{bucket}/out").exists("index.json")
    assert synth(f"{bucket}/out") == 0
    assert fingerprints(download(f"{bucket}/out", tmp_path / "copy")) == local


def test_a_server_that_never_answers(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(remote, "_CALL_S", 0.5)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        reach(f"http://127.0.0.1:{deaf.getsockname()[1]}", monkeypatch)
        store, start = Store(f"{bucket}/out"), time.monotonic()
        for call in (
            lambda: store.write_atomic("a", b"1"),
            lambda: store.read("a"),
            lambda: store.exists("a"),
        ):
            with pytest.raises(remote.UnreachableError, match="does not respond"):
                call()
        assert time.monotonic() - start < 20


def test_credentials_are_nowhere(bucket: str, proxy: Proxy, tmp_path: Path, capfd) -> None:
    """Neither in what is written nor in what is printed, when all is well and when access is refused."""

    def ppgen(*args: str) -> None:
        app(args=list(args), standalone_mode=False)

    plan = ["synth", "--source", "dummy:build", "--device", "cpu", "--classes", "2", "--per-class", "4"]
    proxy.misbehave = lambda number, _: "500" if number % 4 == 0 else None
    ppgen(*plan, "--out", f"{bucket}/out")
    proxy.misbehave = lambda number, _: "403"
    with pytest.raises(UserError, match="access to") as refused:
        ppgen(*plan, "--out", f"{bucket}/out")
    secret_url = f"s3://{SECRETS['AWS_ACCESS_KEY_ID']}:{SECRETS['AWS_SECRET_ACCESS_KEY']}@bucket/x"
    messages = [str(refused.value), *capfd.readouterr()]
    for command in (
        ["verify", secret_url],
        [*plan, "--out", secret_url],
        [*plan, "--score", "--classifier", secret_url],
    ):
        with pytest.raises(UserError) as caught:
            ppgen(*command)
        messages += [str(caught.value), *capfd.readouterr()]
    proxy.misbehave = lambda number, _: None
    copy = download(f"{bucket}/out", tmp_path / "copy")
    contents = [file.read_bytes() for file in copy.rglob("*") if file.is_file()]
    assert len(contents) >= 7
    for secret in SECRETS.values():
        assert not [text for text in messages if secret in text]
        assert not [content for content in contents if secret.encode() in content]
