"""The compose stack as files: read and judged here, because the tests have no container engine."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from embedfleet_schema.catalogue.api_models import API_PROVIDERS, WITHOUT_KEY
from embedfleet_schema.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()

OWN = sorted(name for name, service in SERVICES.items() if "build" in service)
WORKERS = sorted(name for name in SERVICES if name.startswith("worker-"))
LASTING = sorted(name for name, service in SERVICES.items() if service["restart"] != "no")
COMMANDS = {"migrate", "worker", "doctor", "status", "sync", "exporter"}

each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_worker = pytest.mark.parametrize("name", WORKERS)


def megabytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])b", size.lower()).groups()
    return int(number) * {"m": 1, "g": 1024}[unit]


def stages() -> dict[str, str]:
    """Return each stage of the Dockerfile with what it is built from."""
    found = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    return {name: source for source, name in found}


def mounted(service: dict) -> list[list[str]]:
    return [volume.split(":") for volume in service.get("volumes", [])]


def mounted_text(service: dict) -> str:
    """Return what the mounted scripts and settings say, with the broker's folder written out."""
    paths = [ROOT / source for source, *_ in mounted(service) if source.startswith("./deploy/")]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.*"))]
    text = "".join(file.read_text() for file in files if file.suffix != ".py")
    return text.replace("${SECRETS:-/run/secrets}", "/run/secrets")


def test_the_services_are_those_of_the_documentation():
    assert {
        "postgres",
        "redis",
        "migrate",
        "client",
        "sync",
        "worker-cpu",
        "worker-api",
        "worker-cuda",
        "exporter",
        "prometheus",
        "grafana",
        "flower",
    } == set(SERVICES)


@each_service
def test_an_image_is_pinned_to_a_release(name):
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert re.search(r"\d+\.\d+\.\d+", tag)
    assert "latest" not in tag


@each_service
def test_nothing_is_published_but_two_pages_to_this_machine(name):
    pages = {"flower": ["127.0.0.1:5555:5555"], "grafana": ["127.0.0.1:3000:3000"]}
    assert pages.get(name, []) == SERVICES[name].get("ports", [])


def test_the_database_and_the_broker_are_on_a_network_without_a_way_out():
    assert COMPOSE["networks"]["backend"] == {"internal": True}
    assert ["backend"] == SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"]


@each_service
def test_profiles_are_for_gpus_tools_watching_and_people_only(name):
    expected = {"worker-cuda": ["gpu"], "flower": ["tools"], "client": ["client"]}
    expected |= {each: ["monitoring"] for each in ("exporter", "prometheus", "grafana")}
    assert expected.get(name, []) == SERVICES[name].get("profiles", [])


@each_service
def test_a_service_runs_as_an_unprivileged_user_on_a_read_only_root(name):
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_is_watched_and_restarted(name):
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"postgres"}))
def test_an_init_process_passes_signals_on(name):
    assert SERVICES[name]["init"] is True


@each_service
def test_every_secret_volume_network_and_dependency_is_defined(name):
    service = SERVICES[name]
    named = {source for source, *_ in mounted(service) if not source.startswith(".")}
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert named <= set(COMPOSE["volumes"])
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert set(service.get("depends_on", {})) <= set(SERVICES)


@each_service
def test_a_service_mounts_files_that_exist_and_can_not_change_them(name):
    files = [mount for mount in mounted(SERVICES[name]) if mount[0].startswith(".")]
    assert [source for source, *_ in files if not (ROOT / source).exists()] == []
    assert {"ro"} >= {mount[-1] for mount in files}


@each_service
def test_a_service_is_given_the_secrets_that_it_reads_and_no_others(name):
    service = SERVICES[name]
    settings = [*service.get("environment", {}).values(), str(service.get("healthcheck"))]
    used = set(re.findall(r"/run/secrets/(\w+)", " ".join(settings) + mounted_text(service)))
    assert used == set(service.get("secrets", []))


def test_no_value_in_the_file_is_a_password():
    names = [
        (name, variable)
        for name, service in SERVICES.items()
        for variable in service.get("environment", {})
        if re.search("PASSWORD|KEY|AUTH|SECRET", variable) and not variable.endswith("_FILE")
    ]
    assert names == []


def test_every_secret_is_a_file_that_git_ignores_and_the_readme_explains():
    ignored = (ROOT / "deploy/secrets/.gitignore").read_text().split()
    readme = (ROOT / "deploy/secrets/README.md").read_text()
    assert ignored == ["*", "!.gitignore", "!README.md"]
    for name, secret in COMPOSE["secrets"].items():
        assert {"file": f"./deploy/secrets/{name}"} == secret
        assert f"`{name}`" in readme


def test_the_api_worker_is_given_the_key_of_each_provider():
    environment = SERVICES["worker-api"]["environment"]
    for provider in set(API_PROVIDERS) - set(WITHOUT_KEY):
        path = f"/run/secrets/{provider}_api_key"
        assert path == environment[f"{provider.upper()}_API_KEY_FILE"]


