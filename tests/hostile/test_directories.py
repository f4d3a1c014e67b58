"""Directories made hostile, each opened by the commands that would follow it: no code runs, nothing outside is read, one sentence is said.

A way's commands end with status 2, but for `ppgen verify`, which reports what is bad in a directory's files with status 1, and
`ppgen status`, which shows what a log says.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import ways
from scene import Scene
from traps import Trap, Watch, one_sentence, say
from ways import GOLDEN

AGAIN = "ppgen verify OUT --regenerate 1 --device cpu"
GROW = "ppgen extend OUT --count 24 --device cpu"
REPORT = "ppgen report OUT --samples 8 --device cpu"
GATHER = "ppgen gather OUT --out GATHERED"
VERIFY = "ppgen verify OUT"
TRAIN = "pptrain run --target digits --labels-per-class 1 --unlabeled OUT --method uda --steps 1 --device cpu --out RUN"
PLAIN = "pptrain run --target digits --labels-per-class 1 --steps 1 --device cpu --out RUN"
SYNTH = "ppgen synth --classes 1 --per-class 1 --device cpu --out MADE"

WAYS: dict[Callable[[Scene], None], tuple[str, ...]] = {
    # plan.json names code
    ways.plan_names_os_system: (AGAIN, GROW),
    ways.plan_names_a_callable: (AGAIN, GROW),
    ways.plan_names_a_package: (AGAIN, GROW),
    ways.plan_trusts_remote_code: (AGAIN, GROW),
    ways.plan_names_a_kit_of_code: (AGAIN, GROW, REPORT),
    ways.classifier_is_a_callable: (AGAIN, GROW, REPORT),
    ways.classifier_is_a_model_of_code: (AGAIN, GROW, REPORT),
    # plan.json names other places
    ways.plan_names_a_local_folder: (AGAIN, GROW, REPORT),
    ways.plan_names_a_folder_above: (AGAIN, GROW, REPORT),
    ways.plan_names_a_bank: (AGAIN, GROW, REPORT),
    ways.plan_names_a_moving_hub_id: (AGAIN, GROW, REPORT),
    ways.classifier_is_a_pickle: (AGAIN, GROW, REPORT),
    ways.target_is_a_private_folder: (REPORT,),
    ways.target_is_a_pattern: (REPORT,),
    ways.target_lies_on_the_training_command: ("pptrain run --device cpu",),
    # links, and paths that lead out
    ways.plan_is_a_link: (VERIFY, GROW, REPORT, GATHER, TRAIN),
    ways.index_is_a_link: (REPORT, TRAIN),
    ways.shards_are_a_link: (VERIFY, GROW, REPORT, GATHER, TRAIN),
    ways.a_tar_is_a_link: (VERIFY, REPORT, GATHER, TRAIN),
    ways.rows_are_a_link: (VERIFY, GATHER),
    ways.conditions_are_a_link: (VERIFY, GATHER, GROW),
    ways.a_commit_is_a_link: (VERIFY, GATHER),
    ways.index_leads_out: (REPORT, TRAIN),
    ways.pages_lead_out: (REPORT, TRAIN),
    ways.logs_are_a_link: ("ppgen status OUT",),
    # content
    ways.logs_speak_to_the_terminal: ("ppgen status OUT",),
    ways.a_stray_speaks_to_the_terminal: (VERIFY,),
    ways.a_soft_label_claims_terabytes: (VERIFY, REPORT, TRAIN),
    ways.a_soft_label_is_a_pickle: (VERIFY, REPORT, TRAIN),
    ways.plan_is_nested_deeply: (VERIFY, GROW, REPORT, GATHER, TRAIN),
    ways.plan_has_a_huge_mapping: (VERIFY, GROW),
    ways.plan_speaks_to_the_terminal: (VERIFY, GROW, REPORT),
    # kits, models and runs that somebody names
    ways.kit_is_code: (f"{SYNTH} --source SECRET/kit",),
    ways.kit_has_a_part_behind_a_link: (f"{SYNTH} --source SECRET/kit",),
    ways.kit_has_a_classifier_of_code: (f"{SYNTH} --source SECRET/kit --score",),
    ways.pipeline_takes_a_library: (f"{SYNTH} --source SECRET/pipeline",),
    ways.pipeline_is_code: (f"{SYNTH} --source SECRET/pipeline",),
    ways.model_is_code: (
        "pptrain eval SECRET/model --target digits",
        f"{SYNTH} --source letters --score --classifier SECRET/model",
        f"{PLAIN} --init SECRET/model",
    ),
    ways.model_is_behind_a_link: ("pptrain eval SECRET/model --target digits", f"{PLAIN} --init SECRET/model"),
    ways.settings_are_objects: (
        "pptrain run --config SECRET/run/config.yaml",
        "pptrain run --target digits --steps 1 --device cpu --out SECRET/run",
    ),
}  # fmt: skip
OPENED_BY_NAME = ("kit", "pipeline", "model", "settings")
"""Ways whose command names the secret folder itself."""


def present(folder: Path) -> list[Path]:
    """All files; but a gather that meets a damaged shard keeps what it has, to be resumed."""
    return sorted(path for path in folder.rglob("*") if "gathered" not in path.parts)


def test_there_are_enough_ways() -> None:
    assert len(WAYS) >= 25
    assert {
        name
        for name, way in vars(ways).items()
        if getattr(way, "__module__", "") == ways.__name__
        and callable(way)
        and name[0].islower()
        and name[0] != "_"
    } == {way.__name__ for way in WAYS}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_hostile_directory_is_only_data(
    way: Callable[[Scene], None],
    tmp_path: Path,
    trap: Trap,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "secret").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    scene = Scene(tmp_path / "work/out", trap, tmp_path / "secret", tmp_path / "mark")
    shutil.copytree(GOLDEN / "version-2/pseudo", scene.out)
    way(scene)
    places = {
        "OUT": scene.out,
        "SECRET": scene.secret,
        "GATHERED": tmp_path / "gathered",
    }
    places |= {"RUN": tmp_path / "run", "MADE": tmp_path / "made"}
    before = present(tmp_path)
    for command in WAYS[way]:
        words = [
            next((word.replace(n, str(p), 1) for n, p in places.items() if word.startswith(n)), word)
            for word in command.split()
        ]
        with watch.watching():
            said = say(capsys, *words)
        if words[:2] == ["ppgen", "verify"] and said.status == 1:
            assert "BAD" in said.out, command
        elif words[:2] == ["ppgen", "status"] and said.status == 0:
            assert "12 of 16" in said.out or "8 of 16" in said.out, command
        else:
            assert said.status == 2, f"{command}: {said}"
            assert one_sentence(said.err), said.err
        assert all(line.isprintable() for line in said.out.splitlines())
        assert not trap.sprung, command
        assert not scene.mark.exists()
        if not way.__name__.startswith(OPENED_BY_NAME):
            assert watch.inside(scene.secret) == [], command
        assert present(tmp_path) == before, command
