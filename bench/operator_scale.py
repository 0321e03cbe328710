"""The operator's measures on a real API server with simulated nodes: memory, start, latency, a burst, CPU.

The rates depend on what else the machine does; the CPU seconds hardly do. A pod comes from kube-controller-manager,
whose --kube-api-qps of 20 is 10 pods of Jobs a second: at RATE_PER_SECOND it lags behind the Jobs.

(A file named operator.py would shadow the standard library's module.)
Run with `python bench/operator_scale.py`; it starts a control plane of its own, and stops it at the end.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
CLUSTER = [sys.executable, str(REPOSITORY / "e2e" / "cluster")]
NAME = f"bench-{os.getpid()}"
HEALTH_PORT = 19080
RATE_PER_SECOND = 20
STEADY_JOBS = 200
BURST_JOBS = 1000
WAIT_FOR_TYPES = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]
JOBS = "/apis/batch/v1/namespaces/default/jobs?labelSelector=tunesmith.dev/stage=prepare"
PODS = "/api/v1/namespaces/default/pods?labelSelector=tunesmith.dev/stage=prepare"
FINETUNEJOBS = "/apis/tunesmith.dev/v1alpha1/namespaces/default/finetunejobs"


def cluster(*arguments: str) -> str:
    """Run a command of e2e/cluster."""
    return subprocess.run([*CLUSTER, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def control_plane() -> Iterator[Path]:
    """A control plane for this run; its kubeconfig."""
    try:
        cluster("up", "--name", NAME, "--control-plane-only")
        cluster("kwok", "--name", NAME)
        kubeconfig = Path(cluster("kubeconfig", "--name", NAME).strip())
        kubectl = ["kubectl", "--kubeconfig", str(kubeconfig)]
        for arguments in (["apply", "--server-side", "-f", str(REPOSITORY / "crds")], WAIT_FOR_TYPES):
            subprocess.run([*kubectl, *arguments], check=True, stdout=subprocess.DEVNULL)
        yield kubeconfig
    finally:
        cluster("down", "--name", NAME)


@asynccontextmanager
async def session_of(kubeconfig: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session with the administrator's certificate."""
    config = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240 - before anything else runs
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cafile=server["certificate-authority"])
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    connector = aiohttp.TCPConnector(ssl=context, limit=64)
    async with aiohttp.ClientSession(server["server"], connector=connector, read_bufsize=2**21) as session:
        yield session


