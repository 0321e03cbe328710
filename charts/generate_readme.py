"""The chart's README with a table of its values, generated from the comments of values.yaml.

`python charts/generate_readme.py` writes it; `make generate` calls this, and a test fails when it was forgotten.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "tunesmith"

_HEAD = """\
# The chart `tunesmith`

{description}

```
helm install tunesmith charts/tunesmith --namespace tunesmith-system --create-namespace
```

- **CRDs** are part of the templates, so that `helm upgrade` upgrades them. They carry `helm.sh/resource-policy: keep`:
  uninstalling the chart deletes no job and no endpoint. Where something else installs `crds/`, set
  `crds.install=false`.
- **Default pool.** It is made by a hook after the CRDs are there, so it stays, too: `kubectl delete pools default`.
- **Rights.** The operator may not read Secrets, has no wildcard, and with `watchNamespaces` gets a Role in each named
  namespace only. Pools are cluster-scoped, so a small ClusterRole stays for them and, with `nodeAccess`, for nodes.
- **Pod Security.** Every pod of the chart passes the level `restricted`.
- **Availability.** `replicas: 2` with `podDisruptionBudget.create` keeps a warm standby, which takes over when the
  leader gives its Lease back or falls silent for `operator.leaseSeconds`.

## Values

| value | default | what |
| --- | --- | --- |
"""


@dataclass(frozen=True)
class Value:
    """One documented value: its dotted path, its default as JSON, and its comment."""

    path: str
    default: str
    text: str


def values(text: str) -> Iterator[Value]:
    """Every value of a values.yaml that has a comment right above it, but for those that only group others."""
    defaults = yaml.safe_load(text)
    path: list[str] = []
    comments: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comments.append(stripped.removeprefix("#").strip())
            continue
        key, separator, rest = stripped.partition(":")
        if separator and comments:
            path = [*path[: (len(line) - len(line.lstrip())) // 2], key]
            default = _at(defaults, path)
            if rest.strip() or key == "resources":
                yield Value(".".join(path), json.dumps(default), " ".join(comments))
        comments = []


def _at(node: object, path: list[str]) -> object:
    for key in path:
        assert isinstance(node, dict)
        node = node[key]
    return node


def readme(chart: Path = CHART) -> str:
    """The README as it should be."""
    description = yaml.safe_load((chart / "Chart.yaml").read_text())["description"]
    rows = [
        f"| `{value.path}` | `{value.default}` | {value.text} |"
        for value in values((chart / "values.yaml").read_text())
    ]
    return _HEAD.format(description=description) + "\n".join(rows) + "\n"


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
