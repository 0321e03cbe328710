"""A job for this machine."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith_api import FineTuneJob, resolve
from tunesmith_cli.errors import CliError
from tunesmith_cli.folder import RunFolder
from tunesmith_cli.local_job import local_job, require_memory
from tunesmith_cli.machine import Machine, bundled_models, this_machine

TRAIN = {"train": {"uri": "file:///data/train.jsonl"}}


def job(**fields: Any) -> FineTuneJob:
    """A minimal job with some fields of the spec."""
    spec = {"model": {"preset": "tiny-phi3"}, "dataset": TRAIN, **fields}
    return FineTuneJob.model_validate({"metadata": {"name": "tickets"}, "spec": spec})


def test_auto_is_replaced_and_paths_are_local(tmp_path: Path) -> None:
    """The stages get a resolved spec and the run's own workspace."""
    local = local_job(job(), tmp_path, RunFolder(tmp_path / "run"), {})
    assert local.config.spec.technique.type == "LoRA"
    assert local.config.workspace == str(tmp_path / "run/workspace")


def test_auto_fits_the_machine(tmp_path: Path) -> None:
    """Where LoRA does not fit, Auto takes the quantised base, and says what LoRA would need."""
    asked = job(
        model={"preset": "phi-3-mini-4k-instruct"},
        training={"batchSize": 1, "maxSequenceLength": 128},
        export={"format": "Adapter"},
    )
    machine = Machine(cpus=4, memory_bytes=20 << 30, free_bytes=18 << 30)
    local = local_job(asked, tmp_path, RunFolder(tmp_path / "run"), {}, machine)
    assert local.config.spec.technique.type == "QLoRA"
    assert any("Without quantisation nothing fits" in reason for reason in local.resolution.reasons)


def test_config_maps_become_paths(tmp_path: Path) -> None:
    """A configmap:// input is the file that the kustomization names."""
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "kustomization.yaml").write_text("configMapGenerator: [{name: data, files: [a.jsonl]}]")
    uri = "configmap://data/a.jsonl"
    local = local_job(job(dataset={"train": {"uri": uri}}), tmp_path, RunFolder(tmp_path / "run"), {})
    assert local.config.inputs == {uri: str(tmp_path / "a.jsonl")}


def test_secrets_are_folders(tmp_path: Path) -> None:
    """A secret that the job names is a folder given on the command line."""
    dataset = {"train": {"uri": "hf://datasets/a/b", "secretRef": {"name": "hub"}}}
    local = local_job(job(dataset=dataset), tmp_path, RunFolder(tmp_path / "run"), {"hub": tmp_path})
    assert local.config.secrets == {"hub": str(tmp_path)}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": {"train": {"uri": "pvc://claim/a"}}}, "spec.dataset.train.uri: pvc://claim/a exists only in a"),
        ({"dataset": {"train": {"uri": "configmap://a/b"}}}, "spec.dataset.train.uri: configmap://a/b: not found"),
        ({"model": {"uri": "job://none"}}, "spec.model.uri: job://none: no run of 'none' in "),
        ({"distribution": {"workers": 2}}, "spec.distribution.workers: 2 pods need a cluster; use processesPerWorker"),
        ({"output": {"uri": "pvc://claim/a"}}, "spec.output.uri: pvc://claim/a exists only in a cluster"),
        (
            {"dataset": {"train": {"uri": "hf://datasets/a/b", "secretRef": {"name": "hub"}}}},
            "spec.dataset.train.uri: secret 'hub' lies in a cluster; give its keys as files: --secret hub=FOLDER",
        ),
    ],
)
def test_what_only_a_cluster_has_is_refused(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    """The message names the field and what to write instead."""
    with pytest.raises(CliError) as caught:
        local_job(job(**fields), tmp_path, RunFolder(tmp_path / "run"), {})
    assert said in str(caught.value)


def test_another_jobs_output_is_its_newest_run(tmp_path: Path) -> None:
    """job://NAME is the exported folder of the newest run beside this one, with a path what lies in its workspace."""
    for name in ("first-20260101-000000", "first-20260102-000000", "first-other-20260103-000000"):
        (tmp_path / name / "workspace" / "export").mkdir(parents=True)
    (tmp_path / "first-20260101-000000" / "workspace" / "samples.jsonl").write_text("{}")
    dataset = {"train": {"uri": "job://first/samples.jsonl"}}
    asked = job(model={"uri": "job://first"}, dataset=dataset)
    assert local_job(asked, tmp_path, RunFolder(tmp_path / "run"), {}).config.inputs == {
        "job://first": str(tmp_path / "first-20260102-000000/workspace/export"),
        "job://first/samples.jsonl": str(tmp_path / "first-20260101-000000/workspace/samples.jsonl"),
    }


def test_an_output_in_a_store_is_written_from_here(tmp_path: Path) -> None:
    """s3:// needs no mount; its secret is a folder as an input's is."""
    output = {"uri": "s3://bucket/bot", "secretRef": {"name": "store"}}
    local = local_job(job(output=output), tmp_path, RunFolder(tmp_path / "run"), {"store": tmp_path})
    assert local.config.outputs == {}
    assert local.config.secrets == {"store": str(tmp_path)}


def test_fields_without_effect_are_said(tmp_path: Path) -> None:
    """What a person set and this machine cannot honour is a note, never silence; defaults are no note."""
    rollout = {"strategy": "Replace"}
    asked = job(
        compute={"class": "GPU"},
        workspace={"accessMode": "ReadWriteMany"},
        backoffLimit=1,
        serve={"replicas": {"min": 2}, "rollout": rollout},
    )
    assert local_job(asked, tmp_path, RunFolder(tmp_path), {}).notes == (
        "spec.compute.class has an effect in a cluster only",
        "spec.workspace.accessMode has an effect in a cluster only",
        "spec.backoffLimit has an effect in a cluster only",
        "spec.serve.replicas has an effect in a cluster only",
        "spec.serve.rollout has an effect in a cluster only",
    )
    assert not local_job(job(), tmp_path, RunFolder(tmp_path), {}).notes


def test_a_model_larger_than_the_machine_is_refused() -> None:
    """Before anything is fetched, with the way out."""
    resolution = resolve(job(model={"preset": "phi-4"}).spec)
    with pytest.raises(CliError, match=r"training needs about .* GiB, this machine has 8\.0 GiB; lower training"):
        require_memory(resolution, Machine(cpus=2, memory_bytes=8 << 30, free_bytes=4 << 30))


def test_this_machine_holds_the_tiny_model() -> None:
    """The real machine's numbers are plausible, and the tiny job fits them."""
    machine = this_machine()
    assert machine.cpus >= 1
    assert machine.memory_bytes >= machine.free_bytes > 0
    require_memory(resolve(job().spec), machine)


def test_bundled_models_are_found_in_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The checkout has the tiny model; a folder that was named and lacks it is an error that says where was looked."""
    monkeypatch.delenv("TUNESMITH_MODELS", raising=False)
    assert (bundled_models("tiny-phi3") / "tiny-phi3/config.json").is_file()
    monkeypatch.setenv("TUNESMITH_MODELS", str(tmp_path))
    with pytest.raises(CliError, match="set TUNESMITH_MODELS to a folder") as caught:
        bundled_models("tiny-phi3")
    assert str(tmp_path / "tiny-phi3") in str(caught.value)
