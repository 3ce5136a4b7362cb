"""The client: every call of the service, under one name."""

from collections.abc import Iterable

from ims.client.administration import AdminCalls
from ims.client.audit import AuditCalls
from ims.client.connection import DEFAULT_TIMEOUT_SECONDS
from ims.client.credentials import Credentials, DevelopmentIdentity
from ims.client.files import FileCalls
from ims.client.operations import OperationCalls
from ims.client.security import Tls
from ims.client.sharing import SharingCalls
from ims.client.uses import UseCalls


class Client(FileCalls, OperationCalls, SharingCalls, UseCalls, AuditCalls, AdminCalls):
    """Calls the service for one tenant.

        with Client("127.0.0.1:50051", tenant="acme") as client:
            image = client.create_from_file("debian.qcow2", name="debian-12")
            client.share_image(image.id, ["globex"])

    For every RPC there is a method of its name; lists are iterators over all pages, answers are the
    messages of the contract. What is refused raises Declined; where nobody answers, Unreachable.
    Nothing is sent before the first call. Threads may share a client.

    Where nobody answers, or there is no room just now, calls are repeated a few times. Those that
    change something carry a request id, so that they have one effect; whoever wants to repeat a call
    later on gives it `request_id`.
    """

    def __init__(
        self,
        server: str,
        *,
        tenant: str = "",
        user: str = "",
        roles: Iterable[str] = (),
        region: str = "",
        credentials: Credentials | None = None,
        tls: Tls | None = None,
        plaintext: bool = False,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        """Connect to `HOST:PORT` as a tenant, or as whom the credentials say.

        `timeout_seconds` is for small calls; transfers take as long as they take. Raises ValueError
        for an identity that the wire cannot carry, for files that cannot be read, and for a token
        without TLS to another machine, unless `plaintext` says that something else encrypts.
        """
        if credentials is None:
            credentials = DevelopmentIdentity(tenant, user=user, roles=roles, region=region)
        super().__init__(
            server, credentials, tls=tls, plaintext=plaintext, timeout_seconds=timeout_seconds
        )
