"""What a tenant's id, a region's name and a user's id look like, whoever vouches for them."""

import re
from typing import Final

TENANT_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
REGION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
MAX_USER_LENGTH: Final = 128
