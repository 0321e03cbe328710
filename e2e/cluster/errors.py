"""What can go wrong with the embedded cluster, each with a way out in its message."""


class ClusterError(Exception):
    """The embedded cluster cannot do what was asked; the message names the reason and what to do."""


class UnsupportedHostError(ClusterError):
    """This machine cannot run the embedded cluster at all."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The embedded cluster cannot run here: {reason}.\n"
            "Use a Kubernetes cluster of your own instead: CLUSTER=current takes the current kubectl context."
        )
