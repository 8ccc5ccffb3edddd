from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from ascend_serve.cli.main import COMMANDS

ROOT = Path(__file__).parents[3]
MANIFESTS = sorted((ROOT / "launch" / "kuberay").glob("*.yaml"))
SCHEMA = yaml.safe_load((Path(__file__).parent / "kuberay.schema.yaml").read_text())

each_manifest = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def cluster(manifest: Any) -> Any:
    spec = manifest["spec"]
    return spec.get("rayClusterConfig") or spec["rayClusterSpec"]


def test_there_is_one_of_each_kind() -> None:
    assert sorted(read(path)["kind"] for path in MANIFESTS) == ["RayJob", "RayService"]


@each_manifest
def test_has_the_fields_of_the_custom_resource(path: Path) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    kind = read(path)["kind"]
    jsonschema.validate(read(path), {**SCHEMA, "oneOf": [{"$ref": f"#/definitions/{kind}"}]})


@pytest.mark.parametrize("kind", ["RayJob", "RayService"])
def test_the_schema_refuses_a_field_that_is_not_there(kind: str) -> None:
    (manifest,) = (read(path) for path in MANIFESTS if read(path)["kind"] == kind)
    cluster(manifest)["workerGroupSpecs"][0]["npus"] = 8
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


@each_manifest
def test_ray_offers_as_many_npus_as_kubernetes_gives(path: Path) -> None:
    (group,) = cluster(read(path))["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    resources = container["resources"]
    offered = json.loads(json.loads(group["rayStartParams"]["resources"]))
    assert offered == {"NPU": int(resources["limits"]["huawei.com/Ascend910"])}
    assert resources["requests"] == resources["limits"]


@each_manifest
def test_every_mount_has_its_volume_and_shared_memory_is_large(path: Path) -> None:
    spec = cluster(read(path))
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert set(mounts.values()) == set(volumes)
        assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}


def pods(manifest: Any) -> list[Any]:
    """The specification of every pod."""
    spec = cluster(manifest)
    groups = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    submitter = manifest["spec"].get("submitterPodTemplate")
    return [template["spec"] for template in (*groups, *([submitter] if submitter else []))]


@each_manifest
def test_nothing_runs_as_root_or_may_become_more_than_it_is(path: Path) -> None:
    """What the profile `restricted` of Kubernetes' Pod Security Standards asks for, and a root that is read-only."""
    image = (ROOT / "launch" / "Dockerfile").read_text()
    manifest = read(path)
    assert len(pods(manifest)) == (3 if manifest["kind"] == "RayJob" else 2)
    for pod in pods(manifest):
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert f"ARG USER_ID={context['runAsUser']}\nARG GROUP_ID={context['runAsGroup']}\n" in image
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert {"/tmp", "/home/serve"} <= written


@each_manifest
def test_authentication_is_on_and_ray_is_the_image_s(path: Path) -> None:
    spec = cluster(read(path))
    in_image = re.search(r"ARG RAY_VERSION=(\S+)", (ROOT / "launch" / "Dockerfile").read_text())
    assert in_image is not None
    assert spec["rayVersion"] == in_image.group(1)
    assert spec["authOptions"] == {"mode": "token"}


def test_the_service_names_an_application_that_takes_its_arguments() -> None:
    config = ServeDeploySchema.model_validate(
        yaml.safe_load(read(ROOT / "launch/kuberay/rayservice.yaml")["spec"]["serveConfigV2"])
    )
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    builder = getattr(import_module(module), name)
    (parameter,) = inspect.signature(builder).parameters.values()
    assert inspect.isclass(parameter.annotation), "Serve validates only against a class, not against its name"
    assert issubclass(parameter.annotation, BaseModel)
    assert vars(parameter.annotation.model_validate(application.args))["config"] == "/config/config.yaml"


def test_the_job_runs_a_command_that_there_is() -> None:
    program, command, *_ = read(ROOT / "launch/kuberay/rayjob.yaml")["spec"]["entrypoint"].split()
    assert program == "ascend-serve"
    assert command in COMMANDS
