"""The compose file: structure, agreement with settings, image, Prometheus and Grafana. No Docker engine is needed."""

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
from streams.parts import faust_app
from streams.settings import PREFIX, Settings, parse_roles
from tests.deploy.rule_files import rules

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
ALERTS = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
SERVICE_KEYS = {
    "image", "build", "user", "init", "read_only", "tmpfs", "cap_drop", "security_opt", "restart", "stop_grace_period", "ports",
    "environment", "volumes", "healthcheck", "deploy", "command", "depends_on", "profiles", "secrets",
}  # fmt: skip
OURS = ("topics", "worker", "embedder", "simulator")
ONE_SHOT = {"topics"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])(.*?))?\}")


def interpolated(text: str, environment: dict[str, str]) -> str:
    """`${X}`, `${X:-default}` and `${X:?message}` as compose replaces them; KeyError where a required one is missing."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if environment.get(name):
            return environment[name]
        if kind == "-":
            return str(rest)
        raise KeyError(name)

    return VARIABLE.sub(value, text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found = yaml.safe_load(interpolated(TEXT, {"GRAFANA_PASSWORD": "given by the operator"}))
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found = compose["services"]
    assert isinstance(found, dict)
    return found


def test_only_known_keys(compose: dict[str, Any], services: dict[str, Any]) -> None:
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "volumes", "secrets"}
    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("healthcheck", {})) <= {"test", "interval", "timeout", "start_period", "retries", "disable"}, name


def test_the_flow_is_whole(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", "qdrant", *OURS, "prometheus", "alertmanager", "grafana"}
    assert [name for name, service in services.items() if "profiles" in service] == ["simulator"]
    roles = [role for name in ("worker", "embedder") for role in parse_roles(services[name]["command"][2])]
    assert sorted(roles) == sorted(parse_roles(None))


def test_images_are_pinned(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", service["image"]), name


def test_our_image_is_built_at_the_projects_version(services: dict[str, Any]) -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version
    for name in OURS:
        assert services[name]["image"] == f"freshet:{version[1]}"
        assert services[name]["build"]["args"] == {"UV_TORCH_BACKEND": "cpu"}
        assert (ROOT / services[name]["build"]["context"] / services[name]["build"]["dockerfile"]).is_file()


def test_server_and_client_of_qdrant_fit(services: dict[str, Any]) -> None:
    server = re.search(r":v1\.(\d+)\.", services["qdrant"]["image"])
    client = re.search(r"^qdrant-client==1\.(\d+)\.", (ROOT / "requirements.txt").read_text(), re.M)
    assert server
    assert client
    assert abs(int(server[1]) - int(client[1])) <= 1


def test_nobody_is_root_and_nobody_gains_rights(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_everything_has_limits_and_restarts(services: dict[str, Any]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) > 0, name
        assert re.fullmatch(r"\d+[mg]", limits["memory"]), name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name


def test_the_brokers_heap_fits_its_container(services: dict[str, Any]) -> None:
    heap = re.search(r"-Xmx(\d+)m", services["kafka"]["environment"]["KAFKA_HEAP_OPTS"])
    assert heap
    assert int(heap[1]) * 2 <= int(services["kafka"]["deploy"]["resources"]["limits"]["memory"].removesuffix("m"))


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"kafka", "prometheus", "alertmanager", "grafana"}
    for ports in published.values():
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_no_default_passwords() -> None:
    """A secret is either required from the environment or not there at all."""
    for line in TEXT.splitlines():
        if re.search(r"(?i)(password|secret(?!s:)|api_key|token)\w*:", line) and not line.lstrip().startswith("#"):
            assert re.search(r":\s+\$\{\w+:\?.+\}$", line), line
    with pytest.raises(KeyError, match="GRAFANA_PASSWORD"):
        interpolated(TEXT, {})


def test_our_settings_exist_and_are_accepted(services: dict[str, Any]) -> None:
    for name in OURS:
        environment = {key: str(value) for key, value in services[name]["environment"].items()}
        assert all(key.startswith(PREFIX) for key in environment)
        Settings.load(environment)
    fallbacks = {match[0] for match in VARIABLE.findall(TEXT) if match[0].startswith(PREFIX)}
    assert fallbacks <= {PREFIX + field.upper() for field in Settings.__struct_fields__}


def test_our_commands_exist_with_their_options(services: dict[str, Any]) -> None:
    for name in OURS:
        command, *arguments = services[name]["command"]
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert shown.exit_code == 0, shown.output
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.output)
        assert all(argument in plain for argument in arguments if argument.startswith("--")), name


def test_processes_find_kafka_and_qdrant(services: dict[str, Any]) -> None:
    kafka = services["kafka"]["environment"]
    listeners = dict(item.split("://") for item in kafka["KAFKA_LISTENERS"].split(","))
    advertised = dict(item.split("://") for item in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    settings = Settings.load({key: str(value) for key, value in services["worker"]["environment"].items()})
    assert settings.bootstrap == advertised["INTERNAL"] == "kafka" + listeners["INTERNAL"]
    assert kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"{kafka['KAFKA_NODE_ID']}@kafka{listeners['CONTROLLER']}"
    assert set(kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].replace(":PLAINTEXT", "").split(",")) == set(listeners)
    assert services["kafka"]["ports"] == [f"{advertised['HOST']}{listeners['HOST']}"]
    assert Settings().bootstrap == advertised["HOST"], "a command on the machine itself needs no setting"
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert settings.qdrant_url == "http://qdrant:6333"


def test_start_order_has_no_gaps(services: dict[str, Any]) -> None:
    """One waits for health only where there is a health check, and for completion only of what ends."""
    conditions = {
        (name, other): wanted["condition"]
        for name, service in services.items()
        for other, wanted in service.get("depends_on", {}).items()
    }
    for (_, other), condition in conditions.items():
        if condition == "service_completed_successfully":
            assert other in ONE_SHOT
        else:
            assert condition == "service_healthy"
            assert not services[other].get("healthcheck", {}).get("disable")
    assert conditions["topics", "kafka"] == "service_healthy"
    assert {name for name, other in conditions if other == "topics"} == {"worker", "embedder"}


def test_volumes_are_declared_and_mounted_files_exist(compose: dict[str, Any], services: dict[str, Any]) -> None:
    named = set()
    for service in services.values():
        for volume in service.get("volumes", ()):
            source, _, mode = volume.split(":") if volume.count(":") == 2 else (*volume.split(":"), "")
            if source.startswith("./"):
                assert (ROOT / source).is_dir(), volume
                assert mode == "ro", volume
            else:
                named.add(source)
    assert named == set(compose["volumes"])


def test_state_is_kept_where_the_processes_write_it(services: dict[str, Any]) -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    state = re.search(r"FRESHET_STATE_DIR=(\S+)", dockerfile)
    assert state
    for name in ("worker", "embedder"):
        assert [volume.split(":")[1] for volume in services[name]["volumes"]] == [state[1]]
    assert services["kafka"]["environment"]["KAFKA_LOG_DIRS"] == services["kafka"]["volumes"][0].split(":")[1]


def test_prometheus_scrapes_every_process_where_it_answers(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    port = Settings.load({k: str(v) for k, v in services["worker"]["environment"].items()}).metrics_port
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name in ("worker", "embedder"):
        (found,) = jobs[f"freshet-{name}"]["dns_sd_configs"]
        assert (found["names"], found["port"], found["type"]) == ([name], port, "A")
    assert jobs["qdrant"]["static_configs"][0]["targets"] == [
        services["worker"]["environment"]["FRESHET_QDRANT_URL"].removeprefix("http://")
    ]
    mounted = dict(volume.split(":")[:2] for volume in services["prometheus"]["volumes"])
    assert f"--config.file={mounted['./deploy/prometheus']}/prometheus.yml" in services["prometheus"]["command"]
    assert all(list((ROOT / "deploy/prometheus").glob(pattern)) for pattern in config["rule_files"])


def test_alerts_find_their_way_out(compose: dict[str, Any], services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    port = services["alertmanager"]["ports"][0].split(":")[2]
    (known,) = config["alerting"]["alertmanagers"]
    assert known["static_configs"] == [{"targets": [f"alertmanager:{port}"]}]
    mounted = dict(volume.split(":")[:2] for volume in services["alertmanager"]["volumes"])
    assert f"--config.file={mounted['./deploy/alertmanager']}/alertmanager.yml" in services["alertmanager"]["command"]
    assert f"--storage.path={mounted['alertmanager-data']}" in services["alertmanager"]["command"]
    (secret,) = services["alertmanager"]["secrets"]
    assert compose["secrets"] == {secret: {"environment": "ALERT_WEBHOOK_URL"}}, "from the operator's environment, never a file"
    for receiver in ALERTS["receivers"]:
        assert [hook["url_file"] for hook in receiver["webhook_configs"]] == [f"/run/secrets/{secret}"]
        assert all(hook["send_resolved"] for hook in receiver["webhook_configs"])


def test_alertmanager_routes_by_labels_that_alerts_have() -> None:
    """Every severity has a receiver, and what mutes others has the labels that must be equal."""
    alerts = {rule["alert"]: rule["labels"] for rule in rules("alert")}
    assert {route["receiver"] for route in ALERTS["route"]["routes"]} | {ALERTS["route"]["receiver"]} == {"page", "ticket"}
    assert {labels["severity"] for labels in alerts.values()} == {"page", "ticket"}
    for rule in ALERTS["inhibit_rules"]:
        sides = []
        for side in ("source_matchers", "target_matchers"):
            ((pattern,),) = [re.findall(r'alertname=~?"(.+)"', matcher) for matcher in rule[side]]
            sides.append([name for name in alerts if re.fullmatch(pattern, name)])
            assert sides[-1], pattern
        for label in set(rule["equal"]) - {"job"}:
            assert all(label in alerts[name] for side in sides for name in side)


def test_amtool_accepts_the_routes(tmp_path: Path) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("amtool is not installed (Debian: apt-get install prometheus-alertmanager)")
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    config = tmp_path / "alertmanager.yml"  # url_file is younger than Debian's amtool
    config.write_text(text.replace("url_file: /run/secrets/alert_webhook", "url: http://127.0.0.1:9/"))
    done = subprocess.run([amtool, "check-config", str(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_prometheus_and_the_dashboards(services: dict[str, Any]) -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:" + services["prometheus"]["ports"][0].split(":")[2]
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "dashboards/freshet.yml").read_text())["providers"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert provider["options"]["path"] == mounted["./deploy/grafana/dashboards"]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    environment = services["grafana"]["environment"]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy/grafana/dashboards" / home.relative_to(provider["options"]["path"])).is_file()
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_processes_have_the_time_they_need_to_stop(services: dict[str, Any]) -> None:
    """As long as docs/operations.md says; finishing a batch may take as long as Kafka waits for it in a rebalance."""
    for name in ("worker", "embedder"):
        seconds = int(services[name]["stop_grace_period"].removesuffix("s"))
        roles = parse_roles(services[name]["command"][2])
        assert seconds > faust_app(Settings.load({}), roles).conf.broker_rebalance_timeout
        assert f"Give it {seconds} s" in (ROOT / "docs/operations.md").read_text()
