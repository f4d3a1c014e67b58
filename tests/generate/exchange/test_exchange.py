"""push and pull: to an object store's protocol and to a stub of the hub's HTTP, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hub_stub import Hub
from rig import fingerprints
from typer.testing import CliRunner

import ppgen.exchange as hub_room
from ppcore.errors import UserError
from ppcore.storage import Store
from ppgen.cli import app
from ppgen.exchange import require_redistribution
from ppgen.shards import read_plan
from ppgen.sources import redistribution
from ppgen.upkeep import gather, verify_directory

GOLDEN = Path(__file__).parents[2] / "golden/version-2"
SYNTH, PSEUDO = GOLDEN / "synth", GOLDEN / "pseudo"


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


SEVERAL = """
import json, sys
from ppgen.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["ppgen", *words]
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        print(f"status {end.code or 0}\\n---", flush=True)
"""


def _ppgen(hub: Hub, *commands: Sequence[object], home: Path) -> list[str]:
    """Commands that talk to the stub, one after the other in a process of its own: the hub's library reads its endpoint when it is
    loaded. Returns what each printed, with its exit status as the last line."""
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_x",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
    }
    words = [[str(word) for word in command] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(words)],
        env={**os.environ, **environment, "HF_HUB_OFFLINE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    *printed, rest = done.stdout.split("---\n")
    assert (len(printed), rest) == (len(commands), ""), done.stdout[-3000:]
    return printed


@pytest.mark.parametrize("source", [SYNTH, PSEUDO], ids=["synth", "pseudo"])
def test_a_mirror_is_the_same_and_verifies(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    counted: list[int] = []
    assert gather([Store(source)], Store(out), counted.append) == 16
    assert counted == [8, 8]
    assert fingerprints(out) == fingerprints(source)
    assert verify_directory(Store(out), read_plan(Store(out))).ok
    (out / "commits/000001.json").unlink()
    assert gather([Store(source)], Store(out)) == 8  # resumes
    assert gather([Store(source)], Store(out)) == 0


def test_what_cannot_be_mirrored(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no shard directory"):
        gather([Store(tmp_path)], Store(tmp_path / "out"))
    gather([Store(SYNTH)], Store(tmp_path / "out"))
    with pytest.raises(UserError, match="holds another directory"):
        gather([Store(PSEUDO)], Store(tmp_path / "out"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        gather([Store(SYNTH)], Store(tmp_path / "full"))
    damaged = tmp_path / "damaged"
    shutil.copytree(SYNTH, damaged)
    tar = damaged / "shards/000001.tar"
    tar.write_bytes(tar.read_bytes()[:600] + b"x" + tar.read_bytes()[601:])
    with pytest.raises(UserError, match=r"shard 1 of .* is damaged"):
        gather([Store(damaged)], Store(tmp_path / "again"))
    assert not (tmp_path / "again/index.json").exists()


@pytest.mark.parametrize(
    ("licence", "answer"),
    [
        ("Apache-2.0", "allowed"),
        ("CC-BY-NC-4.0", "allowed"),
        ("CC-BY-NC-ND-4.0", "forbidden"),
        ("Proprietary", "forbidden"),
        ("Research-only", "forbidden"),
        ("indiana-public", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
    ],
)
def test_licences(licence: str, answer: str) -> None:
    assert redistribution(licence) == answer


def _under(licence: str, folder: Path) -> Path:
    """A copy of a directory whose plan states another licence."""
    from dataclasses import replace

    from ppgen.plan import encode_plan

    shutil.copytree(SYNTH, folder)
    plan = read_plan(Store(folder))
    (folder / "plan.json").write_bytes(encode_plan(replace(plan, source={**plan.source, "licence": licence})))
    return folder


def test_licences_that_forbid_or_say_nothing_are_refused(tmp_path: Path) -> None:
    runner, place = CliRunner(), "memory://refused"
    kept, silent = _under("CC-BY-ND-4.0", tmp_path / "kept"), _under("mine", tmp_path / "silent")
    for words, reason in (
        ([kept], "forbids sharing"),
        ([kept, "--may-redistribute", "CC-BY-ND-4.0"], "forbids sharing"),
        ([silent], "--may-redistribute 'mine'"),
    ):
        result = runner.invoke(app, ["push", str(words[0]), place, *map(str, words[1:])])
        assert isinstance(result.exception, UserError)
        assert reason in str(result.exception)
    assert Store(place).list() == []
    require_redistribution(read_plan(Store(silent)), ("mine",))


def test_an_object_store_and_back(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["push", str(PSEUDO), "memory://bucket/pseudo"])
    assert result.exit_code == 0, result.exception
    assert "16 samples pushed, 0 were there" in result.output
    result = CliRunner().invoke(app, ["pull", "memory://bucket/pseudo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.exception
    assert fingerprints(tmp_path / "out") == fingerprints(PSEUDO)
    result = CliRunner().invoke(app, ["push", str(PSEUDO), str(tmp_path / "folder")])
    assert "is no URL" in str(result.exception)


@pytest.mark.slow
def test_s3_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**names, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    try:
        import s3fs

        s3fs.S3FileSystem().makedirs("sets")
        assert gather([Store(SYNTH)], Store("s3://sets/synth")) == 16
        assert gather([Store(SYNTH)], Store("s3://sets/synth")) == 0
        assert gather([Store("s3://sets/synth")], Store(tmp_path / "out")) == 16
    finally:
        server.stop()
    assert fingerprints(tmp_path / "out") == fingerprints(SYNTH)


@pytest.mark.slow
def test_the_hub_and_back(hub: Hub, tmp_path: Path) -> None:
    url, back = "hf://datasets/me/set", tmp_path / "out"
    first, second, pulled, refused = _ppgen(
        hub,
        ["push", PSEUDO, url],
        ["push", PSEUDO, url],
        ["pull", "hf://me/set", "--out", back],
        ["push", SYNTH, url],
        home=tmp_path / "home",
    )
    assert "16 samples pushed, 0 were there" in first
    assert hub.private is True
    assert hub.commits[0] == ["plan.json", "conditions.parquet"]
    assert hub.commits[-1] == ["manifest.parquet", "README.md", "index.json"]
    assert hub.files["README.md"].startswith(b"---\nlicense: other\n")
    assert "0 samples pushed, 16 were there" in second
    assert len(set(map(tuple, hub.commits))) == len(hub.commits)  # nothing is committed twice
    assert pulled.endswith("status 0\n"), pulled
    assert fingerprints(back) == fingerprints(PSEUDO)
    assert "holds another directory" in refused
    assert [text.splitlines()[-1] for text in (first, second, refused)] == [
        "status 0",
        "status 0",
        "status 2",
    ]


@pytest.mark.slow
def test_a_hub_that_refuses(hub: Hub, tmp_path: Path) -> None:
    hub.refuses = True
    (refused,) = _ppgen(hub, ["push", SYNTH, "hf://me/set"], home=tmp_path / "home")
    *_, said, status = refused.strip().splitlines()
    assert said.startswith("error: the hub refuses me/set")
    assert "HF_TOKEN" in said
    assert status == "status 2"


def test_hub_urls_and_parts() -> None:
    assert hub_room._repository("hf://datasets/me/set/") == "me/set"
    for wrong in ("hf://me", "hf://datasets/me/set/more", "hf://spaces/me/set"):
        with pytest.raises(UserError, match="is not a repository"):
            hub_room._repository(wrong)
    assert [list(part) for part in hub_room._parts(list(range(120)))] == [
        list(range(50)),
        list(range(50, 100)),
        list(range(100, 120)),
    ]
