"""The manifests of etc/kubernetes: valid by the API's own schemas, and fitting each other and the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from digsigd.settings import Settings
from digsigd.settings.toml_file import load
from digsigd.web.answers import ROUTES

FOLDER = Path(__file__).parent.parent.parent / "etc/kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS: dict[str, Any] = {one["kind"]: one for path in FILES for one in yaml.safe_load_all(path.read_text())}
PODS = OBJECTS["Deployment"]["spec"]["template"]
CONTAINER = PODS["spec"]["containers"][0]
# The oldest that has all of them, among those that are still installed, and the newest that the schemas are of.
VERSIONS = ("1.28", kubernetes_validate.utils.latest_version())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """What a pod reads."""
    (tmp_path / "digsigd.toml").write_text(OBJECTS["ConfigMap"]["data"]["digsigd.toml"])
    return load(tmp_path / "digsigd.toml", {})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", OBJECTS)
def test_each_object_is_valid(kind: str, version: str) -> None:
    """By the schemas of that version of the API, and without a field that it does not know."""
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_an_unknown_field_would_be_found() -> None:
    """The schemas are strict."""
    service = yaml.safe_load(yaml.safe_dump(OBJECTS["Service"]))
    service["spec"]["ports"][0]["targetport"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="targetport"):
        kubernetes_validate.validate(service, VERSIONS[-1], strict=True)


def test_all_files_are_applied() -> None:
    """The kustomization has each of them, and the image that the pods have."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == [path.name for path in FILES]
    assert [one["name"] for one in kustomization["images"]] == [CONTAINER["image"]]
    assert set(OBJECTS) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}


def test_all_are_of_the_same_pods() -> None:
    """By the labels that the pods have."""
    labels = PODS["metadata"]["labels"]
    for selector in (
        OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"],
        OBJECTS["Service"]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        PODS["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector == labels


def test_probes_and_ports_are_the_daemons(settings: Settings) -> None:
    """Paths that answer without credentials, on the port of the configuration, which speaks TLS."""
    (port,) = CONTAINER["ports"]
    assert settings.listen.endpoint == f"tcp:{port['containerPort']}"
    assert settings.listen.tls is not None
    for probe, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert CONTAINER[probe]["httpGet"] == {"path": path, "port": port["name"], "scheme": "HTTPS"}
        assert path in ROUTES
    (of_service,) = OBJECTS["Service"]["spec"]["ports"]
    assert of_service["targetPort"] == port["name"]
    (entry,) = OBJECTS["NetworkPolicy"]["spec"]["ingress"]
    assert [one["port"] for one in entry["ports"]] == [port["name"]]


def test_a_pod_ends_after_its_requests(settings: Settings) -> None:
    """The time to its end is longer than the pause before it and all that the daemon takes to stop."""
    pause = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert PODS["spec"]["terminationGracePeriodSeconds"] > pause + settings.daemon.shutdown_grace + 5


def test_a_drained_node_leaves_pods() -> None:
    """Fewer must be there than there are, or no node could ever be drained."""
    assert 0 < OBJECTS["PodDisruptionBudget"]["spec"]["minAvailable"] < OBJECTS["Deployment"]["spec"]["replicas"]


def test_every_path_of_the_configuration_is_mounted() -> None:
    """And every volume is used; what is written to is not read-only."""
    mounts = {one["mountPath"]: one for one in CONTAINER["volumeMounts"]}
    assert sorted(one["name"] for one in mounts.values()) == sorted(one["name"] for one in PODS["spec"]["volumes"])
    assert CONTAINER["args"][1] in mounts
    text = OBJECTS["ConfigMap"]["data"]["digsigd.toml"]
    values = [word.split('"')[0] for word in text.replace("sslrootcert=", '"').split('"') if word.startswith("/")]
    assert len(values) >= 6
    for path in values:
        assert any(path == one or path.startswith(f"{one}/") for one in mounts), path
    writable = {path for path, one in mounts.items() if not one.get("readOnly")}
    assert writable == {"/run/digsigd", "/var/lib/digsigd", "/tmp"}
    volumes = {one["name"]: one for one in PODS["spec"]["volumes"]}
    assert volumes[mounts["/run/digsigd"]["name"]]["emptyDir"]["medium"] == "Memory"


def test_a_pod_has_no_more_rights_than_it_needs() -> None:
    """No root, no capability, no token of the cluster, and no secret in the configuration."""
    assert PODS["spec"]["securityContext"]["runAsNonRoot"] is True
    assert PODS["spec"]["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    for one in CONTAINER["env"]:
        assert "secretKeyRef" in one.get("valueFrom", {}) or one["name"] == "GLIBC_TUNABLES"
