"""What a rule is, and the loop that enforces rules."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Generic, TypeVar

from ims.domain.rejection import Category, Reason, Rejection, Violation

Facts = TypeVar("Facts", contravariant=True)  # noqa: PLC0105 - read in every signature, so it is a word


@dataclass(frozen=True)
class Breach:
    """How a rule is broken: a sentence a person can act on and what it is about."""

    message: str
    subject: str
    metadata: dict[str, str | int]


def breach(message: str, *, subject: str = "", **metadata: str | int) -> Breach:
    """Return a breach; every value of the message stands again in the metadata."""
    return Breach(message, subject, metadata)


@dataclass(frozen=True, eq=False)
class Rule(Generic[Facts]):
    """One sentence of the law, made executable.

    `check` yields a breach for everything that breaks the rule, in the order of the request.
    """

    law: str
    """The number of the sentence, for instance "3.5"."""
    reason: Reason
    category: Category
    check: Callable[[Facts], Iterable[Breach]]

    @property
    def name(self) -> str:
        return self.check.__name__

    @property
    def sentence(self) -> str:
        return (self.check.__doc__ or "").strip().splitlines()[0]

    def violations(self, facts: Facts) -> list[Violation]:
        return [
            Violation(self.reason, found.message, found.metadata, found.subject)
            for found in self.check(facts)
        ]


def rule(
    law: str, reason: Reason, category: Category
) -> Callable[[Callable[[Facts], Iterable[Breach]]], Rule[Facts]]:
    """Make a rule of the function below it."""

    def make(check: Callable[[Facts], Iterable[Breach]]) -> Rule[Facts]:
        return Rule(law, reason, category, check)

    return make


def judge(rules: Iterable[Rule[Facts]], facts: Facts) -> tuple[Violation, ...]:
    """Return every violation of every rule, in the order of judgement."""
    in_order = (each for step in _steps(tuple(rules)) for each in step)
    return tuple(violation for each in in_order for violation in each.violations(facts))


def enforce(rules: Iterable[Rule[Facts]], facts: Facts) -> None:
    """Raise a Rejection with all rules broken in the first step in which any is (law 2)."""
    for step in _steps(tuple(rules)):
        violations = [found for each in step for found in each.violations(facts)]
        if violations:
            first = next(each for each in step if each.reason is violations[0].reason)
            raise Rejection(first.category, violations)


@lru_cache(maxsize=256)
def _steps(rules: tuple[Rule[Any], ...]) -> tuple[tuple[Rule[Any], ...], ...]:
    """Return rules in the order of judgement, step by step; there are as many as actions."""
    in_order = sorted(rules, key=lambda each: each.category.step)
    return tuple(tuple(step) for _, step in groupby(in_order, key=lambda each: each.category.step))
