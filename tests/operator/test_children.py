"""Bringing children: made under their own name, never taken over."""

import asyncio
from typing import Any

import pytest

from tunesmith_operator.children import bring
from tunesmith_operator.errors import ConflictError, NameConflictError
from tunesmith_operator.kinds import ObjectKind
from tunesmith_operator.plans import ChildName

Body = dict[str, Any]
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "chat", "namespace": "team", "ownerReferences": [{"uid": "mine", "controller": True}]},
    "spec": {"ports": [{"port": 80}]},
}


class Shelf:
    """An API server with one name, which somebody else may take between a look and a write."""

    def __init__(self, *, taken_after_look: bool) -> None:
        self.taken_after_look = taken_after_look
        self.applied: list[Body] = []

    async def get(self, kind: ObjectKind, namespace: str | None, name: str) -> Body | None:
        assert (kind.name, namespace, name) == ("Service", "team", "chat")
        return None

    async def apply(self, body: Body, subresource: str | None = None, *, force: bool = True) -> Body:
        assert subresource is None
        if self.taken_after_look and not force:
            raise ConflictError("conflict with kubectl: .spec.ports", 409)
        self.applied.append(body)
        return body


def test_a_name_that_is_taken_in_the_last_moment_is_left_alone() -> None:
    """The first write of a child does not take over the fields of an object that came between."""
    shelf = Shelf(taken_after_look=True)
    with pytest.raises(NameConflictError, match="Service 'chat' exists"):
        asyncio.run(bring(shelf, SERVICE, {}, "mine"))  # type: ignore[arg-type] - only get and apply are used
    assert shelf.applied == []


def test_a_live_job_keeps_its_pods_as_they_are() -> None:
    """A Job's template is immutable: another image or environment is no drift, as an apply of it would be refused."""
    metadata = {"name": "bot-train", "namespace": "team", "uid": "job", "labels": {"stage": "train"}}

    def body(image: str, **env: str) -> Body:
        container = {"image": image, "env": [{"name": name, "value": value} for name, value in env.items()]}
        spec = {"suspend": False, "template": {"spec": {"containers": [container]}}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}

    live, wanted = body("trainer:1", OMP="1"), body("trainer:2", OMP="1", HF_ENDPOINT="https://hub.example")
    shelf = Shelf(taken_after_look=False)
    asyncio.run(bring(shelf, wanted, {ChildName("Job", "bot-train"): live}, "mine"))  # type: ignore[arg-type] - as below
    assert shelf.applied == []
    wanted["spec"]["suspend"] = True
    asyncio.run(bring(shelf, wanted, {ChildName("Job", "bot-train"): live}, "mine"))  # type: ignore[arg-type] - as below
    assert [one["spec"] for one in shelf.applied] == [{"suspend": True}]


def test_a_free_name_is_taken() -> None:
    """A child that nobody has is made by server-side apply, so that its fields can be removed later."""
    shelf = Shelf(taken_after_look=False)
    asyncio.run(bring(shelf, SERVICE, {}, "mine"))  # type: ignore[arg-type] - only get and apply are used
    assert shelf.applied == [SERVICE]
