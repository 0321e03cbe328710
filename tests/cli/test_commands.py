"""The commands that start nothing: validate and estimate, as processes, by both of their names."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/home-assistant"
TUNESMITH = Path(sys.executable).with_name("tunesmith")


def tunesmith(*arguments: object, command: Path = TUNESMITH) -> "subprocess.CompletedProcess[str]":
    """Run the command line with wide output."""
    return subprocess.run(
        [command, *map(str, arguments)], capture_output=True, text=True, check=False, env={"COLUMNS": "200"}
    )


@pytest.mark.parametrize("name", ["tunesmith", "kubectl-tunesmith"])
def test_the_example_is_valid(name: str) -> None:
    """Both names of the program accept the example and leave other files alone."""
    done = tunesmith(
        "validate", EXAMPLE / "job.yaml", EXAMPLE / "kustomization.yaml", command=TUNESMITH.with_name(name)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FineTuneJob/home-assistant: valid" in done.stdout
    assert "not of tunesmith.dev, not checked" in done.stdout


def test_every_problem_of_every_file_is_told(tmp_path: Path) -> None:
    """Two files with three problems: three lines, each with its file and field, and exit code 64."""
    text = (EXAMPLE / "job.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("rank: 16", "rnk: 16").replace("task: Chat", "task: Chatt"))
    (tmp_path / "b.yaml").write_text(text.replace("tiny-phi3", "tiny-phi"))
    done = tunesmith("validate", tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml")
    assert done.returncode == 64
    assert "a.yaml: spec.technique.lora.rnk: unknown field; did you mean rank?" in done.stdout
    assert "a.yaml: spec.task: 'Chatt' is not known; did you mean Chat?" in done.stdout
    assert "b.yaml: spec.model.preset: 'tiny-phi' is not in the catalog; did you mean tiny-phi3" in done.stdout
    assert "c.yaml: No such file" in done.stdout
    assert done.stdout.splitlines()[-1] == "4 problems found"


def test_an_empty_file_is_a_problem(tmp_path: Path) -> None:
    """A file without a document is not valid."""
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert tunesmith("validate", tmp_path / "empty.yaml").returncode == 64


POOLS = """
apiVersion: tunesmith.dev/v1alpha1
kind: ComputePool
metadata: {name: cpu-large}
spec: {class: CPU, pricePerHour: 0.4, teraflops: 1.5}
status: {largestNode: {cpu: "16", memory: 64Gi}}
---
apiVersion: tunesmith.dev/v1alpha1
kind: ComputePool
metadata: {name: gpu-small}
spec: {class: GPU, device: {resource: nvidia.com/gpu, memory: 256Mi}, pricePerHour: 0.8}
status: {largestNode: {cpu: "8", memory: 32Gi, devices: 1}}
"""


#: The largest node of a pool that has room for one worker of the example.
SMALL = 'largestNode: {cpu: "4", memory: 2Gi}'


def estimated(folder: Path, fields: dict[str, Any], pools: str = POOLS) -> "subprocess.CompletedProcess[str]":
    """The estimate of the example with other fields on the pools above, for programs."""
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    job["spec"] |= fields
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    (folder / "pools.yaml").write_text(pools)
    return tunesmith("estimate", folder / "job.yaml", "--pools", folder / "pools.yaml", "--output", "json")


def test_estimate_shows_the_table_the_parts_and_the_reasons() -> None:
    """On this machine: every technique that runs, the job's own marked, its memory by parts, and why."""
    done = tunesmith("estimate", EXAMPLE / "job.yaml")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("→ LoRA ", "rsLoRA-r64", "this-machine", "activations", "peak"))
    assert "- Technique LoRA: asked for." in done.stdout


