"""The law as a model: plain values and no database. It says how every call must be answered.

Written from docs/law.md, and knows nothing of the service's rules; the numbers are those of the law.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

STATUS_OF = {
    **dict.fromkeys(("IMAGE_NOT_FOUND", "SHARE_NOT_FOUND"), "NOT_FOUND"),
    **dict.fromkeys(("NOT_IMAGE_OWNER", "ROLE_REQUIRED", "ONLY_RECIPIENT_DECIDES"), "PERMISSION_DENIED"),
    **dict.fromkeys(("INVALID_FIELD", "SHARE_WITH_OWNER", "REQUEST_ID_REUSED"), "INVALID_ARGUMENT"),
    **dict.fromkeys(("SHARE_LIMIT_EXCEEDED", "IMAGE_QUOTA_EXCEEDED"), "RESOURCE_EXHAUSTED"),
    "ETAG_MISMATCH": "ABORTED",
    "IMAGE_NAME_TAKEN": "ALREADY_EXISTS",
}
"""All other reasons are FAILED_PRECONDITION."""


@dataclass(frozen=True)
class Call:
    """One call: who wants what. Administrators are a tenant of their own."""

    who: str
    verb: str
    about: Any = None
    """The image; of a creation its name, of a further page the token."""
    details: tuple[Any, ...] = ()
    request_id: str = ""


@dataclass(frozen=True)
class Answer:
    """What a call was answered, as far as the law says it."""

    reason: str = ""
    status: str = "OK"
    told: Any = None


FOR_EVER = 10**9
"""The minute with which a share ends that does not end by itself."""


class No(Exception):
    """A call is declined."""


@dataclass(frozen=True)
class Image:
    owner: str
    name: str
    created: Any
    state: str = "QUEUED"
    before_deletion: str = ""
    public: bool = False
    protected: bool = False
    version: int = 1
    shares: tuple[tuple[str, str, int], ...] = ()
    """Recipients, each with a status, and the minute with which its share ends, or FOR_EVER."""

    def status(self, tenant: str) -> str | None:
        return {each: status for each, status, _ in self.shares}.get(tenant)

    def end(self, tenant: str) -> int:
        return {each: end for each, _, end in self.shares}[tenant]

    def shared(self, changes: dict[str, tuple[str, int] | None]) -> "Image":
        """Return it with other shares; None is none."""
        shares = {each: (status, end) for each, status, end in self.shares} | changes
        return replace(self, shares=tuple(sorted((t, *its) for t, its in shares.items() if its)))

    def changed(self, **changes: Any) -> "Image":
        return replace(self, version=self.version + 1, **changes)


@dataclass
class Law:
    """The state of everything, and what follows from each call."""

    share_limit: int
    image_limit: int
    page_size: int
    administrator: str
    minute: int = 0
    images: dict[str, Image] = field(default_factory=dict)
    remembered: dict[tuple[str, str], tuple[Call, Answer]] = field(default_factory=dict)

    def copy(self) -> "Law":
        return replace(self, images=dict(self.images), remembered=dict(self.remembered))

    def fingerprint(self) -> Any:
        return frozenset(self.images.items()), frozenset(self.remembered.items())

    def answer(self, call: Call, seen: Answer) -> Answer:
        """Judge a call; what the service chose freely, ids and times, is taken from what was seen."""
        key = (call.who, call.request_id)
        if call.request_id and key in self.remembered:  # 5.9
            first, answer = self.remembered[key]
            return answer if first == call else _declined("REQUEST_ID_REUSED")
        judge: Callable[..., Any] = getattr(self, call.verb)
        free = (seen.told,) if call.verb == "create" else ()
        try:
            answer = Answer(told=judge(call.who, call.about, *call.details, *free))
        except No as no:
            return _declined(str(no))
        if call.request_id:
            self.remembered[key] = (call, answer)
        return answer

    # --- images ---

    def create(self, who: str, name: str, chosen: Any) -> Any:
        self._name_is_free(who, name)
        self._within_quota(who)
        image_id, created = chosen or ("", None)
        self.images[image_id] = Image(who, name, created)
        return image_id, created

    def get(self, who: str, image_id: str) -> Any:
        return self._as_seen(who, self._see(who, image_id))

    def use(self, who: str, image_id: str) -> None:
        image = self._see(who, image_id)
        _check(image.state != "DELETED", "IMAGE_DELETED")
        _check(image.state == "ACTIVE", "IMAGE_NOT_ACTIVE")
        open_to = image.public or image.owner == who or image.status(who) == "ACCEPTED"
        _check(open_to, "SHARE_NOT_ACCEPTED")  # 4.3

    def upload(self, who: str, image_id: str) -> None:
        image = self._own(who, image_id)
        _check(image.state != "DELETED", "IMAGE_DELETED")
        _check(image.state == "QUEUED", "IMAGE_DATA_FINAL")
        self.images[image_id] = image.changed(state="SAVING").changed(state="ACTIVE")

    def update(self, who: str, image_id: str, etag: str, changes: tuple[tuple[str, Any], ...]) -> Any:
        image = self._own(who, image_id)
        _check(etag in {"", f'"{image.version}"'}, "ETAG_MISMATCH")
        _check(image.state != "DELETED", "IMAGE_DELETED")
        _check(image.state in {"ACTIVE", "QUEUED"}, "IMAGE_NOT_ACTIVE")  # 5.6
        changed = image.changed(**dict(changes))
        self._name_is_free(who, changed.name, besides=image_id)
        self.images[image_id] = changed
        return self._as_seen(who, changed)

    def delete(self, who: str, image_id: str, etag: str) -> Any:
        image = self._own(who, image_id)
        _check(etag in {"", f'"{image.version}"'}, "ETAG_MISMATCH")
        _check(image.state != "DELETED", "IMAGE_DELETED")
        _check(not image.public, "PUBLIC_IMAGE_NOT_DELETABLE")  # 5.7
        _check(not image.protected, "IMAGE_PROTECTED")
        self.images[image_id] = image.changed(state="DELETED", before_deletion=image.state)
        return len(image.shares)

    def undelete(self, who: str, image_id: str) -> Any:
        image = self._own(who, image_id)
        _check(image.state == "DELETED", "IMAGE_NOT_DELETED")
        self._name_is_free(who, image.name, besides=image_id)
        self._within_quota(who)
        self.images[image_id] = image.changed(state=image.before_deletion, before_deletion="")
        return len(image.shares)  # 5.7

    def deactivate(self, who: str, image_id: str) -> None:
        image = self._governed(who, image_id)
        _check(image.state != "DELETED", "IMAGE_DELETED")
        _check(image.state == "ACTIVE", "IMAGE_NOT_ACTIVE")
        self.images[image_id] = image.changed(state="DEACTIVATED")

    def reactivate(self, who: str, image_id: str) -> None:
        image = self._governed(who, image_id)
        _check(image.state != "DELETED", "IMAGE_DELETED")
        _check(image.state == "DEACTIVATED", "IMAGE_NOT_DEACTIVATED")
        self.images[image_id] = image.changed(state="ACTIVE")

    def publish(self, who: str, image_id: str) -> Any:
        image = self._see(who, image_id, governing=True)
        _check(who == self.administrator, "ROLE_REQUIRED")
        _check(image.state == "ACTIVE", "IMAGE_NOT_ACTIVE")
        if not image.public:
            self.images[image_id] = image.changed(public=True, shares=())
        return len(image.shares)

    def unpublish(self, who: str, image_id: str) -> None:
        image = self._see(who, image_id, governing=True)
        _check(who == self.administrator, "ROLE_REQUIRED")
        _check(image.state != "DELETED", "IMAGE_DELETED")
        if image.public:
            self.images[image_id] = image.changed(public=False)

    def purge(self, _who: str, _about: None) -> None:
        """Eight days go by: what is deleted is gone, and no call is remembered."""
        self.images = dict(self._live())
        self.remembered = {}
        self.wait(_who, _about)

    def wait(self, _who: str, _about: None) -> None:
        """A minute goes by, or more: the shares that were to end with it have ended."""
        self.minute += 1
        for key, image in self.images.items():
            ended = dict.fromkeys(each for each, _, end in image.shares if end < self.minute)
            self.images[key] = image.shared(ended)  # 3.16

    # --- lists ---

    def list_images(self, who: str, _about: None) -> Any:
        return self._page(who, None)

    def next_page(self, who: str, token: Any) -> Any:
        given_to, after = token
        _check(given_to == who, "INVALID_FIELD")  # a token is worthless to anybody else
        return self._page(who, after)

    def list_received(self, who: str, _about: None) -> Any:
        received = ((key, image.status(who)) for key, image in self._live())
        return frozenset((key, status) for key, status in received if status)  # 4.1

    def _page(self, who: str, after: Any) -> Any:
        listed = sorted(
            (image.created, key)
            for key, image in self._live()
            if image.owner == who or image.public or image.status(who) == "ACCEPTED"  # 4.1
        )[::-1]
        rest = [place for place in listed if after is None or place < after]
        page = rest[: self.page_size]
        more = len(rest) > self.page_size
        return tuple(key for _, key in page), (page[-1] if more else None)

    def _live(self) -> Iterator[tuple[str, Image]]:
        return ((key, image) for key, image in self.images.items() if image.state != "DELETED")

    # --- shares ---

    def share(
        self, who: str, image_id: str, recipients: tuple[str, ...], partial: bool, end: int
    ) -> Any:
        image = self._own(who, image_id)
        _check(partial or who not in recipients, "SHARE_WITH_OWNER")  # 3.9
        _check(image.state == "ACTIVE", "IMAGE_NOT_ACTIVE")  # 3.3
        _check(end >= self.minute, "EXPIRE_TIME_PASSED")  # 3.16
        _check(not image.public, "PUBLIC_IMAGE_NOT_SHAREABLE")  # 3.2
        asked = {each for each in recipients if image.status(each) is None}
        room = self.share_limit - len(image.shares)
        _check(partial or not asked or len(asked) <= room, "SHARE_LIMIT_EXCEEDED")  # 3.5
        for each in recipients:
            if each != who and image.status(each) is None and len(image.shares) < self.share_limit:
                image = image.shared({each: ("PENDING", end)})  # 3.10
        self.images[image_id] = image
        return tuple((each, image.status(each)) for each in recipients), len(image.shares)

    def unshare(self, who: str, image_id: str, tenants: tuple[str, ...] | None) -> Any:
        image = self._own(who, image_id)
        ended = tuple(each for each, *_ in image.shares if tenants is None or each in tenants)
        self.images[image_id] = image.shared(dict.fromkeys(ended))  # 3.12
        return ended

    def prolong(self, who: str, image_id: str, tenant: str, end: int) -> Any:
        image = self._see(who, image_id)
        found = image.status(tenant) is not None and who in {image.owner, tenant}
        _check(found, "SHARE_NOT_FOUND")  # 4.6
        _check(image.owner == who, "NOT_IMAGE_OWNER")
        _check(image.state != "DELETED", "IMAGE_DELETED")
        _check(end >= self.minute, "EXPIRE_TIME_PASSED")  # 3.16
        status = image.status(tenant)
        self.images[image_id] = image.shared({tenant: (str(status), end)})  # 3.17
        return status

    def accept(self, who: str, image_id: str) -> Any:
        return self._decide(who, image_id, "ACCEPTED")

    def reject(self, who: str, image_id: str) -> Any:
        return self._decide(who, image_id, "REJECTED")

    def leave(self, who: str, image_id: str) -> Any:
        return self._decide(who, image_id, None)  # 4.5

    def _decide(self, who: str, image_id: str, status: str | None) -> Any:
        image = self._see(who, image_id)
        _check(image.owner == who or image.status(who) is not None, "SHARE_NOT_FOUND")
        _check(image.owner != who, "ONLY_RECIPIENT_DECIDES")  # 3.14
        share = None if status is None else (status, image.end(who))
        self.images[image_id] = image.shared({who: share})  # 4.2
        return status

    # --- who may ---

    def _see(self, who: str, image_id: str, *, governing: bool = False) -> Image:
        _check(image_id in self.images, "IMAGE_NOT_FOUND")
        image = self.images[image_id]
        mine = image.owner == who or (governing and who == self.administrator)
        lent = image.state != "DELETED" and (image.public or image.status(who) is not None)
        _check(mine or lent, "IMAGE_NOT_FOUND")  # 2.1
        return image

    def _own(self, who: str, image_id: str) -> Image:
        image = self._see(who, image_id)
        _check(image.owner == who, "NOT_IMAGE_OWNER")  # 2.2
        return image

    def _governed(self, who: str, image_id: str) -> Image:
        image = self._see(who, image_id)
        _check(not image.public or who == self.administrator, "ROLE_REQUIRED")
        _check(image.public or image.owner == who, "NOT_IMAGE_OWNER")
        return image

    def _as_seen(self, who: str, image: Image) -> Any:
        relation = "OWNED" if image.owner == who else "PUBLIC" if image.public else "SHARED_WITH_ME"
        lent = image.shares and image.state != "DELETED"
        seen_class = "PUBLIC" if image.public else "SHARED" if lent else "PRIVATE"
        return image.name, image.state, image.protected, f'"{image.version}"', seen_class, relation

    def _name_is_free(self, who: str, name: str, *, besides: str = "") -> None:
        taken = any(i.owner == who and i.name == name and k != besides for k, i in self._live())
        _check(not taken, "IMAGE_NAME_TAKEN")  # 5.1

    def _within_quota(self, who: str) -> None:
        _check(self.private_images(who) < self.image_limit, "IMAGE_QUOTA_EXCEEDED")  # 5.2

    def private_images(self, who: str) -> int:
        return sum(1 for _, image in self._live() if image.owner == who and not image.public)


def _check(kept: bool, reason: str) -> None:
    if not kept:
        raise No(reason)


def _declined(reason: str) -> Answer:
    return Answer(reason, STATUS_OF.get(reason, "FAILED_PRECONDITION"))
