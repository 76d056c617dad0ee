"""What the running node knows of itself beside the catalogue: shown on the page and in metrics."""

from dataclasses import dataclass, field

from mirv.config.settings import Settings


@dataclass
class Following:
    """How far an Orthanc has been followed.

    Attributes
    ----------
    position, last : int
        The last change dealt with, and the last there is.
    contact_at : float
        When it last answered, seconds since 1970; 0: not yet.
    objects : int
        Fetched since the node started.
    fault : str
        What the last turn met, "" when it went well.
    postponed : int
        Changes of which something could not be had yet; asked for again now and then.
    """

    position: int = 0
    last: int = 0
    contact_at: float = 0.0
    objects: int = 0
    fault: str = ""
    postponed: int = 0


@dataclass
class NodeState:
    """State of this process; written by the node's threads, read by its page.

    Attributes
    ----------
    backlog : int
        Runs queued or at work, and studies that have not settled.
    paused : str
        Why nothing is fetched now; "" when it is.
    following : dict
        By the name of the followed Orthanc.
    """

    backlog: int = 0
    paused: str = ""
    following: dict[str, Following] = field(default_factory=dict)

    def weigh(self, backlog: int, free_bytes: int, settings: Settings) -> None:
        """Say whether the node may fetch more.

        Parameters
        ----------
        backlog : int
            Runs under way and studies that are not settled.
        free_bytes : int
            On the spool's file system.
        settings : Settings
        """
        self.backlog = backlog
        limit, low = settings.limits.backlog, settings.listener.low_disk_mb
        if backlog >= limit:
            self.paused = f"backlog of {backlog}, wanted less than {limit}"
        elif free_bytes < low * 1024**2:
            self.paused = f"{free_bytes // 1024**2} MB free on the disk, wanted {low}"
        else:
            self.paused = ""
