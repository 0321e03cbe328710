"""The operator's environment variables."""

import pytest

from tunesmith_operator.errors import SettingsError
from tunesmith_operator.settings import GangSettings, Images, load_settings

IMAGES = {"TUNESMITH_TRAINER_IMAGE": "trainer:1", "TUNESMITH_SERVER_IMAGE": "server:1"}


def test_defaults() -> None:
    """The images are enough; everything else has a default, also when a variable is empty."""
    found = load_settings(IMAGES)
    assert found.images == Images("trainer:1", "server:1")
    assert (found.clusterwide, found.node_access, found.workers, found.lease_seconds) == (True, True, 16, 15)
    empty = dict.fromkeys(("TUNESMITH_WORKERS", "TUNESMITH_LOG_LEVEL", "TUNESMITH_NODE_ACCESS"), "")
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
        }
    )
    assert found.images == Images("trainer:1", "server:1", "Always", ("pull", "other"))
    assert (found.watch_namespaces, found.clusterwide, found.node_access) == (("team-a", "team-b"), False, False)
    assert (found.pod_name, found.pod_namespace, found.lease_seconds) == ("pod", "system", 30)
    assert (found.metrics_port, found.health_port, found.host) == (1, 65535, "::1")
    assert (found.workers, found.resync_seconds, found.poll_seconds, found.log_level) == (2, 1.5, 0.5, "DEBUG")
    assert found.gangs == GangSettings(60, ("team-a",))


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
