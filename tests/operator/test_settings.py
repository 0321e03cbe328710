"""The operator's environment variables."""

import re

import pytest

from tunesmith_api.jobconfig import OWN_VARIABLES
from tunesmith_operator.errors import SettingsError
from tunesmith_operator.settings import GangSettings, Images, load_settings

IMAGES = {"TUNESMITH_TRAINER_IMAGE": "trainer:1", "TUNESMITH_SERVER_IMAGE": "server:1"}


def test_defaults() -> None:
    """The images are enough; everything else has a default, also when a variable is empty."""
    found = load_settings(IMAGES)
    assert found.images == Images("trainer:1", "server:1")
    assert (found.clusterwide, found.node_access, found.workers, found.lease_seconds) == (True, True, 16, 15)
    empty = dict.fromkeys(
        ("TUNESMITH_WORKERS", "TUNESMITH_LOG_LEVEL", "TUNESMITH_NODE_ACCESS", "TUNESMITH_TRAINER_ENV"), ""
    )
    assert load_settings({**IMAGES, **empty, "TUNESMITH_POD_NAME": found.pod_name}) == found


def test_every_variable_counts() -> None:
    """Each variable sets its field."""
    found = load_settings(
        {
            **IMAGES,
            "TUNESMITH_IMAGE_PULL_POLICY": "Always",
            "TUNESMITH_IMAGE_PULL_SECRETS": "pull, other,",
            "TUNESMITH_WATCH_NAMESPACES": "team-a,team-b",
            "TUNESMITH_NODE_ACCESS": "false",
            "TUNESMITH_POD_NAME": "pod",
            "TUNESMITH_POD_NAMESPACE": "system",
            "TUNESMITH_LEASE_SECONDS": "30",
            "TUNESMITH_METRICS_PORT": "1",
            "TUNESMITH_HEALTH_PORT": "65535",
            "TUNESMITH_HOST": "::1",
            "TUNESMITH_WORKERS": "2",
            "TUNESMITH_RESYNC_SECONDS": "1.5",
            "TUNESMITH_POLL_SECONDS": "0.5",
            "TUNESMITH_LOG_LEVEL": "DEBUG",
            "TUNESMITH_GANG_WAIT_SECONDS": "60",
            "TUNESMITH_CLOSED_NAMESPACES": "team-a",
            "TUNESMITH_TRAINER_ENV": '{"HF_ENDPOINT": "https://hub", "_a1": ""}',
        }
    )
    assert found.images == Images("trainer:1", "server:1", "Always", ("pull", "other"))
    assert (found.watch_namespaces, found.clusterwide, found.node_access) == (("team-a", "team-b"), False, False)
    assert (found.pod_name, found.pod_namespace, found.lease_seconds) == ("pod", "system", 30)
    assert (found.metrics_port, found.health_port, found.host) == (1, 65535, "::1")
    assert (found.workers, found.resync_seconds, found.poll_seconds, found.log_level) == (2, 1.5, 0.5, "DEBUG")
    assert found.gangs == GangSettings(60, ("team-a",))
    assert found.trainer_env == (("HF_ENDPOINT", "https://hub"), ("_a1", ""))


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_needed(name: str) -> None:
    """A missing image is an error that names the variable."""
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        load_settings({**IMAGES, name: ""})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TUNESMITH_WORKERS", "0"),
        ("TUNESMITH_WORKERS", "many"),
        ("TUNESMITH_WORKERS", "1.5"),
        ("TUNESMITH_LEASE_SECONDS", "0"),
        ("TUNESMITH_LEASE_SECONDS", "-15"),
        ("TUNESMITH_METRICS_PORT", "65536"),
        ("TUNESMITH_HEALTH_PORT", "http"),
        ("TUNESMITH_POLL_SECONDS", "-1"),
        ("TUNESMITH_POLL_SECONDS", "nan"),
        ("TUNESMITH_RESYNC_SECONDS", "inf"),
        ("TUNESMITH_GANG_WAIT_SECONDS", "0"),
        ("TUNESMITH_RESYNC_SECONDS", "soon"),
        ("TUNESMITH_NODE_ACCESS", "yes"),
        ("TUNESMITH_LOG_LEVEL", "LOUD"),
        ("TUNESMITH_IMAGE_PULL_POLICY", "Sometimes"),
    ],
)
def test_nonsense_is_refused(name: str, text: str) -> None:
    """A value that cannot work is an error that names the variable and the value."""
    with pytest.raises(SettingsError, match=f"{name}='{text}'"):
        load_settings({**IMAGES, name: text})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *[(f'{{"{name}": "hunter2"}}', f"'{name}' is set by the operator in each pod") for name in OWN_VARIABLES],
        ("hunter2", "is no JSON object"),
        ('["hunter2"]', "is no JSON object"),
        ("null", "is no JSON object"),
        ('{"A B": "hunter2"}', "'A B' is no name of a variable"),
        ('{"": "hunter2"}', "'' is no name of a variable"),
        ('{"LIMIT": 5}', "'LIMIT' is no name of a variable, or its value is no text; quote numbers"),
    ],
)
def test_a_wrong_variable_of_the_trainer_is_refused(text: str, said: str) -> None:
    """The operator's own are never overridden; the message names the variable and no value, which may be a password."""
    with pytest.raises(SettingsError, match=f"TUNESMITH_TRAINER_ENV:? {re.escape(said)}") as caught:
        load_settings({**IMAGES, "TUNESMITH_TRAINER_ENV": text})
    assert "hunter2" not in str(caught.value)
