"""Operations on the wire: whose they are, how they end, and who does them (law 10)."""

import errno
import threading
from collections.abc import Callable

import pytest

from calling import Tenant, declined, error_of, image_of, metadata_of, request_class
from conftest import As, Clock, MakeService
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.domain.operation import Operation, OperationKind
from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.providers.keys import add_key
from ims.repository.database import Transaction
from ims.use_cases.copying import Copying
from ims.use_cases.deployment import Deployment
from ims.use_cases.executor import MOST_ATTEMPTS, Executor
from ims.use_cases.jobs import Job
from ims.use_cases.operations import forget_operations
from ims.use_cases.sweeping import sweep
from servicers.test_copying import CONTENT, blobs, nothing_is_left_of

A_NEVER_GIVEN_NAME = "operations/99999999-9999-4999-8999-999999999999"


@pytest.fixture
def owner(idle: Service, as_: As) -> Tenant:
    return as_("owner", of=idle)


Begin = Callable[..., object]


@pytest.fixture
def begin(owner: Tenant) -> Begin:
    """Begin a copy whose bytes change; nobody does it by itself."""
    source = owner.active("source", CONTENT)

    def copy(name: str = "copy"):
        return owner.CopyImage(image_id=source.id, name=name, encryption_key_id="key-1")

    return copy