def test_estimate_compares_pools(tmp_path: Path) -> None:
    """For programs: each technique on each pool with what fits; what a pool does not say stays null."""
    (tmp_path / "pools.yaml").write_text(POOLS)
    done = tunesmith("estimate", EXAMPLE / "job.yaml", "--pools", tmp_path / "pools.yaml", "--output", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    by_pool = {row["pool"]: row for row in found["rows"] if row["technique"] == "LoRA"}
    assert (by_pool["cpu-large"]["fits"], by_pool["gpu-small"]["fits"]) == (True, False)
    assert by_pool["cpu-large"]["cost"] > 0
    assert (by_pool["gpu-small"]["durationSeconds"], by_pool["gpu-small"]["cost"]) == (None, None)
    assert found["chosen"]["pool"] == "cpu-large"
    assert sum(found["memoryParts"].values()) >= found["chosen"]["memoryBytes"]


def test_estimate_shows_every_row_that_auto_compared(tmp_path: Path) -> None:
    """The table has the techniques of the job's goal, as many rows as the reason counts, and the chosen one."""
    done = estimated(tmp_path, {"technique": {"type": "Auto", "goal": "FewestParameters"}})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "LoRA-r2" in {row["technique"] for row in found["rows"]}
    assert f"of {len(found['rows'])} rows of technique and pool (goal FewestParameters)" in found["reasons"][0]
    assert found["chosen"] in found["rows"]


def test_estimate_says_where_offloading_frees_nothing(tmp_path: Path) -> None:
    """On a CPU pool, as the operator's plan does."""
    offloaded = {"strategy": "DeepSpeed", "offload": "Optimizer", "processesPerWorker": 2}
    done = estimated(tmp_path, {"technique": {"type": "Full"}, "distribution": offloaded, "compute": {"class": "CPU"}})
    assert done.returncode == 0, done.stderr
    said = "distribution.offload Optimizer frees nothing on pool cpu-large (CPU)"
    assert any(reason.startswith(said) for reason in json.loads(done.stdout)["reasons"])


@pytest.mark.parametrize(
    ("technique", "auto"), [({"type": "LoRA"}, ("rsLoRA-r64", "cpu-large")), ({"type": "Auto"}, None)]
)
def test_estimate_says_what_auto_would_choose(
    tmp_path: Path, technique: dict[str, str], auto: tuple[str, str] | None
) -> None:
    """Beside a technique that is asked for; where Auto is asked for the arrow says it."""
    found = json.loads(estimated(tmp_path, {"technique": technique}).stdout)
    assert (found["auto"] and (found["auto"]["technique"], found["auto"]["pool"])) == auto
    shown = tunesmith("estimate", tmp_path / "job.yaml", "--pools", tmp_path / "pools.yaml").stdout
    assert ("Auto would choose rsLoRA-r64 on pool cpu-large." in shown) == (auto is not None)


def test_estimate_shows_each_way_to_share_the_model(tmp_path: Path) -> None:
    """Several processes with strategy Auto: a row of each way, and the one that the job runs by."""
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    job["spec"]["distribution"] = {"workers": 2}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    alone, pair = tunesmith("estimate", EXAMPLE / "job.yaml"), tunesmith("estimate", tmp_path / "job.yaml")
    assert "sharing" not in alone.stdout
    assert pair.returncode == 0, pair.stderr
    assert "sharing" in pair.stdout
    shares = [line.split()[1] for line in pair.stdout.splitlines() if line.strip().startswith("LoRA-r8 ")]
    assert shares == ["DDP", "ZeRO-2", "ZeRO-3"]
    [chosen] = [line.split()[1:3] for line in pair.stdout.splitlines() if line.strip().startswith("→")]
    assert chosen == ["LoRA", "DDP"]
    assert "- Distribution DDP: each of 2 processes holds the whole model, which fits." in pair.stdout


def test_estimate_needs_a_pool_in_the_file(tmp_path: Path) -> None:
    """A file without a ComputePool is an error that says how to get one."""
    (tmp_path / "pools.yaml").write_text("# nothing\n")
    done = tunesmith("estimate", EXAMPLE / "job.yaml", "--pools", tmp_path / "pools.yaml")
    assert done.returncode == 64
    assert "has no ComputePool" in done.stderr


@pytest.mark.parametrize("compute", [{"pool": "gpu-small"}, {"class": "GPU"}])
def test_estimate_offers_only_the_pools_that_the_job_asks_for(tmp_path: Path, compute: dict[str, str]) -> None:
    """By name or by class: no row is on a pool that the operator would not use, though the other is the cheaper."""
    found = estimated(tmp_path, {"compute": compute})
    assert found.returncode == 0, found.stderr
    assert {row["pool"] for row in json.loads(found.stdout)["rows"]} == {"gpu-small"}


@pytest.mark.parametrize(("nodes", "fits"), [(1, False), (2, True)])
def test_estimate_counts_the_nodes_of_a_pool(tmp_path: Path, nodes: int, fits: bool) -> None:  # noqa: FBT001 - pytest's
    """Two workers on a node that has room for one do not fit; on two such nodes they do."""
    pools = POOLS.replace('status: {largestNode: {cpu: "16", memory: 64Gi}}', f"status: {{nodes: {nodes}, {SMALL}}}")
    found = estimated(tmp_path, {"distribution": {"workers": 2, "strategy": "DDP"}}, pools)
    assert found.returncode == 0, found.stderr
    told = {row["fits"] for row in json.loads(found.stdout)["rows"] if row["pool"] == "cpu-large"}
    assert told == {fits}


@pytest.mark.parametrize(("asked", "value"), [("pool", "gpu-large"), ("class", "FPGA")])
def test_estimate_says_which_pools_there_are(tmp_path: Path, asked: str, value: str) -> None:
    """Where no pool is as asked the message names the field, its value and the pools of the file."""
    found = estimated(tmp_path, {"compute": {asked: value}})
    assert found.returncode == 64
    assert f"spec.compute.{asked}: {value}: " in found.stderr
    assert "has only cpu-large (CPU), gpu-small (GPU)" in found.stderr


def test_estimate_needs_a_known_size(tmp_path: Path) -> None:
    """A model by URI has no size yet; the message says so."""
    text = (EXAMPLE / "job.yaml").read_text().replace("preset: tiny-phi3", "uri: hf://org/repo")
    (tmp_path / "job.yaml").write_text(text)
    done = tunesmith("estimate", tmp_path / "job.yaml")
    assert done.returncode == 64
    assert "hf://org/repo is known only once prepare has fetched it" in done.stderr


def test_estimate_reads_the_size_of_a_model_on_this_machine(tmp_path: Path) -> None:
    """A folder's config.json says what the catalog says of the same model by its name."""
    model = EXAMPLE.parent / "models" / "tiny-phi3"
    text = (EXAMPLE / "job.yaml").read_text().replace("preset: tiny-phi3", f"uri: file://{model.resolve()}")
    (tmp_path / "job.yaml").write_text(text)
    found, known = (
        tunesmith("estimate", path, "--output", "json") for path in (tmp_path / "job.yaml", EXAMPLE / "job.yaml")
    )
    assert (found.returncode, known.returncode) == (0, 0), found.stderr
    parts = [json.loads(done.stdout)["memoryParts"] for done in (found, known)]
    assert parts[0] == pytest.approx(parts[1], rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run"], 64, "give the file of a FineTuneJob, or --resume FOLDER"),
        (["run", "nowhere.yaml"], 66, "nowhere.yaml: No such file"),
        (["run", "--resume", "nowhere"], 66, "holds no run"),
        (["run", EXAMPLE / "job.yaml", "--secret", "hub"], 64, "write NAME=FOLDER"),
        (["chat", "http://127.0.0.1:9", "-m", "hi"], 69, "http://127.0.0.1:9"),
    ],
)
def test_a_command_that_cannot_start_says_why(arguments: list[str], code: int, said: str) -> None:
    """One line on standard error, the exit code of its kind, and no traceback."""
    done = tunesmith(*arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert len(done.stderr.splitlines()) == 1
