"""The manifests for Kubernetes as `kubectl` renders them, beside schemas and the compose stack."""

import copy
import json
import re
import shutil
import subprocess
from functools import cache
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml

from embedfleet_schema.settings import Settings
from embedfleet_workers.launch import CUDA_SLOTS
from plugins.documents import ROOT
from plugins.keda_schemas import SCHEMAS
from plugins.manifests import MANIFESTS, Resource, of_kind, only, rendered, rendered_at

pytestmark = pytest.mark.kubectl

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
# The versions of Kubernetes that docs/operations.md names, and Kustomize's of its kubectl.
OLDEST, NEWEST = "1.27", kubernetes_validate.latest_version()
KUSTOMIZE = (5, 5)

WORKERS = {"overlays/cpu": "cpu", "overlays/api": "api", "overlays/gpu": "cuda"}
SCALED = {f"scaled/{name.removeprefix('overlays/')}": queue for name, queue in WORKERS.items()}
# Each with its service of the compose stack.
PODS = {name: f"worker-{queue}" for name, queue in WORKERS.items()} | {
    "migrate": "migrate",
    "owner": "migrate",
    "client": "client",
}
PARTS = {"base", "keda", "metrics", "models", "pod", "secrets", "settings"}

each = pytest.mark.parametrize("name", [*PODS, *SCALED, "namespace"])
each_pod = pytest.mark.parametrize("name", PODS)
each_worker = pytest.mark.parametrize("name", WORKERS)
each_scaled = pytest.mark.parametrize("name", SCALED)


def owner_of(name: str) -> Resource:
    """The Deployment or Job."""
    (found,) = (r for r in rendered(name) if r["kind"] in {"Deployment", "Job"})
    return found


def pod(name: str) -> Resource:
    return owner_of(name)["spec"]["template"]["spec"]


def container(name: str) -> Resource:
    (found,) = pod(name)["containers"]
    return found


def labels(name: str) -> dict[str, str]:
    return owner_of(name)["spec"]["template"]["metadata"]["labels"]


def service(name: str) -> dict:
    return COMPOSE[PODS[name]]


def settings_of(name: str) -> dict[str, str]:
    """The variables that the pod's ConfigMap of settings sets."""
    (source,) = container(name)["envFrom"]
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(rendered(name), "ConfigMap")}
    return maps[source["configMapRef"]["name"]]