def test_every_variable_of_the_file_is_in_the_example_with_its_default():
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    text = (ROOT / "docker-compose.yml").read_text()
    assert example == dict(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", text))


def test_shared_memory_holds_the_index_build():
    options = " ".join(SERVICES["postgres"]["command"])
    (work_mem,) = re.findall(r"--maintenance_work_mem=(\w+)", options)
    assert megabytes(SERVICES["postgres"]["shm_size"]) >= megabytes(work_mem)


def test_the_database_volume_is_where_version_18_wants_it():
    assert "-pg18" in SERVICES["postgres"]["image"]
    assert ["postgres", "/var/lib/postgresql"] in mounted(SERVICES["postgres"])


def test_the_database_is_healthy_only_when_it_answers_by_tcp():
    assert "--host=127.0.0.1" in SERVICES["postgres"]["healthcheck"]["test"]


@each_worker
def test_a_worker_has_longer_to_stop_than_a_lease_lasts(name):
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert seconds > 2 * Settings.model_fields["lease_seconds"].default


@each_worker
def test_a_worker_starts_after_the_migration(name):
    condition = SERVICES[name]["depends_on"]["migrate"]["condition"]
    assert condition == "service_completed_successfully"


def test_prometheus_asks_the_exporter_and_each_kind_of_worker_where_they_serve():
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    exporter, workers = config["scrape_configs"]
    port = SERVICES["exporter"]["command"][-1]
    assert [{"targets": [f"exporter:{port}"]}] == exporter["static_configs"]
    (found,) = workers["dns_sd_configs"]
    assert WORKERS == sorted(found["names"])
    example = (ROOT / "docs/monitoring.md").read_text()
    assert f"`EMBEDFLEET_METRICS_PORT={found['port']}` in `.env`" in example
    (rules,) = config["rule_files"]
    assert ["./deploy/prometheus", "/etc/prometheus", "ro"] in mounted(SERVICES["prometheus"])
    assert (ROOT / "deploy/prometheus" / rules).is_file()
    for name in (*WORKERS, "exporter"):
        assert "backend" in SERVICES[name]["networks"]
        assert "0.0.0.0" in SERVICES[name]["environment"]["EMBEDFLEET_METRICS_HOST"]  # noqa: S104


def test_grafana_finds_prometheus_and_the_dashboard_where_they_are():
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert "http://prometheus:9090" == source["url"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/embedfleet.yml").read_text())[
        "providers"
    ]
    folders = {target: source for source, target, *_ in mounted(SERVICES["grafana"])}
    dashboards = ROOT / folders[provider["options"]["path"]]
    assert ["embedfleet.json"] == [path.name for path in dashboards.iterdir()]


LOGINS = {"migrate": "embedfleet", "client": "client", "sync": "client", "exporter": "monitor"}
LOGINS |= dict.fromkeys(WORKERS, "worker")


@pytest.mark.parametrize("name", OWN)
def test_each_side_logs_in_to_the_database_as_itself(name):
    environment = SERVICES[name]["environment"]
    url = f"postgresql://{LOGINS[name]}@postgres:5432/embedfleet"
    assert url == environment["EMBEDFLEET_DATABASE_URL"]
    prefix = "" if name == "migrate" else f"{LOGINS[name]}_"
    password = f"/run/secrets/{prefix}database_password"
    assert password == environment["EMBEDFLEET_DATABASE_PASSWORD_FILE"]


def test_the_migration_sets_up_the_roles():
    assert ["embedfleet", "migrate", "--roles", "--set-defaults"] == SERVICES["migrate"]["command"]


@each_worker
def test_a_worker_takes_the_queue_of_its_name(name):
    queue = name.removeprefix("worker-")
    assert ["embedfleet", "worker", "--queue", queue] == SERVICES[name]["command"]


def test_the_gpu_is_reserved_for_its_worker():
    (device,) = SERVICES["worker-cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", OWN)
def test_only_known_commands_are_run(name):
    service = SERVICES[name]
    lines = [service["command"], service.get("healthcheck", {}).get("test", [])[2:]]
    if name == "exporter":
        # Its page is asked for, by Python itself.
        lines.pop()
    assert {line[1] for line in lines if line} <= COMMANDS


@pytest.mark.parametrize("name", OWN)
def test_an_image_is_built_from_a_stage_that_exists_and_named_after_it(name):
    build = SERVICES[name]["build"]
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["target"] in stages()
    assert SERVICES[name]["image"].endswith(f"-{build['target']}")


def test_a_health_check_reads_the_secrets_like_the_worker_does():
    # `docker exec` and health checks pass the entrypoint by.
    assert '["with-secrets"]' in re.search(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[1]
    assert SERVICES["worker-cpu"]["healthcheck"]["test"][1] == "with-secrets"


def test_base_images_are_pinned_to_a_release():
    (python,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", python)
    assert set(stages().values()) <= {"${PYTHON_IMAGE}", *stages()}


def test_the_image_runs_as_the_user_that_compose_names():
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert {user} == {SERVICES[name]["user"] for name in OWN}
    assert stages()["cpu"] == stages()["cuda"] == "runtime"


def test_the_models_volume_is_where_the_image_keeps_models():
    assert "HF_HOME=/models" in DOCKERFILE
    assert mounted(SERVICES["worker-cpu"]) == [["models", "/models"]]


def test_every_install_in_the_image_is_constrained_and_cached():
    installs = re.findall(
        r"^RUN ((?:.*\\\n)*.*pip install(?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE
    )
    assert len(installs) == 4
    assert all("--constraint /constraints.txt" in install for install in installs)
    assert all("--mount=type=cache,target=/root/.cache/pip" in install for install in installs)


def test_the_build_sends_the_engine_all_that_it_copies_and_no_secret():
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in line.split()
    }
    assert copied == allowed
    assert not {path for path in allowed if path.startswith("deploy/secrets")}


def test_the_image_holds_the_extras_that_workers_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\.whl\)\[([\w,]+)\]", DOCKERFILE):
        assert {"local", "api", "readers", "metrics", "tracing"} == set(extras.split(","))
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_image_is_tagged_with_the_version_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {f"embedfleet:${{EMBEDFLEET_VERSION:-{project['version']}}}"} == {
        SERVICES[name]["image"].rpartition("-")[0] for name in OWN
    }
