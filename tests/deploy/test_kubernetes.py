"""What is applied to a cluster is valid, closed by default, and opens exactly the ways that the services declare."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no annotations
import pytest
import yaml

from common.settings import ServiceSettings
from tests.architecture.sources import ROOT, SERVICES
from tests.architecture.whiteboard import CALLS, FORWARDING, declared_callers, declared_forwarding, declared_neighbours
from tests.deploy import kustomize
from tests.deploy.kustomize import Resource

K8S = ROOT / "deploy/k8s"
OVERLAYS = ("local", "production")
KUBERNETES_VERSION = "1.34"
GRPC_PORT = 50051
CALLS_OUT = {"payments", "subscriptions"}  # gateways, and the authority on VAT numbers


@functools.cache
def _rendered(overlay: str) -> list[Resource]:
    return kustomize.build(K8S / "overlays" / overlay)


def _kubectl() -> str | None:
    """A kubectl that knows kustomize 5. Debian's is years too old: it would only fail."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    told = subprocess.run(
        [kubectl, "version", "--client", "--output", "json"], capture_output=True, text=True, timeout=60, check=False
    )
    version = json.loads(told.stdout or "{}").get("kustomizeVersion", "") if told.returncode == 0 else ""
    return kubectl if version.startswith("v5.") else None


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid(overlay: str) -> None:
    """Strictly: a misspelt field would be dropped by the cluster without a word."""
    resources = _rendered(overlay)
    for resource in resources:
        kubernetes_validate.validate(resource, KUBERNETES_VERSION, strict=True)
    assert len(resources) == len({kustomize.identity(resource) for resource in resources})


def test_validation_notices_a_misspelt_field() -> None:
    """Otherwise the test above would prove nothing."""
    deployment = copy.deepcopy(_find("local", "Deployment", "catalog"))
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_renders_the_same(overlay: str) -> None:
    """Our small renderer is what the other tests look through; where there is a kubectl, it is held against it.

    Where there is none, the renderer's own strictness has to do: it refuses whatever it does not know.
    """
    ours = {kustomize.identity(each): each for each in _rendered(overlay)}
    assert len(ours) > 30
    kubectl = _kubectl()
    if kubectl is not None:
        told = subprocess.run(
            [kubectl, "kustomize", K8S / "overlays" / overlay], capture_output=True, text=True, timeout=120, check=True
        )
        theirs = {kustomize.identity(each): each for each in yaml.safe_load_all(told.stdout)}
        assert ours == theirs


def test_the_renderer_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    """A guess would make every other test here worthless."""
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: x-\n")
    with pytest.raises(kustomize.Unknown, match="namePrefix"):
        kustomize.build(tmp_path)


@pytest.mark.parametrize("service", SERVICES)
def test_policies_restate_the_graph_of_calls(service: str) -> None:
    """Code, manifests and whiteboard say the same: who calls whom is declared, closed elsewhere, and acyclic."""
    policy = _policy(service)
    callers = _peers(policy["ingress"], "from")
    neighbours = _peers(policy["egress"], "to")
    itself = {service} & FORWARDING
    assert (
        callers - itself == declared_callers(service) == {each for each, called in CALLS.items() if service in called}
    )
    assert neighbours - itself == declared_neighbours(service) == CALLS[service]
    assert {service} & callers == {service} & neighbours == itself
    assert declared_forwarding(service) == bool(itself)


@pytest.mark.parametrize("service", sorted(FORWARDING))
def test_a_replica_says_where_the_others_reach_it(service: str) -> None:
    """The name of the service leads to any of them; only the address of its pod leads to this one."""
    [container] = _find("production", "Deployment", service)["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each for each in container["env"]}
    assert told["POD_IP"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert told["SALDO_ADVERTISED_ADDRESS"]["value"] == f"$(POD_IP):{GRPC_PORT}"
    names = list(told)
    assert names.index("POD_IP") < names.index("SALDO_ADVERTISED_ADDRESS"), "what is not defined before is not replaced"


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_servers_gateways_and_authorities_are_reached_besides(service: str) -> None:
    """An egress rule without a peer, or to everywhere, would undo all the others."""
    rules = _policy(service)["egress"]
    assert all(rule["to"] and rule["ports"] for rule in rules)
    others = {port["port"] for rule in rules for port in rule["ports"]} - {GRPC_PORT}
    assert others == {5432, 4222, 4317, 53} | ({443} if service in CALLS_OUT else set())


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_told_what_it_must_be_told(service: str) -> None:
    """By both of its containers: the migration reads the same settings."""
    settings: type[ServiceSettings] = importlib.import_module(f"{service}.settings").Settings
    required = {f"SALDO_{name.upper()}" for name, each in settings.model_fields.items() if each.is_required()}
    [deployment] = [
        each for each in _rendered("local") if each["kind"] == "Deployment" and each["metadata"]["name"] == service
    ]
    pod = deployment["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert required <= {each["name"] for each in container["env"]}, container["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_open_that_no_policy_opens(overlay: str) -> None:
    """Default deny, both ways, for every pod of the namespace."""
    policies = [each for each in _rendered(overlay) if each["kind"] == "NetworkPolicy"]
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert [each["metadata"]["name"] for each in policies if each["spec"] == closed] == ["default-deny"]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_confined(overlay: str, service: str) -> None:
    """Whoever gets into a process finds nothing to write to, nobody to become and nothing to call."""
    pod = _find(overlay, "Deployment", service)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["automountServiceAccountToken"] is False
    containers = [*pod["initContainers"], *pod["containers"]]
    assert [container["name"] for container in containers] == ["migrate", "service"]
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["image"].split(":")[0] == f"saldo-{service}"
        secrets = {
            each["valueFrom"]["secretKeyRef"]["name"]
            for each in container["env"]
            if "secretKeyRef" in each.get("valueFrom", {})
        }
        assert secrets == {service, "saldo-nats"}
    assert pod["volumes"][0]["secret"]["secretName"] == service
    assert pod["initContainers"][0]["args"] == ["migrate"]
    assert pod["containers"][0]["readinessProbe"]["grpc"]["port"] == GRPC_PORT


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_finds_itself(service: str) -> None:
    """The same name everywhere: neighbours reach `catalog:50051`, the autoscaler its deployment, selectors its pods."""
    labels = _find("production", "Deployment", service)["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": service, "app.kubernetes.io/part-of": "saldo"}
    assert _find("production", "Service", service)["spec"]["selector"] == labels
    assert _find("production", "PodDisruptionBudget", service)["spec"]["selector"]["matchLabels"] == labels
    assert _policy(service)["podSelector"]["matchLabels"] == labels
    assert _find("production", "HorizontalPodAutoscaler", service)["spec"]["scaleTargetRef"]["name"] == service


def _find(overlay: str, kind: str, name: str) -> Resource:
    return next(each for each in _rendered(overlay) if kustomize.identity(each) == (kind, name))


def _policy(service: str) -> Resource:
    spec: Resource = _find("production", "NetworkPolicy", service)["spec"]
    return spec


def _peers(rules: list[dict[str, Any]], side: str) -> set[str]:  # Any: as YAML has it
    """The services named in the rules about gRPC."""
    found: set[str] = set()
    for rule in rules:
        if rule["ports"] == [{"port": GRPC_PORT}]:
            for peer in rule[side]:
                for expression in peer.get("podSelector", {}).get("matchExpressions", ()):
                    assert (expression["key"], expression["operator"]) == ("app.kubernetes.io/name", "In")
                    found |= set(expression["values"])
    return found
