"""Knows the part of kustomize that deploy/k8s uses, so that what it renders can be judged where there is no kubectl.

Whatever it does not know is an error, not a guess; test_kubernetes.py compares it with the real one where that exists.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]  # Any: as YAML has it

KEYS = {"apiVersion", "kind", "namespace", "resources", "labels", "images", "patches"} | {
    "configMapGenerator",
    "generatorOptions",
}
CLUSTER_WIDE = {"Namespace"}
# Where `labels` with `includeSelectors` goes besides metadata.
SELECTORS: dict[str, tuple[str, ...]] = {
    "Deployment": (
        "spec/selector/matchLabels",
        "spec/template/metadata/labels",
        "spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels",
    ),
    "Service": ("spec/selector",),
    "PodDisruptionBudget": ("spec/selector/matchLabels",),
    "NetworkPolicy": ("spec/podSelector/matchLabels",),
    "HorizontalPodAutoscaler": (),
}


class Unknown(Exception):
    """A kustomization uses something that is not known here."""


def build(folder: Path) -> list[Resource]:
    """The resources of a kustomization, as `kubectl kustomize` prints them, in no particular order."""
    told: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(told) - KEYS:
        raise Unknown(f"{folder.name}: {', '.join(sorted(unknown))}")
    resources = [found for name in told.get("resources", ()) for found in _load(folder / name)]
    resources += [_config_map(folder, each, told) for each in told.get("configMapGenerator", ())]
    for patch in told.get("patches", ()):
        _patch(resources, patch)
    if namespace := told.get("namespace"):
        for resource in resources:
            if resource["kind"] not in CLUSTER_WIDE:
                resource["metadata"]["namespace"] = namespace
    for label in told.get("labels", ()):
        for resource in resources:
            _label(resource, label)
    for resource in resources:
        for container in _containers(resource):
            _name_image(container, told.get("images", ()))
    return resources


def identity(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def _load(path: Path) -> list[Resource]:
    if path.is_dir():
        return build(path)
    # A round trip through text undoes the sharing of anchors.
    return [copy.deepcopy(each) for each in _unshared(path)]


def _unshared(path: Path) -> Iterator[Resource]:
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    for document in yaml.safe_load_all(path.read_text()):
        yield yaml.safe_load(yaml.dump(document, Dumper=Dumper))


def _config_map(folder: Path, told: dict[str, Any], kustomization: dict[str, Any]) -> Resource:
    if kustomization.get("generatorOptions") != {"disableNameSuffixHash": True}:
        raise Unknown("generated names with a hash")
    data = dict(literal.split("=", 1) for literal in told.get("literals", ()))
    data |= {name: (folder / name).read_text() for name in told.get("files", ())}
    if extra := set(told) - {"name", "literals", "files"}:
        raise Unknown(f"configMapGenerator: {', '.join(sorted(extra))}")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": told["name"]}, "data": data}


def _patch(resources: list[Resource], patch: dict[str, Any]) -> None:
    if extra := set(patch) - {"target", "patch", "options"}:
        raise Unknown(f"patches: {', '.join(sorted(extra))}")
    targets = [resource for resource in resources if _is_target(resource, patch["target"])]
    if not targets:
        raise Unknown(f"a patch of {patch['target']}, which is not there")
    for resource in targets:
        for operation in yaml.safe_load(patch["patch"]):
            _apply(resource, operation["op"], operation["path"], copy.deepcopy(operation["value"]))


def _is_target(resource: Resource, target: dict[str, str]) -> bool:
    known = {"kind": resource["kind"], "name": resource["metadata"]["name"]}
    for key, wanted in target.items():
        if key == "labelSelector" and wanted.isprintable() and "=" not in wanted:
            if wanted not in resource["metadata"].get("labels", {}):
                return False
        elif key not in known:
            raise Unknown(f"a target by {key}")
        elif known[key] != wanted:
            return False
    return True


def _apply(resource: Resource, operation: str, path: str, value: object) -> None:
    *way, last = path.lstrip("/").split("/")
    place = _at(resource, "/".join(way))
    if operation == "add" and isinstance(place, list) and last == "-":
        place.append(value)
    elif isinstance(place, dict) and (operation == "add" or (operation == "replace" and last in place)):
        place[last] = value
    else:
        raise Unknown(f"{operation} {path}")


def _label(resource: Resource, label: dict[str, Any]) -> None:
    if set(label) != {"pairs", "includeSelectors"} or label["includeSelectors"] is not True:
        raise Unknown("labels that do not reach selectors")
    resource["metadata"].setdefault("labels", {}).update(label["pairs"])
    for path in SELECTORS[resource["kind"]]:
        _at(resource, path).update(label["pairs"])


def _name_image(container: dict[str, Any], images: list[dict[str, str]]) -> None:
    for image in images:
        name, _, tag = container["image"].partition(":")
        if name == image["name"]:
            tag = image.get("newTag", tag)
            container["image"] = image.get("newName", name) + (f":{tag}" if tag else "")


def _containers(resource: Resource) -> list[dict[str, Any]]:
    pod = resource.get("spec", {}).get("template", {}).get("spec", {})
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def _at(resource: Resource, path: str) -> Any:  # Any: whatever is there
    place: Any = resource
    for step in path.split("/"):
        place = place[int(step)] if isinstance(place, list) else place[step]
    return place
