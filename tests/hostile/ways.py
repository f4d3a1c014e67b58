"""What can be put into a directory to make whoever opens it run code or read other files, and the commands that open it."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hostile import forge_plan, rewrite, tar_of
from scene import Bomb, Scene

from ppcore.kits import EMBEDDED

GOLDEN = Path(__file__).parents[1] / "golden"
COMMIT = "0123456789abcdef" * 2 + "01234567"


def plan_names_os_system(scene: Scene) -> None:
    scene.load(source="os:system", sampling={"command": f"touch {scene.mark}"})


def plan_names_a_callable(scene: Scene) -> None:
    scene.load(source=scene.trap.source)


def plan_names_a_package(scene: Scene) -> None:
    package = scene.trap.folder / "package_of_traps"
    package.mkdir()
    (package / "__init__.py").write_text(f"import {scene.trap.module}\n")
    scene.load(source="package_of_traps.inner:build")


def plan_trusts_remote_code(scene: Scene) -> None:
    scene.load(source="owner/name", revision=COMMIT, trust_remote_code=True)


def plan_names_a_local_folder(scene: Scene) -> None:
    scene.load(source=str(EMBEDDED / "letters" / "generator"))


def plan_names_a_folder_above(scene: Scene) -> None:
    scene.load(source="../" * 9 + "etc")


def plan_names_a_kit_of_code(scene: Scene) -> None:
    scene.load(source=str(scene.kit(family="callable", generator=scene.trap.source)))


def plan_names_a_bank(scene: Scene) -> None:
    scene.load(source=f"bank:{scene.pictures()}")


def plan_names_a_moving_hub_id(scene: Scene) -> None:
    scene.load(source="owner/name", revision="main")


def classifier_is_a_callable(scene: Scene) -> None:
    torch.save({}, scene.secret / "w.pth")
    scene.load(classifier=f"{scene.trap.net}@{scene.secret}/w.pth")


def classifier_is_a_pickle(scene: Scene) -> None:
    (scene.secret / "w.pth").write_bytes(pickle.dumps(Bomb(scene.mark)))
    scene.load(classifier=f"resnet18@{scene.secret}/w.pth")


def classifier_is_a_model_of_code(scene: Scene) -> None:
    scene.load(classifier=str(scene.model(scene.trap.net)))


def target_is_a_private_folder(scene: Scene) -> None:
    scene.load(target=str(scene.pictures()))


def target_is_a_pattern(scene: Scene) -> None:
    scene.load(target=f"train={scene.pictures()}/*/*.png")


def target_lies_on_the_training_command(scene: Scene) -> None:
    runs = scene.out.parent / "runs"
    runs.mkdir()
    scene.load(target=str(scene.pictures()))
    scene.out.rename(runs / "pseudo-letters-digits")


def plan_is_a_link(scene: Scene) -> None:
    scene.move_out("plan.json")


def index_is_a_link(scene: Scene) -> None:
    scene.move_out("index.json")


def shards_are_a_link(scene: Scene) -> None:
    scene.move_out("shards")


def a_tar_is_a_link(scene: Scene) -> None:
    scene.move_out("shards/000001.tar")


def rows_are_a_link(scene: Scene) -> None:
    scene.move_out("meta/000001.parquet")


def conditions_are_a_link(scene: Scene) -> None:
    scene.move_out("conditions.parquet")


def a_commit_is_a_link(scene: Scene) -> None:
    scene.move_out("commits/000001.json")


def index_leads_out(scene: Scene) -> None:
    _index(scene, lambda index: index["shardlist"][0].update(url="../secret/000000.tar"))


def pages_lead_out(scene: Scene) -> None:
    page = {"url": "../secret/index.json", "nshards": 2}
    _index(scene, lambda index: (index.pop("shardlist"), index.update(pages=[page])))


def a_soft_label_claims_terabytes(scene: Scene) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,), }\n"
    _soft(scene, b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)


def a_soft_label_is_a_pickle(scene: Scene) -> None:
    _soft(scene, pickle.dumps(Bomb(scene.mark)))


def plan_is_nested_deeply(scene: Scene) -> None:
    (scene.out / "plan.json").write_text('{"load": ' + "[" * 100_000 + "]" * 100_000 + "}")


def plan_has_a_huge_mapping(scene: Scene) -> None:
    scene.load(class_map={str(i): "x" for i in range(200_000)})


def plan_speaks_to_the_terminal(scene: Scene) -> None:
    forge_plan(scene.out, lambda plan: plan["target"].update(name="\x1b]0;gone\x07"))


def logs_are_a_link(scene: Scene) -> None:
    (scene.secret / "events-20260101T000000-abcdef-000.jsonl").write_text('{"time": 0, "event": "began"}')
    (scene.out / "logs").symlink_to(scene.secret)


def logs_speak_to_the_terminal(scene: Scene) -> None:
    (scene.out / "commits/000001.json").unlink()
    (scene.out / "index.json").unlink()
    (scene.out / "logs").mkdir()
    line = {
        "time": 1e9,
        "event": "\x1b[2J",
        "worker": "\x1b]0;gone\x07",
        "node": "\x1b[2J",
        "text": "\x1b[2J",
        "died": True,
    }
    lines = "".join(
        json.dumps({**line, "event": event}) + "\n" for event in ("began", "missed", "quarantined", "\x1b[2J")
    )
    (scene.out / "logs/events-20260101T000000-abcdef-000.jsonl").write_text(lines)


def a_stray_speaks_to_the_terminal(scene: Scene) -> None:
    (scene.out / "shards/\x1b[2J").write_text("")


def kit_is_code(scene: Scene) -> None:
    scene.kit(family="callable", generator=scene.trap.source)


def kit_has_a_part_behind_a_link(scene: Scene) -> None:
    folder = scene.kit()
    shutil.move(folder / "classifier", scene.secret / "classifier")
    (folder / "classifier").symlink_to(scene.secret / "classifier")


def kit_has_a_classifier_of_code(scene: Scene) -> None:
    config = scene.kit() / "classifier/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"arch": scene.trap.net}))


def pipeline_takes_a_library(scene: Scene) -> None:
    index = {
        "_class_name": "Own",
        "text_encoder": [scene.trap.module, "Net"],
        "unet": ["diffusers", "UNet2DConditionModel"],
    }
    _pipeline(scene, index)


def pipeline_is_code(scene: Scene) -> None:
    _pipeline(scene, {"_class_name": [scene.trap.module, "Net"]})


def model_is_code(scene: Scene) -> None:
    scene.model(scene.trap.net)


def model_is_behind_a_link(scene: Scene) -> None:
    model = scene.model("small")
    shutil.move(model / "model.safetensors", scene.out / "elsewhere")
    (model / "model.safetensors").symlink_to(scene.out / "elsewhere")


def settings_are_objects(scene: Scene) -> None:
    (scene.secret / "run").mkdir()
    (scene.secret / "run/config.yaml").write_text(f"!!python/object/apply:os.system ['touch {scene.mark}']\n")


def _index(scene: Scene, change: Callable[[dict[str, Any]], object]) -> None:
    for name in ("index.json", "shards/000000.tar"):
        shutil.copy(scene.out / name, scene.secret)
    index = json.loads((scene.out / "index.json").read_text())
    change(index)
    (scene.out / "index.json").write_text(json.dumps(index))


def _soft(scene: Scene, data: bytes) -> None:
    tar = tar_of(scene.out, lambda i, name, old: (name, data if i == 1 else old))
    rewrite(scene.out, "tar", tar)


def _pipeline(scene: Scene, index: dict[str, Any]) -> None:
    folder = scene.secret / "pipeline"
    (folder / "text_encoder").mkdir(parents=True)
    shutil.copy(scene.trap.file, folder)
    (folder / "model_index.json").write_text(json.dumps(index))
