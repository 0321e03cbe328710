"""The whole product on a real Kubernetes, from cluster to answer. `make demo` runs it."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

import deploy

EXAMPLE = deploy.REPOSITORY / "examples" / "home-assistant"
POOLS = deploy.REPOSITORY / "examples" / "pools" / "pools.yaml"
JOB = "home-assistant"
console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Runs the demo; 0 when the endpoint answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", choices=["embedded", "current"], default="embedded")
    parser.add_argument("--namespace", default="demo")
    parser.add_argument("images", nargs="*", metavar="PART=IMAGE", help="images for --cluster current")
    options = parser.parse_args()
    begin = time.monotonic()
    try:
        run(options.cluster, options.namespace, dict(image.split("=", 1) for image in options.images))
    except (deploy.CommandError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        return 1
    console.print(f"\nDone in {time.monotonic() - begin:.0f} s. `kubectl get ftj,mep,pools -A` shows the rest; ")
    if options.cluster == "embedded":
        console.print("`make cluster-down` stops the cluster.")
    return 0


def run(cluster: str, namespace: str, images: dict[str, str]) -> None:
    """Every step, each with its heading."""
    step("Kubernetes")
    tools = deploy.start_embedded() if cluster == "embedded" else deploy.Tools()
    console.print(tools.kubectl("get", "nodes").rstrip())

    step("Images")
    if cluster == "embedded":
        images = deploy.embedded_images()
    console.print("\n".join(f"{part}: {image}" for part, image in images.items()) or "the chart's own")

    step("Helm chart")
    deploy.install_chart(tools, images)
    console.print(tools.kubectl("get", "deployments", "--namespace", deploy.SYSTEM_NAMESPACE).rstrip())

    step("ComputePools")
    if cluster == "embedded":
        tools.kubectl("label", "nodes", "--all", "pool=cpu", "--overwrite")
        console.print(tools.kubectl("apply", "--filename", str(POOLS)).rstrip())
    console.print(tools.kubectl("get", "pools").rstrip())

    step("FineTuneJob")
    tools.create_namespace(namespace)
    forget_earlier_run(tools, namespace)
    console.print(tools.kubectl("apply", "--namespace", namespace, "--kustomize", str(EXAMPLE)).rstrip())
    watch(tools, namespace)
    console.print(tools.kubectl("get", "ftj,mep,pools", "--namespace", namespace).rstrip())

    step("Answer")
    ask(tools, namespace)


def step(title: str) -> None:
    """A heading."""
    console.rule(f"[bold]{title}", align="left")


def forget_earlier_run(tools: deploy.Tools, namespace: str) -> None:
    """A FineTuneJob runs once: a second demo starts from nothing."""
    tools.kubectl("delete", "ftj", JOB, "--namespace", namespace, "--ignore-not-found", "--cascade", "foreground")
    deploy.wait_until(
        f"the earlier {JOB} is gone",
        lambda: tools.get("pvc", f"{JOB}-workspace", namespace) is None,
        timeout_seconds=120,
    )


def watch(tools: deploy.Tools, namespace: str) -> None:
    """The job's live status until it is ready, by the command that users have."""
    program = Path(sys.executable).with_name("tunesmith")
    done = subprocess.run([str(program), "watch", JOB, "--namespace", namespace], env=tools.environment, check=False)
    if done.returncode != 0:
        raise deploy.CommandError(f"FineTuneJob {JOB} failed; see `kubectl describe ftj {JOB} -n {namespace}`")


def ask(tools: deploy.Tools, namespace: str) -> None:
    """One unseen question to the Service."""
    with (EXAMPLE / "test.jsonl").open() as rows:
        messages = json.loads(next(rows))["messages"]
    question, expected = messages[-2]["content"], messages[-1]["content"]
    with deploy.port_forward(tools, namespace, f"service/{JOB}") as url:
        answer = deploy.chat(url, JOB, question)
    console.print(f"question: {question}\nanswer:   {answer}\nexpected: {expected}", markup=False)
    if answer.strip() != expected.strip():
        console.print("The answer differs from the reference: the model is right in at least 9 of 10 cases.")


if __name__ == "__main__":
    sys.exit(main())
