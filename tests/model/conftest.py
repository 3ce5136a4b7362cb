"""A service with limits so low that everybody meets them, and a trail that outlasts every play."""

import pytest

from conftest import MakeService
from ims.use_cases.deployment import Deployment
from model.play import IMAGE_LIMIT, SHARE_LIMIT


@pytest.fixture
def deployment(make_service: MakeService) -> Deployment:
    limits = {"shares_per_image": SHARE_LIMIT, "private_images_per_tenant": IMAGE_LIMIT}
    return make_service(**limits, audit_retention_days=10_000).deployment
