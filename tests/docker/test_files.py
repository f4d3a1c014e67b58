"""Every file below docker/ against its published schema or its linter; each check is shown to object."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from files import DOCKER, fails, interpolated, passes, services, tool

from ppcore import __version__
from ppgen.cli import app

COMPOSE = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
RAY_JOBS = [DOCKER / "kubernetes/synth.yaml", DOCKER / "kubernetes/pseudo.yaml"]


def _commands(text: str) -> list[list[str]]:
    """The `ppgen` commands in a text, as words."""
    joined = re.sub(r"\\?\n\s*", " ", text)
    return [shlex.split(found)[1:] for found in re.findall(r"\bppgen (?:synth|pseudo)[^&;#]*", joined)]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_fit_the_published_schema(name: str, tmp_path: Path) -> None:
    passes(*COMPOSE, DOCKER / name)
    wrong = tmp_path / name
    wrong.write_text((DOCKER / name).read_text().replace("command:", "comand:"))
    assert "comand" in fails(*COMPOSE, wrong)


def test_compose_services_wait_for_each_other_and_have_no_rights() -> None:
    found = services({"STORE_PASSWORD": "x", "RAY_TOKEN": "y"})
    assert set(found) == {"store", "bucket", "head", "worker", "generate", "train"}
    waited_for = {name for service in found.values() for name in service.get("depends_on", {})}
    assert waited_for == set(found) - {"train"}
    for name in set(found) - {"store"}:
        assert found[name]["cap_drop"] == ["ALL"], name
    for missing, given in (("STORE_PASSWORD", "RAY_TOKEN"), ("RAY_TOKEN", "STORE_PASSWORD")):
        with pytest.raises(KeyError, match=missing):
            services({given: "x"})


def test_dockerfile_is_linted(tmp_path: Path) -> None:
    passes(tool("hadolint"), DOCKER / "Dockerfile")
    text = (DOCKER / "Dockerfile").read_text()
    (tmp_path / "Dockerfile").write_text(text.replace("apt-get install --yes", "apt-get install"))
    assert "DL3014" in fails(tool("hadolint"), tmp_path / "Dockerfile")


@pytest.mark.parametrize("stage", ["generate", "train"])
def test_images_run_without_rights_and_say_how_they_are(stage: str) -> None:
    text = (DOCKER / "Dockerfile").read_text().split(f" AS {stage}\n")[1].split("\nFROM")[0]
    assert "\nUSER 1000\n" in text
    assert "\nHEALTHCHECK " in text
    assert "sbom.cdx.json" in text


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.stem)
def test_ray_jobs(path: Path) -> None:
    job = yaml.safe_load(path.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    known = {
        "entrypoint",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    assert set(job["spec"]) == known
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert f"ray=={cluster['rayVersion']}" in (DOCKER.parent / "constraints.txt").read_text().splitlines()
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["replicas"], workers["minReplicas"]) == (0, 0)
    assert f"--max-workers {workers['maxReplicas']}" in job["spec"]["entrypoint"]
    for group in (cluster["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        _require_pod(group["template"])
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        claims = [v["persistentVolumeClaim"]["claimName"] for v in group["template"]["spec"]["volumes"][:1]]
        assert claims == ["pptransfer-hub-cache"]
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def _require_pod(template: dict[str, Any]) -> None:
    """A template's pod against Kubernetes' own schema."""
    kubernetes = pytest.importorskip("kubernetes_validate")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}
    kubernetes.validate(pod, kubernetes.latest_version(), strict=True)
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(
            {**pod, "spec": {**pod["spec"], "volume": []}}, kubernetes.latest_version(), strict=True
        )


def test_an_indexed_job_makes_the_parts(tmp_path: Path) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    job = yaml.safe_load((DOCKER / "kubernetes/parts.yaml").read_text())
    kubernetes.validate(job, kubernetes.latest_version(), strict=True)
    _require_pod(job["spec"]["template"] | {"kind": "Pod"})
    assert job["spec"]["completionMode"] == "Indexed"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (tmp_path / "ppgen").write_text("#!/bin/sh\necho $@\n")
    (tmp_path / "ppgen").chmod(0o755)
    parts = []
    for index in range(job["spec"]["completions"]):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_COMPLETION_INDEX": str(index)}
        words = [*container["command"], *container["args"]]
        printed = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
        parts.append(printed.split()[printed.split().index("--part") + 1])
    assert parts == [f"{index + 1}/8" for index in range(8)]


def test_the_hubs_cache_can_be_claimed() -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    claim = yaml.safe_load((DOCKER / "kubernetes/hub-cache.yaml").read_text())
    kubernetes.validate(claim, kubernetes.latest_version(), strict=True)
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate({**claim, "spec": {"size": "1Gi"}}, kubernetes.latest_version(), strict=True)


def test_ray_cluster_fits_the_schema_that_ships_with_ray() -> None:
    ray = pytest.importorskip("ray")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    cluster = yaml.safe_load((DOCKER / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["available_node_types"]["spot-gpu"]["min_workers"] == 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_worker": 1}, schema)


def test_sky_task() -> None:
    task = yaml.safe_load((DOCKER / "sky.yaml").read_text())
    assert set(task) == {"name", "resources", "envs", "run"}
    assert task["resources"]["use_spot"] is True
    assert all(isinstance(value, str) for value in task["envs"].values())
    used = set(re.findall(r"\$(\w+)", task["run"]))
    assert used == set(task["envs"])


@pytest.mark.parametrize(
    "path", [*sorted(DOCKER.rglob("*.yaml")), *sorted(DOCKER.rglob("*.sbatch"))], ids=lambda p: p.name
)
def test_commands_in_the_files_have_options_that_exist(path: Path) -> None:
    from typer.main import get_command

    programs = get_command(app).commands  # type: ignore[attr-defined]
    for command, *words in _commands(interpolated(path.read_text(), _Any())):
        options = {option for parameter in programs[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, (command, words)


class _Any(dict[str, str]):
    """Every variable of a compose file, set."""

    def __missing__(self, name: str) -> str:
        return "1"

    def get(self, name: str, default: Any = None) -> Any:
        return "1"


def test_image_tags_are_the_version() -> None:
    for path in DOCKER.rglob("*.yaml"):
        assert set(
            re.findall(r"pptransfer-(?:generate|train):(?:\$\{TAG:-)?([\d.]+\d)", path.read_text())
        ) <= {__version__}
