"""The CustomResourceDefinitions, generated from the resource types.

`python -m tunesmith_api.crd FOLDER` writes `crds/` and the chart's templated copy below FOLDER, the repository's root.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from tunesmith_api.clashes import clash_rule
from tunesmith_api.resource import GROUP, KINDS, VERSION, Column, FineTuneJob, Kind
from tunesmith_api.structural import structural, validation_of

CRD_FOLDER = Path("crds")
CHART_FOLDER = Path("charts/tunesmith/templates/crds")

_ROOT_PROPERTIES = {
    "apiVersion": {"type": "string", "description": "Version of the schema: tunesmith.dev/v1alpha1."},
    "kind": {"type": "string", "description": "Kind of the object."},
}

_TEMPLATE = """\
{{{{- if .Values.crds.install }}}}
{head}
  labels:
    {{{{- include "tunesmith.labels" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
spec:
{tail}
{{{{- end }}}}
"""


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind, as a manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": _names(kind),
            "versions": [_version(kind)],
        },
    }


def _names(kind: Kind) -> dict[str, Any]:
    return {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": list(kind.short_names),
        "categories": ["tunesmith"],
    }


def _version(kind: Kind) -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema(kind)},
        "subresources": _subresources(kind),
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }


def _schema(kind: Kind) -> dict[str, Any]:
    whole = structural(kind.model)
    status = structural(kind.model, defaults=False)["properties"]["status"]
    _merge_by_type(status)
    spec = whole["properties"]["spec"]
    if kind.model is FineTuneJob:
        spec["x-kubernetes-validations"].append(validation_of(clash_rule()))
    return {
        "type": "object",
        "description": whole["description"],
        "required": whole["required"],
        "properties": {**_ROOT_PROPERTIES, "metadata": _metadata(whole), "spec": spec, "status": status},
    }


def _metadata(whole: dict[str, Any]) -> dict[str, Any]:
    """Of the metadata, a CRD may restrict the name only, and not describe the rest."""
    name = whole["properties"]["metadata"]["properties"]["name"]
    return {"type": "object", "properties": {"name": name}}


def _merge_by_type(status: dict[str, Any]) -> None:
    """Let several managers own one condition each under server-side apply."""
    status["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def _subresources(kind: Kind) -> dict[str, Any]:
    if kind.scale is None:
        return {"status": {}}
    keys = ("specReplicasPath", "statusReplicasPath", "labelSelectorPath")
    return {"status": {}, "scale": dict(zip(keys, kind.scale, strict=True))}


def _column(column: Column) -> dict[str, Any]:
    priority = {"priority": column.priority} if column.priority else {}
    return {"name": column.name, "type": column.type, "jsonPath": column.path, **priority}


def render(manifest: dict[str, Any]) -> str:
    """A manifest as YAML, in the order of its keys, without anchors."""
    return yaml.dump(manifest, Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's signature
        return True


def render_template(manifest: dict[str, Any]) -> str:
    """A CustomResourceDefinition as a chart's template: behind a switch, and kept when the release goes."""
    head, _, tail = render(manifest).partition("\nspec:\n")
    return _TEMPLATE.format(head=head, tail=tail.rstrip("\n"))


def files() -> dict[Path, str]:
    """Every generated file by its path below the repository's root."""
    result = {}
    for kind in KINDS.values():
        manifest = crd(kind)
        result[CRD_FOLDER / f"{kind.plural}.yaml"] = render(manifest)
        result[CHART_FOLDER / f"{kind.plural}.yaml"] = render_template(manifest)
    return result


def main() -> None:
    """Write the generated files below the folder that the command line names."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


if __name__ == "__main__":
    main()
