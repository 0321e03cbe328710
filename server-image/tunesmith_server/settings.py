"""Everything that can be set, once: a flag, an environment variable and a default for each row of one dataclass."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_server.errors import SettingsError
from tunesmith_server.providers import CPU, ProviderPolicy

ENVIRONMENT_PREFIX = "TUNESMITH_"
_SERVICE_LINK = (
    "tcp://"  # a Service named `tunesmith` makes Kubernetes set TUNESMITH_PORT=tcp://… in every pod beside it
)


def _integer(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if (value := int(text)) < least:
            raise ValueError(f"must be at least {least}")
        return value

    return parse


def _seconds(text: str) -> float:
    if not (value := float(text)) >= 0:
        raise ValueError("must be at least 0")
    return value


def _providers(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("must name at least one execution provider")
    return names


def _policy(text: str) -> ProviderPolicy:
    if text == "Require":
        return "Require"
    if text == "Prefer":
        return "Prefer"
    raise ValueError("must be Require or Prefer")


def _setting(default: Any, parse: Callable[[str], Any], text: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": text})


@dataclass(frozen=True)
class Settings:
    """The server's settings; each field is `--field-name` and `TUNESMITH_FIELD_NAME`, and the flag wins."""

    model_dir: Path = field(metadata={"parse": Path, "help": "folder of the exported model"})
    host: str = _setting("0.0.0.0", str, "address to listen on")  # noqa: S104 - a container serves its pod's address
    port: int = _setting(8080, _integer(0), "port to listen on; 0 takes a free one")
    served_model_name: str | None = _setting(
        None, str, "name in the API (default: inference_model.json, then the folder)"
    )
    max_concurrency: int = _setting(16, _integer(1), "sequences generated at once")
    max_context: int | None = _setting(
        None, _integer(2), "tokens of prompt and answer (default: the model's, at most 4096)"
    )
    max_queue: int = _setting(64, _integer(0), "sequences that may wait for a slot; one more gets 429")
    prefill_chunk: int = _setting(128, _integer(1), "prompt tokens computed between two decode steps")
    providers: tuple[str, ...] = _setting((CPU,), _providers, "execution providers in order of preference, with commas")
    provider_policy: ProviderPolicy = _setting(  # noqa: RUF009 - a field, like its neighbours
        "Require", _policy, "Require refuses to start without a provider, Prefer warns"
    )
    threads: int | None = _setting(None, _integer(1), "ONNX Runtime threads (default: the cgroup's CPU limit)")
    max_body_bytes: int = _setting(4 << 20, _integer(1), "largest request body")
    drain_seconds: float = _setting(30.0, _seconds, "after SIGTERM, how long requests in flight may take")


def load_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line and the environment.

    Raises:
        SettingsError: a value cannot be used; the message names the flag or variable.
    """
    given = vars(_parser().parse_args(arguments))
    values: dict[str, Any] = {}
    for one in dataclasses.fields(Settings):
        variable = ENVIRONMENT_PREFIX + one.name.upper()
        if given[one.name] is not None:
            values[one.name] = _parse(one, given[one.name], _flag(one))
        elif environment.get(variable) and not environment[variable].startswith(_SERVICE_LINK):
            values[one.name] = _parse(one, environment[variable], variable)
    if "model_dir" not in values:
        raise SettingsError(f"MODEL_DIR is missing: give it as an argument or in {ENVIRONMENT_PREFIX}MODEL_DIR")
    return Settings(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunesmith_server", description="Serve an exported model.")
    for one in dataclasses.fields(Settings):
        if one.name == "model_dir":
            parser.add_argument("model_dir", nargs="?", metavar="MODEL_DIR", help=one.metadata["help"])
        else:
            parser.add_argument(_flag(one), dest=one.name, help=f"{one.metadata['help']} (default: {one.default})")
    return parser


def _flag(one: "dataclasses.Field[Any]") -> str:
    return "MODEL_DIR" if one.name == "model_dir" else "--" + one.name.replace("_", "-")


def _parse(one: "dataclasses.Field[Any]", text: str, origin: str) -> Any:
    try:
        return one.metadata["parse"](text)
    except ValueError as error:
        raise SettingsError(f"{origin}: {text!r}: {error}") from error
