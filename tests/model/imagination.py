"""Thinks calls up, of which some mean something."""

import random
from dataclasses import replace
from typing import Any

from model.law import FOR_EVER, Answer, Call, Law

TENANTS = ("acme", "globex", "initech", "umbrella")

_NAMES = ("one", "two", "three", "four")
_MOSTLY, _AGAIN, _SOMETHING_ELSE, _WITH_ID = 0.85, 0.06, 0.2, 0.2
_PURGE, _WAIT, _PARTIAL, _LATELY = 0.05, 0.1, 0.3, 10
_ENDING, _STILL = 0.4, 0.3
_READING = {"get", "use", "list_images", "next_page", "list_received"}
_WEIGHTS = {
    "create": 8,
    "get": 5,
    "use": 6,
    "update": 8,
    "delete": 8,
    "undelete": 10,
    "deactivate": 3,
    "reactivate": 4,
    "publish": 2,
    "unpublish": 3,
    "share": 16,
    "unshare": 5,
    "prolong": 5,
    "accept": 14,
    "reject": 7,
    "leave": 5,
    "list_images": 5,
    "next_page": 5,
    "list_received": 5,
}


class Imagination:
    """Draws calls by chance: mostly about few images, by those whom they concern.

    Some carry a request id, and some of those come again. `law` is what there is at the moment.
    """

    def __init__(self, seed: int, law: Law) -> None:
        self.law = law
        self._random = random.Random(seed)
        self._images: list[str] = []
        self._tokens: list[Any] = []
        self._with_ids: list[Call] = []
        self._out: list[tuple[str, str]] = []
        """Recipients whose shares have ended by themselves, each with the image."""
        self._ids = 0

    def call(self, hot: list[str] | None = None) -> Call:
        """Return a call that does not need to be alone, about one of the hot images if there are any."""
        draw = self._random
        if self._with_ids and draw.random() < _AGAIN:
            again = draw.choice(self._with_ids[-_LATELY:])
            if self._images and draw.random() < _SOMETHING_ELSE:
                return replace(again, verb="leave", about=draw.choice(self._images), details=())
            return again
        verb = draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        call = self._call(verb, hot or [])
        if call.verb not in _READING and draw.random() < _WITH_ID:
            self._ids += 1
            call = replace(call, request_id=f"request-{self._ids}")
            self._with_ids.append(call)
        return call

    def lonely_call(self) -> Call:
        """Return a call that is made while no other is: it is more than one step."""
        queued = [key for key, image in self.law.images.items() if image.state == "QUEUED"]
        if not self._images or self._random.random() < _PURGE:
            return Call("nobody", "purge")
        if self._random.random() < _WAIT:
            self._out += self._about_to_be_out()
            return Call("nobody", "wait")
        image_id = self._random.choice(queued if queued and self._is_so() else self._images)
        return Call(self._owner(image_id), "upload", image_id)

    def hot(self) -> list[str]:
        """Return an image or two for everybody to call about."""
        live = [key for key, image in self.law.images.items() if image.state == "ACTIVE"]
        return self._random.sample(live, k=min(2, len(live)))

    def learn(self, call: Call, answer: Answer) -> None:
        """Take ids and tokens from an answer, to call about them."""
        if call.verb == "create" and not answer.reason:
            self._images.append(answer.told[0])
        if call.verb in {"list_images", "next_page"} and not answer.reason and answer.told[1]:
            self._tokens.append((call.who, answer.told[1]))

    def _call(self, verb: str, hot: list[str]) -> Call:
        draw = self._random
        somebody = draw.choice(TENANTS)
        if verb == "create" or not self._images:
            return Call(somebody, "create", draw.choice(_NAMES))
        if verb == "next_page" and self._tokens:
            token = draw.choice(self._tokens[-_LATELY:])
            return Call(token[0] if draw.random() < 1 / 2 else somebody, verb, token)
        if verb in {"list_images", "next_page", "list_received"}:
            return Call(somebody, verb.replace("next_page", "list_images"))
        if verb in {"get", "use"} and self._out and draw.random() < _STILL:
            who, image_id = draw.choice(self._out[-_LATELY:])
            return Call(who, verb, image_id)
        image_id = self._image(verb, hot)
        if verb in {"accept", "reject", "leave", "get", "use"}:
            who = self._recipient(image_id)
        elif verb in {"publish", "unpublish"}:
            who = self.law.administrator if self._is_so() else somebody
        else:
            who = self._owner(image_id)
        return Call(who, verb, image_id, self._details(verb, image_id))

    def _details(self, verb: str, image_id: str) -> tuple[Any, ...]:
        draw = self._random
        image = self.law.images.get(image_id)
        etag = draw.choice(["", "", f'"{image.version if image else 1}"', '"1"'])
        others = [each for each in TENANTS if image is None or each != image.owner or not self._is_so()]
        some = tuple(draw.sample(others, draw.randint(1, 2)))
        match verb:
            case "update":
                name, protected = ("name", draw.choice(_NAMES)), ("protected", draw.random() < 1 / 2)
                return etag, (draw.choice([name, protected]),)
            case "delete":
                return (etag,)
            case "share":
                return some, draw.random() < _PARTIAL, self._minute()
            case "prolong":
                return self._recipient(image_id), self._minute()
            case "unshare":
                return (draw.choice([None, some, some, some]),)
        return ()

    def _image(self, verb: str, hot: list[str]) -> str:
        """Return a hot image, or one that is in the right state for the verb, or any."""
        draw = self._random
        if hot and self._is_so():
            return draw.choice(hot)
        state = {"undelete": "DELETED", "reactivate": "DEACTIVATED"}.get(verb, "ACTIVE")
        fitting = [
            key
            for key, image in self.law.images.items()
            if image.state == state
            and (image.shares or verb not in {"accept", "reject", "leave", "prolong"})
        ]
        return draw.choice(fitting if fitting and self._is_so() else self._images)

    def _recipient(self, image_id: str) -> str:
        image = self.law.images.get(image_id)
        recipients = [tenant for tenant, *_ in image.shares] if image else []
        return self._random.choice(recipients if recipients and self._is_so() else TENANTS)

    def _about_to_be_out(self) -> list[tuple[str, str]]:
        return [
            (tenant, key)
            for key, image in self.law.images.items()
            for tenant, _, end in image.shares
            if end == self.law.minute
        ]

    def _minute(self) -> int:
        """Return when a share shall end: with this minute, mostly not by itself, or long ago."""
        if self._random.random() > _ENDING:
            return FOR_EVER
        return self.law.minute if self._is_so() else max(0, self.law.minute - 1)

    def _owner(self, image_id: str) -> str:
        image = self.law.images.get(image_id)
        return image.owner if image and self._is_so() else self._random.choice(TENANTS)

    def _is_so(self) -> bool:
        return self._random.random() < _MOSTLY
