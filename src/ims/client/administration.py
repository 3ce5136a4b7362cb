"""The calls of AdminService."""

from ims.client.connection import Connection
from ims.client.vocabulary import Image, PublishImageResponse
from ims.v1.admin_service_pb2 import PublishImageRequest, UnpublishImageRequest


class AdminCalls(Connection):
    """Governs the deployment, for the role `admin`. Every method raises Declined or Unreachable."""

    def publish_image(self, image_id: str, *, request_id: str = "") -> PublishImageResponse:
        """Make a private image public; its shares end."""
        return self._call(
            self._admin.PublishImage, PublishImageRequest(image_id=image_id, request_id=request_id)
        )

    def unpublish_image(self, image_id: str, *, request_id: str = "") -> Image:
        """Make a public image its owner's private one again."""
        return self._call(
            self._admin.UnpublishImage, UnpublishImageRequest(image_id=image_id, request_id=request_id)
        ).image
