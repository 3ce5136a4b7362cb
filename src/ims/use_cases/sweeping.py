"""The story of what is done again and again, without a call: every instance may, and one does."""

from dataclasses import asdict, dataclass
from typing import Final

from ims.use_cases.audit import forget_audit_events
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import give_up_dead_uploads
from ims.use_cases.images import purge_images
from ims.use_cases.operations import forget_operations
from ims.use_cases.region_copying import discard_incomplete_arrivals
from ims.use_cases.requests import forget_requests
from ims.use_cases.sharing import remove_ended_shares

SWEEP: Final = "sweep"


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep did."""

    dead_uploads: int
    purged_images: int
    discarded_arrivals: int
    ended_shares: int
    forgotten_requests: int
    forgotten_events: int
    forgotten_operations: int

    @property
    def anything(self) -> bool:
        return any(asdict(self).values())


def sweep(deployment: Deployment, holder: str) -> Swept | None:
    """Do what is due: give up dead uploads, purge deleted images, remove what has ended or is old.

    None while another instance is at it, and when the catalogue has just come back: those who receive
    uploads have first to say that they are alive.
    """
    if deployment.database.steady_seconds < deployment.upload_lease.total_seconds():
        return None
    now = deployment.now()
    with deployment.database.transaction() as tx:
        # As long as an upload is held for alive: whoever is silent for longer is followed by another,
        # and nothing breaks should both sweep.
        if not tx.duties.claim(SWEEP, holder, now=now, until=now + deployment.upload_lease):
            return None
    try:
        return Swept(
            dead_uploads=give_up_dead_uploads(deployment),
            purged_images=purge_images(deployment),
            discarded_arrivals=discard_incomplete_arrivals(deployment),
            ended_shares=remove_ended_shares(deployment),
            forgotten_requests=forget_requests(deployment),
            forgotten_events=forget_audit_events(deployment),
            forgotten_operations=forget_operations(deployment),
        )
    finally:
        with deployment.database.transaction() as tx:
            tx.duties.release(SWEEP, holder)