def environment(name: str) -> dict[str, str]:
    """All variables of the pod, those from ConfigMaps resolved."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(rendered(name), "ConfigMap")}
    found = dict(settings_of(name))
    for variable in container(name)["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            key = variable["valueFrom"]["configMapKeyRef"]
            found[variable["name"]] = maps[key["name"]][key["key"]]
    return found


@cache
def settable() -> set[str]:
    return {
        str(name)
        for field, info in Settings.model_fields.items()
        for name in getattr(info.validation_alias, "choices", [f"EMBEDFLEET_{field.upper()}"])
    }


def validate(resource: Resource) -> None:
    if resource["kind"] in SCHEMAS:
        jsonschema.validate(resource, SCHEMAS[resource["kind"]])
        return
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.fixture
def copied(tmp_path):
    """A copy of the manifests, to be changed."""
    return shutil.copytree(MANIFESTS, tmp_path / "kubernetes")


def generated(copied) -> dict[str, set[str]]:
    """The Secrets that the example makes of files, each with its keys."""
    listed = yaml.safe_load((copied / "secrets/kustomization.yaml").read_text())["secretGenerator"]
    for file in (file for secret in listed for file in secret["files"]):
        (copied / "secrets" / file).write_text("a secret\n")
    secrets = rendered_at(copied / "secrets")
    assert {"Secret"} == {secret["kind"] for secret in secrets}
    return {secret["metadata"]["name"]: set(secret["data"]) for secret in secrets}


def test_kubectl_is_as_new_as_the_documentation_asks_for():
    command = ["kubectl", "version", "--client", "--output", "json"]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    version = json.loads(said.stdout)["kustomizeVersion"].removeprefix("v")
    major, minor, *_ = version.split(".")
    assert (int(major), int(minor)) >= KUSTOMIZE
    page = (ROOT / "docs/operations.md").read_text()
    assert "kubectl 1.32 or newer (Kustomize {}.{})".format(*KUSTOMIZE) in page
    assert f"Kubernetes {OLDEST} or newer" in page


def test_the_documentation_applies_what_is_there():
    page = (ROOT / "docs/operations.md").read_text()
    section = page.partition("\n## On Kubernetes\n")[2].partition("\n## ")[0]
    applied = set(re.findall(r"-k deploy/kubernetes/(\S+)", section))
    assert applied <= {*PODS, *SCALED, "namespace", "secrets"}
    assert {"namespace", "secrets", "migrate", "client", "owner", "overlays/cpu"} <= applied
    for path in re.findall(r"\bdeploy/kubernetes/(\w\S*)", section):
        assert (MANIFESTS / path.rstrip("`;")).exists() or path.startswith("mine/"), path


def test_every_kustomization_is_tested_or_is_a_part_of_one():
    folders = {
        str(path.parent.relative_to(MANIFESTS)) for path in MANIFESTS.rglob("kustomization.yaml")
    }
    assert {*PODS, *SCALED, "namespace"} | PARTS == folders


@each
def test_every_resource_is_one_that_the_oldest_and_the_newest_kubernetes_take(name):
    for resource in rendered(name):
        validate(resource)


@pytest.mark.parametrize(
    ("name", "kind"), [("overlays/cpu", "Deployment"), ("scaled/cpu", "ScaledObject")]
)
def test_a_misspelt_field_would_be_noticed(name, kind):
    resource = copy.deepcopy(only(rendered(name), kind))
    resource["spec"]["minReplicas"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        validate(resource)


@each
def test_everything_is_in_the_namespace_of_the_fleet(name):
    namespace = only(rendered("namespace"), "Namespace")["metadata"]
    assert "restricted" == namespace["labels"]["pod-security.kubernetes.io/enforce"]
    others = [r["metadata"] for r in rendered(name) if r["kind"] != "Namespace"]
    assert {namespace["name"]} == {metadata["namespace"] for metadata in others}


@each_pod
def test_a_pod_is_as_hardened_as_its_service(name):
    (user, group) = map(int, service(name)["user"].split(":"))
    assert {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    } == pod(name)["securityContext"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": service(name)["read_only"],
        "capabilities": {"drop": service(name)["cap_drop"]},
    } == container(name)["securityContext"]
    assert pod(name)["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(name))
    assert pod(name)["shareProcessNamespace"] is service(name)["init"]


@each_pod
def test_a_pod_runs_the_image_of_its_service(name):
    image = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service(name)["image"])
    assert image == container(name)["image"]


@each_pod
def test_a_pod_runs_the_command_of_its_service_or_waits_for_a_person(name):
    command = ["sleep", "8h"] if name in {"owner", "client"} else service(name)["command"]
    args = container(name)["args"]
    assert command == args[: len(command)]
    # The entrypoint of the image reads the secrets.
    assert "command" not in container(name)


@each_pod
def test_a_variable_is_a_setting_or_the_file_of_one(name):
    for variable, value in environment(name).items():
        if not value.startswith("/run/secrets/"):
            assert variable in settable() or variable.startswith("OTEL_")
        elif variable.endswith("_PASSWORD_FILE"):
            assert variable.removesuffix("_PASSWORD_FILE") + "_URL" in environment(name)
        else:
            assert variable.removesuffix("_FILE") in settable()


@each_pod
def test_a_pod_has_the_variables_of_its_service(name):
    of_all = COMPOSE["worker-api"]["environment"]
    ours, theirs = environment(name), service(name)["environment"]
    assert set(theirs) <= set(ours)
    assert set(ours) - set(theirs) <= {*of_all, "EMBEDFLEET_TORCH_THREADS"}
    files = {key: value for key, value in theirs.items() if key.endswith("_FILE")}
    assert files == {key: value for key, value in ours.items() if key.endswith("_FILE")}


@each_pod
def test_each_side_logs_in_to_the_database_as_in_compose(name):
    ours, theirs = (
        urlsplit(variables["EMBEDFLEET_DATABASE_URL"])
        for variables in (environment(name), service(name)["environment"])
    )
    assert (theirs.username, theirs.path) == (ours.username, ours.path)
    assert ours.password is None
    assert "sslmode=require" == ours.query


def test_the_settings_are_those_of_compose_with_their_defaults():
    example = (ROOT / ".env.example").read_text().splitlines()
    theirs = dict(line.split("=", 1) for line in example if line and not line.startswith("#"))
    ours = settings_of("overlays/cpu")
    of_compose_alone = {"EMBEDFLEET_VERSION", "EMBEDFLEET_CPU_WORKERS"}
    assert set(theirs) - of_compose_alone == set(ours) - {"EMBEDFLEET_REDIS_URL"}
    assert {} == {key: value for key, value in ours.items() if theirs.get(key, value) != value}


@each_pod
def test_a_pod_is_given_the_secrets_of_its_service_as_files_and_no_others(name, copied):
    (volume,) = (volume for volume in pod(name)["volumes"] if volume["name"] == "secrets")
    made = generated(copied)
    given = set().union(
        *(made[source["secret"]["name"]] for source in volume["projected"]["sources"])
    )
    assert set(service(name)["secrets"]) == given
    assert 0o440 == volume["projected"]["defaultMode"]
    (mount,) = (mount for mount in container(name)["volumeMounts"] if mount["name"] == "secrets")
    assert ("/run/secrets", True) == (mount["mountPath"], mount["readOnly"])


def test_no_secret_is_in_the_repository():
    assert ["*", "!.gitignore", "!kustomization.yaml"] == (
        (MANIFESTS / "secrets/.gitignore").read_text().split()
    )
    for path in (path for path in MANIFESTS.rglob("*") if path.is_file()):
        assert "kind: Secret\n" not in path.read_text()


@each_pod
def test_what_a_pod_writes_is_limited(name):
    limits = {
        v["name"]: v["emptyDir"]["sizeLimit"] for v in pod(name)["volumes"] if "emptyDir" in v
    }
    assert {"tmp": "2Gi", "models": "20Gi"} == limits
    mounts = {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert {"tmp": "/tmp", "models": "/models", "secrets": "/run/secrets"} == mounts  # noqa: S108
    assert {"requests", "limits"} == set(container(name)["resources"])
    assert "memory" in container(name)["resources"]["limits"]


@each_worker
def test_a_worker_has_as_long_to_stop_as_in_compose(name):
    seconds = int(service(name)["stop_grace_period"].removesuffix("s"))
    assert seconds == pod(name)["terminationGracePeriodSeconds"]
    # SIGTERM is all that it needs.
    assert "lifecycle" not in container(name)


@each_worker
def test_a_worker_is_asked_what_compose_asks_and_a_short_absence_restarts_nobody(name):
    _, *command = service(name)["healthcheck"]["test"]
    start, live = container(name)["startupProbe"], container(name)["livenessProbe"]
    assert command == start["exec"]["command"] == live["exec"]["command"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 180
    assert live["periodSeconds"] * live["failureThreshold"] >= 600


@each_worker
def test_an_update_has_few_steps(name):
    strategy = owner_of(name)["spec"]["strategy"]["rollingUpdate"]
    surge = 0 if name == "overlays/gpu" else 1
    assert {"maxUnavailable": "50%", "maxSurge": surge} == strategy
    steps = 3
    grace = pod(name)["terminationGracePeriodSeconds"]
    assert owner_of(name)["spec"]["progressDeadlineSeconds"] > steps * grace


@each_worker
def test_an_apply_leaves_the_number_of_workers_as_it_is(name):
    assert "replicas" not in owner_of(name)["spec"]


@each_worker
def test_what_selects_pods_of_a_queue_selects_no_others(name):
    budget = only(rendered(name), "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    spread = [
        each["labelSelector"]["matchLabels"] for each in pod(name)["topologySpreadConstraints"]
    ]
    selector = owner_of(name)["spec"]["selector"]["matchLabels"]
    for selected in (selector, budget, *spread):
        assert [name] == [other for other in PODS if selected.items() <= labels(other).items()]


@each_worker
def test_a_drain_of_nodes_is_never_blocked_for_good(name):
    budget = only(rendered(name), "PodDisruptionBudget")["spec"]
    assert ("50%", "AlwaysAllow") == (
        budget["maxUnavailable"],
        budget["unhealthyPodEvictionPolicy"],
    )


def policies_of(name: str) -> list[dict]:
    found = []
    for policy in of_kind(rendered("namespace"), "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        among = all(
            labels(name).get(each["key"]) in each["values"]
            for each in selector.get("matchExpressions", [])
        )
        if among and selector["matchLabels"].items() <= labels(name).items():
            found.append(policy["spec"])
    return found


@each_pod
def test_nobody_connects_to_a_pod_and_it_connects_to_what_it_needs(name):
    policies = policies_of(name)
    assert {"Ingress", "Egress"} == {kind for policy in policies for kind in policy["policyTypes"]}
    assert [] == [rule for policy in policies for rule in policy.get("ingress", [])]
    rules = [rule for policy in policies for rule in policy["egress"]]
    ports = {port["port"] for rule in rules for port in rule["ports"]}
    https = set() if name in {"migrate", "owner"} else {443}
    assert {53, 5432, 6379} | https == ports


def test_a_cpu_worker_has_a_core_for_each_of_its_processes():
    given = container("overlays/cpu")
    *_, option, processes = given["args"]
    assert "--concurrency" == option
    assert processes == given["resources"]["limits"]["cpu"] == given["resources"]["requests"]["cpu"]
    assert "1" == environment("overlays/cpu")["EMBEDFLEET_TORCH_THREADS"]


def test_a_gpu_worker_has_one_gpu_and_the_only_process_on_it():
    given = container("overlays/gpu")
    assert 1 == given["resources"]["limits"]["nvidia.com/gpu"]
    assert "--concurrency" not in given["args"]
    assert CUDA_SLOTS > 1
    (toleration,) = pod("overlays/gpu")["tolerations"]
    assert "nvidia.com/gpu" == toleration["key"]
    assert {"nvidia.com/gpu.present": "true"} == pod("overlays/gpu")["nodeSelector"]
    for other in set(PODS) - {"overlays/gpu"}:
        assert "nodeSelector" not in pod(other)
        assert "nvidia.com/gpu" not in container(other)["resources"]["limits"]


def test_one_claim_holds_the_models_of_all_workers_where_that_is_wanted(copied):
    (copied / "mine").mkdir()
    mine = {
        "resources": ["../overlays/cpu"],
        "components": ["../models"],
        "namespace": "embedfleet",
    }
    (copied / "mine/kustomization.yaml").write_text(yaml.safe_dump(mine))
    resources = rendered_at(copied / "mine")
    claim = only(resources, "PersistentVolumeClaim")
    assert ["ReadWriteMany"] == claim["spec"]["accessModes"]
    volumes = only(resources, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (models,) = (volume for volume in volumes if volume["name"] == "models")
    assert {
        "name": "models",
        "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]},
    } == models
    for resource in resources:
        validate(resource)


def test_only_prometheus_reaches_the_metrics_of_workers_where_that_is_wanted(copied):
    (copied / "mine").mkdir()
    mine = {
        "resources": ["../overlays/cpu"],
        "components": ["../metrics"],
        "namespace": "embedfleet",
    }
    (copied / "mine/kustomization.yaml").write_text(yaml.safe_dump(mine))
    resources = rendered_at(copied / "mine")
    template = only(resources, "Deployment")["spec"]["template"]
    (worker,) = template["spec"]["containers"]
    (port,) = worker["ports"]
    variables = {each["name"]: each.get("value") for each in worker["env"]}
    assert ("metrics", variables["EMBEDFLEET_METRICS_PORT"]) == (
        port["name"],
        str(port["containerPort"]),
    )
    assert container("overlays/cpu")["env"] == [
        each for each in worker["env"] if each["name"] != "EMBEDFLEET_METRICS_PORT"
    ]
    policy = only(resources, "NetworkPolicy")["spec"]
    (rule,) = policy["ingress"]
    assert ["metrics"] == [each["port"] for each in rule["ports"]]
    assert all("namespaceSelector" in each for each in rule["from"])
    monitor = only(resources, "PodMonitor")["spec"]
    assert ["metrics"] == [each["port"] for each in monitor["podMetricsEndpoints"]]
    labels_of = template["metadata"]["labels"].items()
    for selector in (monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= labels_of
        assert not selector["matchLabels"].items() <= labels("client").items()
    for resource in resources:
        if resource["kind"] != "PodMonitor":
            validate(resource)


@each_scaled
def test_a_scaled_worker_is_the_same_worker(name):
    added = [r for r in rendered(name) if r["kind"] in SCHEMAS]
    rest = [r for r in rendered(name) if r["kind"] not in SCHEMAS]
    assert rendered(f"overlays/{name.removeprefix('scaled/')}") == rest
    assert set(SCHEMAS) == {resource["kind"] for resource in added}
    worker = only(rest, "Deployment")["metadata"]["name"]
    scaled = only(added, "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    authentication = only(added, "TriggerAuthentication")["metadata"]["name"]
    assert {worker} == {scaled["metadata"]["name"], scaled["spec"]["scaleTargetRef"]["name"]}
    assert authentication == trigger["authenticationRef"]["name"] == worker


@each_scaled
def test_keda_logs_in_as_a_worker_where_workers_do(name, copied):
    (trigger,) = only(rendered(name), "ScaledObject")["spec"]["triggers"]
    asked = trigger["metadata"]
    url = urlsplit(
        environment(f"overlays/{name.removeprefix('scaled/')}")["EMBEDFLEET_DATABASE_URL"]
    )
    assert (url.hostname, str(url.port), url.username, url.path) == (
        asked["host"],
        asked["port"],
        asked["userName"],
        f"/{asked['dbName']}",
    )
    assert url.query == f"sslmode={asked['sslmode']}"
    (password,) = only(rendered(name), "TriggerAuthentication")["spec"]["secretTargetRef"]
    assert "password" == password["parameter"]
    assert password["key"] in generated(copied)[password["name"]]


@each_scaled
def test_a_pod_more_is_started_for_five_minutes_of_work_of_each_of_its_processes(name):
    scaled = only(rendered(name), "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    args = container(f"overlays/{name.removeprefix('scaled/')}")["args"]
    processes = int(args[-1]) if "--concurrency" in args else 1
    assert str(300 * processes) == trigger["metadata"]["targetQueryValue"]
    assert "AverageValue" == trigger["metricType"]


@each_scaled
def test_workers_leave_later_than_a_batch_ends_and_those_of_apis_never_all(name):
    scaled = only(rendered(name), "ScaledObject")["spec"]
    grace = pod(f"overlays/{name.removeprefix('scaled/')}")["terminationGracePeriodSeconds"]
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert scaled["cooldownPeriod"] > grace
    assert behavior["stabilizationWindowSeconds"] > grace
    assert int(name == "scaled/api") == scaled["minReplicaCount"]
    assert scaled["maxReplicaCount"] > 1