class Held(Copying):
    """A copying that stops just before its end, until it is told to go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def do(self, deployment: Deployment, job: Job) -> None:
        succeed = job.succeed

        def stop_first(finish: Callable[[Transaction], bytes]) -> None:
            self.reached.set()
            assert self.go_on.wait(30)
            job.goes_on()
            succeed(finish)

        job.succeed = stop_first  # type: ignore[method-assign]
        super().do(deployment, job)


def an_executor(service: Service, holder: str, work: object | None = None) -> Executor:
    works = {OperationKind.COPY_IMAGE: work or Copying()}
    return Executor(service.deployment, holder, works)  # type: ignore[arg-type]


class AtWork:
    """An executor that is doing an operation in a thread of its own, just before its end."""

    def __init__(self, service: Service, holder: str = "first") -> None:
        self.work = Held()
        self.executor = an_executor(service, holder, self.work)
        self._thread = threading.Thread(target=self.executor.do_next)
        self._thread.start()
        assert self.work.reached.wait(30)

    def go_on(self) -> None:
        self.work.go_on.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def on_record(deployment: Deployment, message) -> Operation:
    operation_id = message.name.partition("/")[2]
    with deployment.database.reading() as reading:
        found = reading.operations.find(operation_id, "owner")
    assert found is not None
    return found


class TestWhoseTheyAre:
    def test_anothers_is_answered_to_the_byte_like_one_that_never_was(
        self, begin: Begin, as_: As, idle: Service
    ):
        operation = begin()
        stranger = as_("stranger", of=idle)

        for rpc in ("GetOperation", "WaitOperation", "CancelOperation", "DeleteOperation"):
            answers = []
            for name in (operation.name, A_NEVER_GIVEN_NAME, "images/x", "operations/\0", "x"):
                with declined() as missing:
                    getattr(stranger, rpc)(name=name)
                assert (missing.code, missing.reason) == ("NOT_FOUND", "OPERATION_NOT_FOUND")
                answers.append(missing.status_bytes)
            assert len(set(answers)) == 1
        assert not stranger.ListOperations().operations
        assert not on_record(idle.deployment, operation).cancel_requested

    def test_every_user_of_the_tenant_sees_it(self, begin: Begin, as_: As, idle: Service):
        operation = begin()

        assert as_("owner", "reader", of=idle).GetOperation(name=operation.name) == operation

    def test_a_suspended_tenant_gets_nothing(self, begin: Begin, owner: Tenant, as_: As, idle: Service):
        operation = begin()
        admin = as_("root", "admin", of=idle)
        admin.RegisterTenant(tenant_id="owner", region="eu-de")
        admin.SuspendTenant(tenant_id="owner")

        for name in (operation.name, A_NEVER_GIVEN_NAME):
            for rpc in ("GetOperation", "WaitOperation", "CancelOperation", "DeleteOperation"):
                with declined() as refused:
                    getattr(owner, rpc)(name=name)
                assert refused.reason == "TENANT_SUSPENDED"
        with declined() as refused:
            owner.ListOperations()
        assert refused.reason == "TENANT_SUSPENDED"

    def test_a_call_without_a_name_is_malformed(self, owner: Tenant):
        for rpc in ("GetOperation", "WaitOperation", "CancelOperation", "DeleteOperation"):
            with declined() as refused:
                getattr(owner, rpc)()
            assert (refused.reason, refused.metadata["field"]) == ("INVALID_FIELD", "name")


class TestLists:
    def test_they_come_page_by_page_the_newest_first(self, begin: Begin, owner: Tenant):
        begun = [begin(f"copy-{number}").name for number in range(5)]
        first = owner.ListOperations(page_size=2)
        second = owner.ListOperations(page_size=2, page_token=first.next_page_token)
        third = owner.ListOperations(page_size=2, page_token=second.next_page_token)

        listed = [each.name for page in (first, second, third) for each in page.operations]
        assert listed == begun[::-1]
        assert third.next_page_token == ""

    def test_they_are_those_that_have_ended_or_not(self, begin: Begin, owner: Tenant, idle: Service):
        ended, other = begin("one"), begin("two")
        idle._executor.do_next()

        def listed(said: str) -> list[str]:
            return [each.name for each in owner.ListOperations(filter=said).operations]

        assert listed("done=true") == [ended.name]
        assert listed("done = false") == [other.name]
        assert listed("") == [other.name, ended.name]

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"filter": "done=perhaps"}, "filter"),
            ({"name": "images"}, "name"),
            ({"page_size": -1}, "page_size"),
            ({"page_token": "x"}, "page_token"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, owner: Tenant, fields, field):
        with declined() as refused:
            owner.ListOperations(**fields)
        assert (refused.reason, refused.metadata["field"]) == ("INVALID_FIELD", field)


class TestWaiting:
    def test_it_returns_as_soon_as_the_operation_has_ended(
        self, begin: Begin, owner: Tenant, idle: Service
    ):
        operation = begin()
        at_work = AtWork(idle)
        waiting = owner.begin("WaitOperation", _wait(operation.name, seconds=30))

        at_work.go_on()

        assert image_of(waiting.result())

    def test_it_returns_what_there_is_when_its_time_is_over(self, begin: Begin, owner: Tenant):
        operation = begin()

        waited = owner.WaitOperation(name=operation.name, timeout={"nanos": 1})

        assert not waited.done

    def test_a_time_before_now_is_none(self, begin: Begin, owner: Tenant):
        with declined() as refused:
            owner.WaitOperation(name=begin().name, timeout={"seconds": -1})
        assert refused.metadata["field"] == "timeout"

    def test_a_service_that_ends_lets_nobody_wait(self, begin: Begin, owner: Tenant, idle: Service):
        operation = begin()
        waiting = owner.begin("WaitOperation", _wait(operation.name, seconds=30))
        while owner.GetOperation(name=operation.name).done:
            pass

        idle._draining.set()

        assert not waiting.result(timeout=10).done

    def test_those_who_wait_leave_all_threads_to_other_calls(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
    ):
        operation = begin()
        waiting = [owner.begin("WaitOperation", _wait(operation.name, seconds=3)) for _ in range(20)]

        assert owner.GetQuotas().quotas.copies.used == 1

        for each in waiting:
            each.cancel()


def _wait(name: str, *, seconds: int):
    return request_class("WaitOperation")(name=name, timeout={"seconds": seconds})


class TestCancelling:
    def test_what_nobody_does_has_ended_when_the_call_returns(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
    ):
        operation = begin()

        owner.CancelOperation(name=operation.name)

        cancelled = error_of(owner.GetOperation(name=operation.name))
        assert (cancelled.code, cancelled.reason) == ("CANCELLED", "OPERATION_CANCELLED")
        nothing_is_left_of(operation, owner, idle.deployment, blobs_before=1)
        assert not idle._executor.do_next()

    def test_what_is_being_done_stops_and_leaves_nothing(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
    ):
        operation = begin()
        at_work = AtWork(idle)

        owner.CancelOperation(name=operation.name)
        assert metadata_of(owner.GetOperation(name=operation.name)).cancel_requested
        at_work.executor.hold_all()
        at_work.go_on()

        assert error_of(owner.GetOperation(name=operation.name)).reason == "OPERATION_CANCELLED"
        nothing_is_left_of(operation, owner, idle.deployment, blobs_before=1)

    def test_it_takes_a_moment_on_a_running_service(
        self, make_service: MakeService, as_: As, monkeypatch
    ):
        """The service looks for itself every second whether to stop."""
        service = make_service()
        add_key(service.settings.keys, KeyId("key-1"))
        owner = as_("owner", of=service)
        held = Held()
        monkeypatch.setattr(service._executor, "_works", {OperationKind.COPY_IMAGE: held})
        source = owner.active("source", CONTENT)
        operation = owner.CopyImage(image_id=source.id, name="copy", encryption_key_id="key-1")
        assert held.reached.wait(10)
        owner.CancelOperation(name=operation.name)
        (job,) = service._executor._jobs.all()
        while job._trouble is None:
            threading.Event().wait(0.05)
        held.go_on.set()

        assert error_of(owner.ended(operation)).reason == "OPERATION_CANCELLED"
        nothing_is_left_of(operation, owner, service.deployment, blobs_before=1)

    def test_what_has_ended_stays_as_it_is(self, begin: Begin, owner: Tenant, idle: Service):
        operation = begin()
        idle._executor.do_next()
        ended = owner.GetOperation(name=operation.name)

        owner.CancelOperation(name=operation.name)

        assert owner.GetOperation(name=operation.name) == ended
        assert owner.download(image_of(ended).id) == CONTENT

    def test_it_is_told_to_who_takes_it_over_too(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
        clock: Clock,
    ):
        operation = begin()
        at_work = AtWork(idle)
        owner.CancelOperation(name=operation.name)
        clock.advance(seconds=21)

        assert an_executor(idle, "second").do_next()

        assert error_of(owner.GetOperation(name=operation.name)).reason == "OPERATION_CANCELLED"
        at_work.go_on()
        nothing_is_left_of(operation, owner, idle.deployment, blobs_before=1)


class TestTakingOver:
    def test_what_is_held_is_nobody_elses(self, begin: Begin, idle: Service, clock: Clock):
        begin()
        at_work = AtWork(idle)
        clock.advance(seconds=15)
        at_work.executor.hold_all()
        clock.advance(seconds=15)

        assert not an_executor(idle, "second").do_next()
        at_work.go_on()

    def test_a_silent_workers_work_is_finished_by_another(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
        clock: Clock,
    ):
        operation = begin()
        at_work = AtWork(idle)
        assert not an_executor(idle, "second").do_next()
        clock.advance(seconds=21)

        assert an_executor(idle, "second").do_next()

        ended = owner.GetOperation(name=operation.name)
        assert owner.download(image_of(ended).id) == CONTENT
        at_work.go_on()

    def test_a_late_worker_changes_nothing(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
        clock: Clock,
    ):
        """It had all its bytes, and only its last word to say."""
        operation = begin()
        at_work = AtWork(idle)
        clock.advance(seconds=21)
        assert an_executor(idle, "second").do_next()
        ended = owner.GetOperation(name=operation.name)
        image = owner.GetImage(image_id=image_of(ended).id).image
        stored = blobs(idle.deployment)

        at_work.go_on()

        assert owner.GetOperation(name=operation.name) == ended
        assert owner.GetImage(image_id=image.id).image == image
        assert owner.download(image.id) == CONTENT
        assert blobs(idle.deployment) < stored
        assert len(blobs(idle.deployment)) == 2

    def test_a_late_worker_whose_work_others_have_only_begun_changes_nothing_either(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
        clock: Clock,
    ):
        operation = begin()
        late = AtWork(idle)
        clock.advance(seconds=21)
        second = AtWork(idle, "second")

        late.go_on()

        assert metadata_of(owner.GetOperation(name=operation.name)).state == 2
        assert on_record(idle.deployment, operation).epoch == 2
        second.go_on()
        ended = owner.GetOperation(name=operation.name)
        assert owner.download(image_of(ended).id) == CONTENT
        assert len(blobs(idle.deployment)) == 2

    def test_a_worker_hears_that_it_has_lost_its_work(self, begin: Begin, idle: Service, clock: Clock):
        begin()
        late = AtWork(idle)
        clock.advance(seconds=21)
        an_executor(idle, "second").do_next()

        late.executor.hold_all()

        (job,) = late.executor._jobs.all()
        assert job._trouble is not None
        late.go_on()

    def test_bytes_of_a_dead_worker_are_swept_away(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
        clock: Clock,
    ):
        operation = begin()
        dead = AtWork(idle)
        clock.advance(seconds=21)

        sweep(idle.deployment, "sweeper")

        assert len(blobs(idle.deployment)) == 1
        copy = owner.GetImage(image_id=metadata_of(operation).image_id).image
        assert copy.state == copy.SAVING
        an_executor(idle, "second").do_next()
        assert owner.download(copy.id) == CONTENT
        dead.go_on()
        assert owner.download(copy.id) == CONTENT

    def test_a_process_that_ends_leaves_its_work_to_others_at_once(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
    ):
        operation = begin()
        at_work = AtWork(idle)

        at_work.executor.end()
        at_work.go_on()

        assert an_executor(idle, "second").do_next()
        assert image_of(owner.GetOperation(name=operation.name))
        assert len(blobs(idle.deployment)) == 2


class Failing(Copying):
    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)

    def do(self, deployment: Deployment, job: Job) -> None:
        if self._errors:
            raise self._errors.pop(0)
        super().do(deployment, job)


class TestFailing:
    def test_a_mistake_of_the_service_is_told_as_one_and_leaves_nothing(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
    ):
        operation = begin()

        an_executor(idle, "first", Failing(KeyError("a secret"))).do_next()

        failed = error_of(owner.GetOperation(name=operation.name))
        assert (failed.code, failed.reason) == ("INTERNAL", "INTERNAL_ERROR")
        assert "secret" not in str(owner.GetOperation(name=operation.name))
        nothing_is_left_of(operation, owner, idle.deployment, blobs_before=1)

    def test_a_rejection_is_told_as_a_call_would_have_been(
        self, begin: Begin, owner: Tenant, idle: Service
    ):
        operation = begin()
        full = reject(Category.OVER_LIMIT, Reason.STORAGE_FULL, "No room.", subject="x", bytesLeft=7)

        an_executor(idle, "first", Failing(full)).do_next()

        failed = error_of(owner.GetOperation(name=operation.name))
        assert (failed.code, failed.reason, failed.message) == (
            "RESOURCE_EXHAUSTED",
            "STORAGE_FULL",
            "No room.",
        )
        assert failed.metadata == {"bytesLeft": "7"}
        assert failed.violations == [("", "x", "No room.")]

    @pytest.mark.parametrize("what", ["the store", "the system"])
    def test_what_is_away_for_a_while_is_tried_again(
        self, begin: Begin, owner: Tenant, idle: Service, clock: Clock, what: str
    ):
        trouble = _away() if what == "the store" else OSError(errno.EMFILE, "too many open files")
        operation = begin()
        executor = an_executor(idle, "first", Failing(*[trouble] * 2))
        assert executor.do_next()
        assert not executor.do_next()  # not at once
        clock.advance(seconds=20)
        assert executor.do_next()
        clock.advance(seconds=20)

        assert executor.do_next()

        assert image_of(owner.GetOperation(name=operation.name))

    def test_but_not_for_ever(self, begin: Begin, owner: Tenant, idle: Service, clock: Clock):
        operation = begin()
        executor = an_executor(idle, "first", Failing(*[_away()] * MOST_ATTEMPTS))
        for _ in range(MOST_ATTEMPTS):
            assert executor.do_next()
            clock.advance(seconds=20)

        assert error_of(owner.GetOperation(name=operation.name)).reason == "STORAGE_UNAVAILABLE"
        assert not executor.do_next()
        nothing_is_left_of(operation, owner, idle.deployment, blobs_before=1)


def _away() -> Rejection:
    return reject(Category.UNAVAILABLE, Reason.STORAGE_UNAVAILABLE, "Away.")


class TestForgetting:
    def test_what_has_ended_is_kept_for_30_days(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
        clock: Clock,
    ):
        operation = begin()
        idle._executor.do_next()
        clock.advance(days=29.9)
        assert forget_operations(idle.deployment) == 0
        assert owner.GetOperation(name=operation.name).done

        clock.advance(days=0.2)

        assert forget_operations(idle.deployment) == 1
        with declined() as gone:
            owner.GetOperation(name=operation.name)
        assert gone.reason == "OPERATION_NOT_FOUND"
        assert len(owner.ListImages().images) == 2

    def test_what_is_still_to_be_done_is_not_forgotten(self, begin: Begin, idle: Service, clock: Clock):
        begin()
        clock.advance(days=1000)

        assert forget_operations(idle.deployment) == 0

    def test_it_is_deleted_once_it_has_ended_and_stops_nothing(
        self,
        begin: Begin,
        owner: Tenant,
        idle: Service,
    ):
        operation = begin()
        with declined() as refused:
            owner.DeleteOperation(name=operation.name)
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "OPERATION_NOT_DONE")
        assert refused.metadata == {"state": "QUEUED"}
        idle._executor.do_next()
        copy = image_of(owner.GetOperation(name=operation.name))

        owner.DeleteOperation(name=operation.name)

        with declined() as gone:
            owner.DeleteOperation(name=operation.name)
        assert gone.reason == "OPERATION_NOT_FOUND"
        assert owner.download(copy.id) == CONTENT


def test_the_response_is_the_image_as_it_was_when_it_was_complete(
    begin: Begin, owner: Tenant, idle: Service
):
    operation = begin()
    idle._executor.do_next()
    copy = image_of(owner.GetOperation(name=operation.name))
    assert owner.GetImage(image_id=copy.id).image == copy

    owner.DeleteImage(image_id=copy.id)

    assert image_of(owner.GetOperation(name=operation.name)) == copy


def test_a_running_service_begins_at_once(make_service: MakeService, as_: As, monkeypatch):
    """Nobody has to wait until somebody looks for work."""
    monkeypatch.setattr("ims.bootstrap._LOOKING_SECONDS", 3600)
    service = make_service()
    add_key(service.settings.keys, KeyId("key-1"))
    owner = as_("owner", of=service)

    assert owner.copied(owner.active("source").id, "copy", encryption_key_id="key-1")
