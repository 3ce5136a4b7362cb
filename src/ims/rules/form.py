"""Is the request well formed: what holds of every request, whatever it asks for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ims.domain.rejection import Category, FieldProblem, Reason
from ims.rules.engine import Breach, Rule, breach, rule


class Request(Protocol):
    """Anything that was read from a message."""

    @property
    def problems(self) -> tuple[FieldProblem, ...]: ...


@rule("2.4", Reason.INVALID_FIELD, Category.MALFORMED)
def every_field_can_be_read(request: Request) -> Iterator[Breach]:
    """Every field of a request is there when required, and within what its comment promises."""
    for problem in request.problems:
        message = f"{problem.path}: {problem.message}"
        yield breach(message, subject=problem.path, field=problem.path, **problem.metadata)


@dataclass(frozen=True)
class Query:
    """A request that is about no image in particular."""

    problems: tuple[FieldProblem, ...]


READ_QUERY: tuple[Rule[Query], ...] = (every_field_can_be_read,)