async def send(session: aiohttp.ClientSession, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """One request; the decoded answer."""
    async with session.request(method, path, json=body, headers=headers or None) as answer:
        answer.raise_for_status()
        return await answer.json()


async def prepare_cluster(session: aiohttp.ClientSession) -> None:
    """Nodes with room for every pod, and the ConfigMap that jobs read."""
    have = {"cpu": "10000", "memory": "10000Gi", "pods": "10000"}
    for index in range(4):
        node = {"metadata": {"name": f"holding-{index}"}, "status": {"allocatable": have, "capacity": have}}
        await send(session, "POST", "/api/v1/nodes", node)
    rows = {"metadata": {"name": "rows"}, "data": {"train.jsonl": "{}"}}
    await send(session, "POST", "/api/v1/namespaces/default/configmaps", rows)


@contextmanager
def operator(kubeconfig: Path, log: Path) -> Iterator[tuple[psutil.Process, float]]:
    """An operator process, and the seconds until it was ready."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "TUNESMITH_TRAINER_IMAGE": "trainer",
        "TUNESMITH_SERVER_IMAGE": "server",
        "TUNESMITH_HOST": "127.0.0.1",
        "TUNESMITH_HEALTH_PORT": str(HEALTH_PORT),
        "TUNESMITH_METRICS_PORT": str(HEALTH_PORT + 1),
        "TUNESMITH_POD_NAMESPACE": "default",
    }
    begin = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "tunesmith_operator"], env=environment, stderr=file)
    try:
        wait_ready(process)
        yield psutil.Process(process.pid), time.monotonic() - begin
    finally:
        process.terminate()
        process.wait(20)


def wait_ready(process: subprocess.Popen[bytes]) -> None:
    """Wait until /readyz answers 200."""
    probe = ["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{HEALTH_PORT}/readyz"]
    while subprocess.run(probe, check=False).returncode != 0:
        if process.poll() is not None:
            raise SystemExit("The operator ended; its log tells why.")
        time.sleep(0.02)


class CpuMeter:
    """CPU time of the operator and of the API server."""

    def __init__(self, operator_process: psutil.Process) -> None:
        servers = [one for one in psutil.process_iter(["name", "cmdline"]) if one.info["name"] == "kube-apiserver"]
        server = next(one for one in servers if any(f"/{NAME}/" in word for word in one.info["cmdline"] or ()))
        self._processes = {"operator": operator_process, "API server": server}
        self._begin: dict[str, float] = {}

    def start(self) -> None:
        """Begin to count."""
        self._begin = self._seconds()

    def row(self, what: str, jobs: int) -> tuple[str, str, str]:
        """The measure since `start`, per job."""
        spent = [1000 * (now - self._begin[name]) / jobs for name, now in self._seconds().items()]
        return (
            f"{what}: CPU per job, {' / '.join(self._processes)}",
            " / ".join(f"{ms:.0f}" for ms in spent) + " ms",
            "",
        )

    def _seconds(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}


class Seen:
    """When objects with a label were first seen on a watch, by the name of their FineTuneJob."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def watch(self, session: aiohttp.ClientSession, path: str) -> None:
        """Watch for ever."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with session.get(f"{path}&watch=true", timeout=timeout) as answer:
            async for line in answer.content:
                owner = json.loads(line)["object"]["metadata"]["labels"]["tunesmith.dev/owner-name"]
                self.at.setdefault(owner, time.monotonic())


async def create(session: aiohttp.ClientSession, name: str) -> float:
    """Create a FineTuneJob; when the API server had it."""
    body = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://rows/train.jsonl"}}},
    }
    await send(session, "POST", FINETUNEJOBS, body)
    return time.monotonic()


async def steady(session: aiohttp.ClientSession) -> tuple[list[float], list[float]]:
    """Seconds from a FineTuneJob to its prepare Job, and to that Job's pod, at a steady rate."""
    jobs, pods = Seen(), Seen()
    watches = [asyncio.create_task(jobs.watch(session, JOBS)), asyncio.create_task(pods.watch(session, PODS))]
    created: dict[str, float] = {}
    begin = time.monotonic()
    for index in range(STEADY_JOBS):
        await asyncio.sleep(max(0, begin + index / RATE_PER_SECOND - time.monotonic()))
        created[f"steady-{index}"] = await create(session, f"steady-{index}")
    await wait_all(jobs, created, 60)
    await wait_all(pods, created, 60)
    for task in watches:
        task.cancel()
    return ([max(0.0, seen.at[name] - at) for name, at in created.items()] for seen in (jobs, pods))  # type: ignore[return-value]


async def burst(session: aiohttp.ClientSession) -> tuple[float, float, int]:
    """A thousand FineTuneJobs at once: seconds to create them, seconds until every child Job is there, lost ones."""
    jobs = Seen()
    watch = asyncio.create_task(jobs.watch(session, JOBS))
    gate = asyncio.Semaphore(32)

    async def one(index: int) -> float:
        async with gate:
            return await create(session, f"burst-{index}")

    begin = time.monotonic()
    times = await asyncio.gather(*(one(index) for index in range(BURST_JOBS)))
    created = {f"burst-{index}": at for index, at in enumerate(times)}
    await wait_all(jobs, created, 180)
    watch.cancel()
    seen = [jobs.at[name] for name in created if name in jobs.at]
    return max(times) - begin, max(seen) - begin, BURST_JOBS - len(seen)


async def wait_all(seen: Seen, names: dict[str, float], seconds: float) -> None:
    """Wait until all were seen, or for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not names.keys() <= seen.at.keys():  # noqa: ASYNC110 - a bench may poll
        await asyncio.sleep(0.05)


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


async def measure(kubeconfig: Path, log: Path) -> list[tuple[str, str, str]]:
    """Every measure: name, value, aim."""
    async with session_of(kubeconfig) as session:
        await prepare_cluster(session)
        with operator(kubeconfig, log) as (process, start_seconds):
            await asyncio.sleep(3)
            idle = process.memory_info().rss / 2**20
            meter = CpuMeter(process)
            meter.start()
            to_job, to_pod = await steady(session)
            cpu = [meter.row("steady", STEADY_JOBS)]
            meter.start()
            create_seconds, all_seconds, lost = await burst(session)
            cpu.append(meter.row("at once, until their Jobs are there", BURST_JOBS))
            after = process.memory_info().rss / 2**20
    return [
        ("start to ready", f"{start_seconds:.2f} s", "2 s"),
        ("idle RSS", f"{idle:.0f} MiB", "80 MiB"),
        ("created to prepare Job, p50", f"{1000 * percentile(to_job, 0.5):.0f} ms", ""),
        ("created to prepare Job, p99", f"{1000 * percentile(to_job, 0.99):.0f} ms", "250 ms"),
        ("created to prepare pod, p50", f"{1000 * percentile(to_pod, 0.5):.0f} ms", ""),
        ("created to prepare pod, p99", f"{1000 * percentile(to_pod, 0.99):.0f} ms", "250 ms"),
        (f"{BURST_JOBS} jobs at once: creating them", f"{create_seconds:.1f} s", ""),
        (f"{BURST_JOBS} jobs at once: child Jobs", f"{BURST_JOBS / all_seconds:.0f} /s", "50 /s"),
        (f"{BURST_JOBS} jobs at once: lost", str(lost), "0"),
        ("RSS after all", f"{after:.0f} MiB", ""),
        *cpu,
    ]


def main() -> None:
    """Measure and print the table."""
    os.environ["PATH"] = f"{Path.home() / '.cache' / 'tunesmith' / 'bin'}:{os.environ['PATH']}"
    with control_plane() as kubeconfig, tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(kubeconfig, Path(folder) / "operator.log"))
    for name, value, aim in rows:
        print(f"| {name:<75} | {value:>12} | {aim:>8} |")


if __name__ == "__main__":
    main()
