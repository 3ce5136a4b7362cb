"""The story of using an image: a consumer asks, and gets a pinned answer or the rules that forbid it."""

from ims.domain.caller import Caller
from ims.domain.image import ImageId
from ims.domain.rejection import Problems
from ims.domain.tenant import TenantId
from ims.domain.use import Resolution, Use
from ims.rules.engine import enforce
from ims.rules.use import RESOLVE_IMAGE, UseAttempt
from ims.use_cases.deployment import Deployment, key_is_usable, representing, see


def resolve_image(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    use: Use,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> Resolution:
    """Tell whether a tenant (None: the caller's own) may use an image, and what it would read."""
    with deployment.database.reading() as reading:
        user = representing(reading, caller, tenant_id)
        view = see(deployment, reading, user, image_id)
    image = view.image
    attempt = UseAttempt(
        caller=user,
        image=image,
        share=view.share,
        use=use,
        key_usable=key_is_usable(deployment, image),
        problems=problems,
    )
    enforce(RESOLVE_IMAGE, attempt)
    assert view.relation is not None  # or the image would not have been seen, or not accepted
    return Resolution(image=image, relation=view.relation, disks=attempt.disks)
