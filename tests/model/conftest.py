"""A service with limits so low that everybody meets them."""

import pytest

from conftest import MakeService
from ims.use_cases.deployment import Deployment
from model.play import SHARE_LIMIT


@pytest.fixture
def deployment(make_service: MakeService) -> Deployment:
    return make_service(shares_per_image=SHARE_LIMIT).deployment
