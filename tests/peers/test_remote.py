"""What this service proves itself with at another region's, and what it makes of the answers."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from builders import ELSEWHERE, HOME, a_disk, an_image
from calling import MIB
from conftest import MakeService
from ims.bootstrap import Service, _peer
from ims.client import Declined, Violation
from ims.domain.image import ImageId, ImageState, Source, SourceKind
from ims.domain.rejection import Category, Reason, Rejection
from ims.peers.remote import _Messages
from ims.providers.peers import Peer, PeerUpload
from ims.settings import PeerSetting, SettingsError
from ims.use_cases import resumable_uploads
from ims.use_cases.jobs import Interrupted
from servicers.test_tls import Folder

A_COPY = Source(kind=SourceKind.IMAGE, id="an-image", region=HOME)
SPIFFE = "spiffe://cloud.example/eu-de/ims"


def create(peer: Peer, name: str = "copy") -> ImageId:
    draft = an_image(name=name, source=A_COPY, state=ImageState.QUEUED)
    return peer.create(draft, vault_id="", capacity_bytes=0, request_id=f"create-{name}")


def refusal(peer: Peer, name: str = "copy") -> Rejection:
    with pytest.raises(Rejection) as refused:
        create(peer, name)
    return refused.value


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class TestCertificates:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Folder:
        return Folder(tmp_path)

    @pytest.fixture
    def other(self, make_service: MakeService, folder: Folder, authority: trustme.CA) -> Service:
        certificate, key = folder.certificate(authority, "127.0.0.1")
        peers = [{"name": SPIFFE, "tenant": "ims.eu-de", "roles": ["peer"], "region": HOME}]
        tls = {"client_ca": folder.ca(authority), "clients": peers}
        return make_service(region=ELSEWHERE, tls={"certificate": certificate, "key": key, **tls})

    def peer_at(self, other: Service, folder: Folder, authority: trustme.CA, name: str) -> Peer:
        certificate, key = folder.certificate(authority, name, file="peer")
        setting = PeerSetting(
            server=f"127.0.0.1:{other.port}",
            ca_file=folder.path / "ca.pem",
            certificate=certificate,
            key=key,
        )
        return _peer(ELSEWHERE, setting, HOME)

    def test_one_that_is_known_there_is_enough(
        self, other: Service, folder: Folder, authority: trustme.CA
    ):
        peer = self.peer_at(other, folder, authority, SPIFFE)

        image_id = create(peer)

        assert create(peer) == image_id  # the same request once more
        assert peer.stored_disks(image_id) == frozenset()
        peer.discard(image_id)
        peer.discard(image_id)

    def test_one_that_is_not_known_is_refused(
        self, other: Service, folder: Folder, authority: trustme.CA
    ):
        refused = refusal(self.peer_at(other, folder, authority, "spiffe://cloud.example/other"))

        assert (refused.category, refused.reason) == (Category.AGAINST_RULES, Reason.PEER_REFUSED)
        assert refused.violations[0].metadata["peerReason"] == "UNAUTHENTICATED"

    def test_a_service_that_is_not_trusted_is_told_nothing(
        self, other: Service, folder: Folder, authority: trustme.CA
    ):
        peer = self.peer_at(other, folder, authority, SPIFFE)
        folder.ca(trustme.CA())

        assert refusal(peer).reason is Reason.PEER_UNREACHABLE

    def test_one_that_is_replaced_is_used_at_once(
        self, other: Service, folder: Folder, authority: trustme.CA
    ):
        peer = self.peer_at(other, folder, authority, "spiffe://cloud.example/other")
        assert refusal(peer).reason is Reason.PEER_REFUSED

        for path in folder.certificate(authority, SPIFFE, file="peer"):
            os.utime(path, ns=(1, 1))

        assert create(peer)

    def test_a_file_that_is_away_for_a_moment_is_waited_for(
        self, other: Service, folder: Folder, authority: trustme.CA
    ):
        peer = self.peer_at(other, folder, authority, SPIFFE)
        (folder.path / "peer.pem").unlink()

        assert refusal(peer).reason is Reason.PEER_UNREACHABLE

    def test_a_file_that_has_never_been_there_is_told_at_the_start(
        self, make_service: MakeService, tmp_path: Path
    ):
        peer = {"server": "127.0.0.1:9", "token_file": tmp_path / "token"}

        with pytest.raises(SettingsError, match=r"peers\.eu-nl: there is no file .*token"):
            make_service(peers={ELSEWHERE: peer})


class Answering:
    """A peer whose service gives the answer that a test wants."""

    def __init__(self, peer: Peer, declined: Declined) -> None:
        self._peer, self._declined = peer, declined

    def answer(self) -> Rejection:
        def decline(_calls: object) -> None:
            raise self._declined

        self._peer._connected = lambda: None  # type: ignore[attr-defined]
        with pytest.raises(Rejection) as told:
            self._peer._ask(decline)  # type: ignore[attr-defined]
        return told.value


Answer = Callable[..., Rejection]


@pytest.fixture
def answer() -> Answer:
    """Return what is made of a declined call."""

    def made(code: str, reason: str = "", *, violations: tuple[Violation, ...] = ()) -> Rejection:
        setting = PeerSetting(server="127.0.0.1:9", development_tenant="ims")
        violations = violations or ((Violation(reason, "name", "No."),) if reason else ())
        declined = Declined(
            "No.", code=code, reason=reason, metadata={"limit": "1"}, violations=violations
        )
        return Answering(_peer(ELSEWHERE, setting, HOME), declined).answer()

    return made


class TestAnswers:
    @pytest.mark.parametrize(
        ("code", "reason", "category"),
        [
            ("ALREADY_EXISTS", "IMAGE_NAME_TAKEN", Category.EXISTS),
            ("RESOURCE_EXHAUSTED", "STORAGE_FULL", Category.OVER_LIMIT),
            ("PERMISSION_DENIED", "TENANT_SUSPENDED", Category.FORBIDDEN),
            ("INVALID_ARGUMENT", "INVALID_NAME", Category.MALFORMED),
            ("NOT_FOUND", "TENANT_NOT_FOUND", Category.MISSING),
        ],
    )
    def test_what_it_declines_by_its_law_is_told_in_its_words(
        self, code: str, reason: str, category: Category, answer: Answer
    ):
        told = answer(code, reason)

        assert (told.category, told.reason) == (category, Reason[reason])
        assert told.violations[0].message == f"In region '{ELSEWHERE}': No."
        assert told.violations[0].metadata == {"limit": "1", "peerRegion": ELSEWHERE}
        assert told.violations[0].subject == "name"

    def test_all_that_it_declines_it_for_is_told(self, answer: Answer):
        broken = (Violation("INVALID_NAME", "name", "One."), Violation("A_NEW_ONE", "x", "Two."))

        told = answer("INVALID_ARGUMENT", "INVALID_NAME", violations=broken)

        assert [each.reason for each in told.violations] == [Reason.INVALID_NAME] * 2
        assert told.violations[1].message == "Two."

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("UNAVAILABLE", "CATALOGUE_UNAVAILABLE"),
            ("UNAVAILABLE", "STORAGE_UNAVAILABLE"),
            ("RESOURCE_EXHAUSTED", "TOO_MANY_TRANSFERS"),
            ("ABORTED", "UPLOAD_SUPERSEDED"),
            ("OUT_OF_RANGE", "UPLOAD_OFFSET_MISMATCH"),
            ("NOT_FOUND", "UPLOAD_NOT_FOUND"),
        ],
    )
    def test_what_will_be_over_is_tried_again(self, code: str, reason: str, answer: Answer):
        told = answer(code, reason)

        assert (told.category, told.reason) == (Category.UNAVAILABLE, Reason.PEER_UNREACHABLE)

    @pytest.mark.parametrize(
        ("code", "reason", "told"),
        [
            ("UNAUTHENTICATED", "UNAUTHENTICATED", "UNAUTHENTICATED"),
            ("PERMISSION_DENIED", "ROLE_REQUIRED", "ROLE_REQUIRED"),
            ("INTERNAL", "INTERNAL_ERROR", "INTERNAL_ERROR"),
            ("FAILED_PRECONDITION", "A_REASON_OF_A_NEWER_VERSION", "A_REASON_OF_A_NEWER_VERSION"),
            ("UNIMPLEMENTED", "", "UNIMPLEMENTED"),
        ],
    )
    def test_what_is_for_the_operators_is_told_as_such(
        self, code: str, reason: str, told: str, answer: Answer
    ):
        rejection = answer(code, reason)

        assert (rejection.category, rejection.reason) == (
            Category.AGAINST_RULES,
            Reason.PEER_REFUSED,
        )
        assert rejection.violations[0].metadata == {"region": ELSEWHERE, "peerReason": told}

    def test_another_digest_than_was_announced_is_this_sides_damage(self, answer: Answer):
        assert answer("FAILED_PRECONDITION", "DIGEST_MISMATCH").reason is Reason.DISK_DATA_DAMAGED


def test_messages_that_nobody_wants_any_more_are_no_trouble_of_their_chunks():
    """The library lets go of them when a call has died, wherever they are."""
    upload = PeerUpload(id="upload", image_id=ImageId("copy"), disk_index=0)
    messages = _Messages(upload, iter([b"1", b"2"]))
    given = iter(messages)
    next(given)
    next(given)

    given.close()

    assert messages.trouble is None


def test_what_the_chunks_raise_is_their_trouble():
    def breaking():
        yield b"1"
        raise Interrupted

    upload = PeerUpload(id="upload", image_id=ImageId("copy"), disk_index=0)
    messages = _Messages(upload, breaking())

    assert len(list(messages)) == 2
    assert isinstance(messages.trouble, Interrupted)


def test_a_peer_that_takes_no_bytes_is_not_waited_for(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ims.peers.remote._STALL_SECONDS", 0.5)
    go_on = threading.Event()
    monkeypatch.setattr(resumable_uploads, "_refuse_superseded", lambda *_: go_on.wait(30))
    other = make_service(region=ELSEWHERE)
    setting = PeerSetting(server=f"127.0.0.1:{other.port}", development_tenant="ims")
    peer = _peer(ELSEWHERE, setting, HOME)
    upload = peer.start_upload(create(peer), a_disk(size_bytes=64 * MIB))

    with pytest.raises(Rejection) as refused:
        peer.write_upload(upload, iter([bytes(MIB)] * 64), keep_on=lambda: None)
    go_on.set()
    while other.deployment.uploads.all():
        threading.Event().wait(0.01)  # its end is not the call's

    assert refused.value.reason is Reason.PEER_UNREACHABLE
