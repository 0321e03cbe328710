"""Tests of settings from flags and the environment."""

import dataclasses
from pathlib import Path

import pytest

from tunesmith_server.errors import SettingsError
from tunesmith_server.settings import Settings, load_settings


def test_defaults_need_only_a_model():
    """A model folder is enough, by argument or by environment."""
    assert load_settings(["m"], {}) == Settings(model_dir=Path("m"))
    assert load_settings([], {"TUNESMITH_MODEL_DIR": "m"}) == Settings(model_dir=Path("m"))


def test_a_flag_wins_over_the_environment():
    """Both ways set the same field, and the command line has the last word."""
    environment = {"TUNESMITH_PORT": "1", "TUNESMITH_PROVIDERS": "A, B", "TUNESMITH_PROVIDER_POLICY": "Prefer"}
    settings = load_settings(["m", "--port", "2", "--drain-seconds", "0.5"], environment)
    assert (settings.port, settings.providers, settings.provider_policy) == (2, ("A", "B"), "Prefer")
    assert settings.drain_seconds == 0.5


def test_an_empty_variable_is_not_set():
    """Charts set variables to empty strings; these mean the default."""
    assert load_settings(["m"], {"TUNESMITH_MAX_CONTEXT": ""}).max_context is None


def test_a_service_link_is_not_a_setting():
    """Kubernetes sets TUNESMITH_PORT beside a Service named `tunesmith`; it is not the port to listen on."""
    assert load_settings(["m"], {"TUNESMITH_PORT": "tcp://10.0.0.1:80"}).port == 8080


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        ([], {}, "TUNESMITH_MODEL_DIR"),
        (["m", "--port", "x"], {}, "--port"),
        (["m", "--max-concurrency", "0"], {}, "--max-concurrency"),
        (["m"], {"TUNESMITH_MAX_QUEUE": "-1"}, "TUNESMITH_MAX_QUEUE"),
        (["m", "--provider-policy", "prefer"], {}, "Require or Prefer"),
        (["m", "--providers", ","], {}, "--providers"),
        (["m", "--drain-seconds", "nan"], {}, "--drain-seconds"),
    ],
)
def test_a_bad_value_is_named(arguments, environment, named):
    """The error says which flag or variable is wrong."""
    with pytest.raises(SettingsError, match=named):
        load_settings(arguments, environment)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting_is_documented(name, capsys):
    """`--help` has a line for each field."""
    with pytest.raises(SystemExit):
        load_settings(["--help"], {})
    shown = "MODEL_DIR" if name == "model_dir" else "--" + name.replace("_", "-")
    assert shown in capsys.readouterr().out
