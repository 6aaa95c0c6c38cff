"""The Kubernetes manifests: whole, safe, and in agreement with image, settings, pages and rules. No cluster is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from streams.cli import app
from streams.health import Health
from streams.parts import faust_app
from streams.settings import PREFIX, Settings, parse_roles

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
PROMETHEUS = ROOT / "deploy/prometheus/kubernetes.yml"


def documents() -> list[dict[str, Any]]:
    return [document for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def of(kind: str) -> dict[str, dict[str, Any]]:
    """Name -> manifest."""
    return {one["metadata"]["name"]: one for one in documents() if one["kind"] == kind}


SETS, JOBS = of("StatefulSet"), of("Job")
PODS = {name: one["spec"]["template"] for name, one in {**SETS, **JOBS}.items()}
SETTINGS = of("ConfigMap")["freshet-settings"]["data"]


def container(name: str) -> dict[str, Any]:
    (found,) = PODS[name]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_kustomization_names_every_file() -> None:
    (found,) = [one for one in documents() if one["kind"] == "Kustomization"]
    assert sorted(found["resources"]) == sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")


def test_the_flow_is_whole() -> None:
    assert set(SETS) == {"freshet-worker", "freshet-embedder"}
    assert set(JOBS) == {"freshet-topics"}
    roles = [role for name in SETS for role in parse_roles(container(name)["args"][2])]
    assert sorted(roles) == sorted(parse_roles(None))


def test_the_image_is_the_one_that_is_built() -> None:
    compose = yaml.safe_load(re.sub(r"\$\{.*?\}", "x", (ROOT / "docker-compose.yml").read_text()))
    assert {container(name)["image"] for name in PODS} == {compose["services"]["worker"]["image"]}


def test_settings_exist_and_are_accepted_and_hold_no_secret() -> None:
    assert all(key.startswith(PREFIX) for key in SETTINGS)
    Settings.load(SETTINGS)
    assert not [key for key in SETTINGS if re.search("PASSWORD|KEY|SECRET|TOKEN", key)]
    named = set(re.findall(r"FRESHET_[A-Z_]+", "".join(path.read_text() for path in FOLDER.glob("*.yaml"))))
    assert named <= {PREFIX + field.upper() for field in Settings.__struct_fields__}
    for name in PODS:
        assert container(name)["envFrom"] == [
            {"configMapRef": {"name": "freshet-settings"}},
            {"secretRef": {"name": "freshet-secrets", "optional": True}},
        ]


def test_commands_exist_with_their_options() -> None:
    for name in PODS:
        command, *arguments = container(name)["args"]
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert shown.exit_code == 0
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.output)
        assert all(argument in plain for argument in arguments if argument.startswith("--"))


@pytest.mark.parametrize("name", PODS)
def test_pods_are_restricted(name: str) -> None:
    spec, security = PODS[name]["spec"], PODS[name]["spec"]["securityContext"]
    assert security["runAsNonRoot"]
    assert (security["runAsUser"], security["runAsGroup"]) == (10001, 10001), "the user of the image"
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert of("Namespace")["freshet"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", PODS)
def test_pods_have_requests_and_limits(name: str) -> None:
    resources = container(name)["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert resources["limits"]["memory"]


@pytest.mark.parametrize("name", SETS)
def test_probes_ask_pages_that_exist_on_the_port_that_is_open(name: str) -> None:
    port = Settings.load(environment()).metrics_port
    assert container(name)["ports"] == [{"name": "metrics", "containerPort": port}]
    pages = {f"/{page}" for page in ("healthz", "readyz", "statusz") if hasattr(Health, page)}
    paths = {probe: container(name)[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert all(asked["port"] == "metrics" and asked["path"] in pages for asked in paths.values())
    assert paths["livenessProbe"]["path"] == "/healthz", "a restart does not bring Kafka or Qdrant back"
    assert paths["readinessProbe"]["path"] == "/readyz"
    assert container(name)["startupProbe"]["failureThreshold"] * container(name)["startupProbe"]["periodSeconds"] >= 300


def environment() -> dict[str, str]:
    """What the image sets."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "deploy/Dockerfile").read_text())
    return dict(re.findall(r"(FRESHET_\w+)=(\S+)", text.split("USER")[0]))


@pytest.mark.parametrize("name", SETS)
def test_state_is_kept_where_the_image_writes_it(name: str) -> None:
    spec = PODS[name]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}
    claims = [claim["metadata"]["name"] for claim in SETS[name]["spec"]["volumeClaimTemplates"]]
    assert mounts["state"] == environment()["FRESHET_STATE_DIR"]
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]} | set(claims)


@pytest.mark.parametrize("name", SETS)
def test_membership_is_static_and_restarts_fit_into_it(name: str) -> None:
    (instance,) = container(name)["env"]
    assert instance == {"name": "FRESHET_INSTANCE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    settings = Settings.load(SETTINGS | {"FRESHET_INSTANCE_ID": f"{name}-0"})
    conf = faust_app(settings, parse_roles(container(name)["args"][2])).conf
    assert conf.consumer_group_instance_id.startswith(f"{name}-0-")
    assert settings.session_timeout_s >= 30, "a pod takes some seconds to come back"
    assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > conf.broker_rebalance_timeout


def test_there_are_enough_partitions_for_the_workers() -> None:
    settings = Settings.load(SETTINGS)
    assert all(one["spec"]["replicas"] <= settings.partitions for one in SETS.values())


@pytest.mark.parametrize("name", SETS)
def test_disruptions_take_one_at_a_time(name: str) -> None:
    labels = PODS[name]["metadata"]["labels"]
    budget = of("PodDisruptionBudget")[name]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert SETS[name]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = of("Service")[SETS[name]["spec"]["serviceName"]]["spec"]
    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= labels.items()


def test_only_the_monitoring_reaches_the_pages() -> None:
    (policy,) = of("NetworkPolicy").values()
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    for pod in PODS.values():
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": Settings.load(environment()).metrics_port}]
    assert len(rule["from"]) == 1


def test_prometheus_finds_the_pods_under_the_job_names_of_the_rules(tmp_path: Path) -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]}
    for name in SETS:
        assert jobs[name]["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["freshet"]}}]
        keep = jobs[name]["relabel_configs"][0]
        assert keep["regex"] == f"{PODS[name]['metadata']['labels']['app.kubernetes.io/name']};metrics"
    promtool = shutil.which("promtool")
    if promtool is not None:  # Debian's knows no Kubernetes: the rest of the file is checked
        text = re.sub(r"    kubernetes_sd_configs:.*?\n(?=    relabel)", "", PROMETHEUS.read_text(), flags=re.S)
        (tmp_path / "rules").symlink_to(ROOT / "deploy/prometheus/rules")
        (tmp_path / "prometheus.yml").write_text(text)
        done = subprocess.run([promtool, "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"), ids=str)
def test_kubernetes_schemas_accept_them(path: Path) -> None:
    validate = shutil.which("kubernetes-validate")
    if validate is None:
        pytest.skip("kubernetes-validate is not installed (pip install kubernetes-validate)")
    done = subprocess.run([validate, "--strict", "-k", "1.31", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
