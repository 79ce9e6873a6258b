"""The service without HTTP: order, batches, refusals, shutdown."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest
from drawn import encode, lesion

from melascope.bundle.store import Bundle
from melascope.domain.assessment import Assessment
from melascope.errors import (
    BundleError,
    ImageTooLargeError,
    NotAnImageError,
    OverloadedError,
    TruncatedImageError,
    UsageError,
)
from melascope.imaging.decode import ImageLimits, decode_image
from melascope.runtime.assessor import Assessor
from melascope.runtime.lesion import combine
from melascope.web.service import AssessmentService, Observer, ServiceLimits, Upload

LIMITS = ServiceLimits(queue=12, batch_size=4)


def uploads(count: int) -> list[Upload]:
    return [Upload(name=f"{n}.png", data=encode(lesion(90, 70, seed=n), "PNG")) for n in range(count)]


class HeldAssessor(Assessor):
    """Its network waits until it may."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, threads=1)
        self.may = threading.Event()
        self.batches: list[int] = []
        self.taken = 0

    def look(self, prepared, *, activation=False):
        self.taken += len(prepared)
        self.may.wait(20)
        self.batches.append(len(prepared))
        return super().look(prepared, activation=activation)


@pytest.fixture
def held(tiny_bundle: Bundle) -> HeldAssessor:
    return HeldAssessor(tiny_bundle)


async def settle(service: AssessmentService, images: int) -> None:
    """Until so many images are decoded, and wait for the network or are in it."""
    async with asyncio.timeout(20):
        while service._waiting.qsize() + service.assessor.taken < images:
            await asyncio.sleep(0.005)


def bare(assessor: Assessor, upload: Upload, **options: object) -> Assessment:
    return assessor.assess([decode_image(upload.data, name=upload.name)], **options)[0]


def close_to(one: Assessment, other: Assessment) -> bool:
    """Equal but for what batches change in the last digits of a sum."""
    return (
        one.name == other.name
        and one.decision == other.decision
        and one.melanoma_score == pytest.approx(other.melanoma_score, rel=1e-5)
        and one.predictive_values == other.predictive_values
        and (one.images[0].heatmap is None) == (other.images[0].heatmap is None)
    )


def test_answers_are_those_of_the_bare_assessor_whoever_asks_at_the_same_time(tiny_bundle: Bundle) -> None:
    assessor = Assessor(tiny_bundle, threads=1)
    sent = uploads(10)
    options = [
        {"heatmap": bool(n % 2), "melanoma_prevalence": 0.02 if n % 3 else None,
         "operating_point": "sensitivity-90" if n % 4 else None}
        for n in range(10)
    ]  # fmt: skip

    async def ask() -> list[Assessment]:
        service = AssessmentService(assessor, LIMITS)
        pairs = zip(sent, options, strict=True)
        answers = await asyncio.gather(*(service.assess(upload, **how) for upload, how in pairs))
        await service.close()
        return answers

    for upload, how, answer in zip(sent, options, asyncio.run(ask()), strict=True):
        assert close_to(answer, bare(assessor, upload, **how))


def test_what_waits_goes_through_the_network_together(held: HeldAssessor) -> None:
    seen: list[int] = []

    class Counting(Observer):
        def batch(self, images: int) -> None:
            seen.append(images)

    async def ask() -> None:
        service = AssessmentService(held, LIMITS, observer=Counting())
        calls = [asyncio.create_task(service.assess(upload)) for upload in uploads(10)]
        await settle(service, 10)
        held.may.set()
        await asyncio.gather(*calls)
        await service.close()

    asyncio.run(ask())
    assert held.batches == seen
    assert sum(seen) == 10
    assert max(seen[1:]) == 4  # the first took what was there
    assert len(seen) <= 4


def test_who_comes_when_it_is_full_is_told_so_and_the_others_are_answered(held: HeldAssessor) -> None:
    async def ask() -> None:
        service = AssessmentService(held, LIMITS)
        calls = [asyncio.create_task(service.assess(upload)) for upload in uploads(12)]
        await settle(service, 12)
        assert not service.ready
        with pytest.raises(OverloadedError, match="12 images wait") as refused:
            await service.assess(uploads(1)[0])
        assert refused.value.retry_after_s >= 1
        held.may.set()
        assert len(await asyncio.gather(*calls)) == 12
        assert service.ready
        await service.close()

    asyncio.run(ask())


def test_one_client_leaves_room_in_the_queue_for_others(held: HeldAssessor) -> None:
    async def ask() -> None:
        service = AssessmentService(held, replace(LIMITS, queue_of_client=5))
        calls = [asyncio.create_task(service.assess(upload, client="a")) for upload in uploads(5)]
        await settle(service, 5)
        many = [asyncio.create_task(service.assess_many(uploads(9), client="a")) for _ in range(6)]
        calls.append(asyncio.create_task(service.assess(uploads(1)[0], client="b")))
        await settle(service, 6)
        assert service._accepted == {"a": 5, "b": 1}
        assert service.ready
        held.may.set()
        assert len(await asyncio.gather(*calls)) == 6
        for answers in await asyncio.gather(*many):
            assert [type(answer) for answer in answers] == [Assessment] * 9
        assert not service._accepted
        await service.close()

    asyncio.run(ask())


def test_closing_finishes_what_was_accepted_and_refuses_what_comes(held: HeldAssessor) -> None:
    async def ask() -> None:
        service = AssessmentService(held, LIMITS)
        calls = [asyncio.create_task(service.assess(upload)) for upload in uploads(6)]
        await settle(service, 6)
        closing = asyncio.create_task(service.close())
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadedError, match="about to stop"):
            await service.assess(uploads(1)[0])
        assert not closing.done()
        held.may.set()
        assert len(await asyncio.gather(*calls)) == 6
        await closing
        assert not service.ready

    asyncio.run(ask())


def test_an_image_on_which_the_network_fails_spoils_no_other(tiny_bundle: Bundle) -> None:
    class Failing(HeldAssessor):
        def look(self, prepared, *, activation=False):
            seen = super().look(prepared, activation=activation)
            if any(image.name == "2.png" for image in prepared):
                raise BundleError("not finite")
            return seen

    assessor = Failing(tiny_bundle)

    async def ask() -> list[Assessment | BaseException]:
        service = AssessmentService(assessor, LIMITS)
        calls = [asyncio.create_task(service.assess(upload)) for upload in uploads(5)]
        await settle(service, 5)
        assessor.may.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await service.close()
        return answers

    answers = asyncio.run(ask())
    assert [type(answer) for answer in answers] == [
        Assessment,
        Assessment,
        BundleError,
        Assessment,
        Assessment,
    ]


def test_a_fault_of_ours_reaches_its_caller_and_the_next_is_answered(tiny_bundle: Bundle) -> None:
    class Faulty(Assessor):
        faults = 1

        def look(self, prepared, *, activation=False):
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError
            return super().look(prepared, activation=activation)

    async def ask() -> None:
        service = AssessmentService(Faulty(tiny_bundle, threads=1), LIMITS)
        with pytest.raises(ZeroDivisionError):
            await service.assess(uploads(1)[0])
        assert (await service.assess(uploads(1)[0])).decision
        await service.close()

    asyncio.run(ask())


def test_a_caller_who_has_gone_costs_the_network_nothing(held: HeldAssessor) -> None:
    async def ask() -> None:
        service = AssessmentService(held, LIMITS)
        staying, *leaving = uploads(4)
        first = asyncio.create_task(service.assess(staying))
        await settle(service, 1)
        calls = [asyncio.create_task(service.assess(upload)) for upload in leaving]
        await settle(service, 4)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        held.may.set()
        await first
        await service.close()
        assert held.batches == [1]

    asyncio.run(ask())


def test_many_are_answered_in_their_order_with_what_keeps_one_from_an_answer_in_its_place(
    tiny_bundle: Bundle,
) -> None:
    sent = uploads(30)  # more than the queue holds
    sent[3] = replace(sent[3], data=sent[3].data[:900])
    sent[7] = replace(sent[7], data=b"no image")

    async def ask() -> list[object]:
        service = AssessmentService(Assessor(tiny_bundle, threads=1), LIMITS)
        with pytest.raises(UsageError, match="no operating point"):
            await service.assess_many(sent, operating_point="nonsense")
        answers = await service.assess_many(sent)
        await service.close()
        return answers

    answers = asyncio.run(ask())
    assert isinstance(answers[3], TruncatedImageError)
    assert isinstance(answers[7], NotAnImageError)
    names = [answer.name for answer in answers if isinstance(answer, Assessment)]
    assert names == [upload.name for n, upload in enumerate(sent) if n not in (3, 7)]


def test_a_lesion_is_judged_as_the_runtime_does(tiny_bundle: Bundle) -> None:
    assessor = Assessor(tiny_bundle, threads=1)
    sent = uploads(3)

    async def ask() -> Assessment:
        service = AssessmentService(assessor, LIMITS)
        with pytest.raises(UsageError, match="No image"):
            await service.assess_lesion([])
        answer = await service.assess_lesion(sent, heatmap=True)
        await service.close()
        return answer

    expected = combine([bare(assessor, upload, heatmap=True) for upload in sent])
    answer = asyncio.run(ask())
    assert answer.decision == expected.decision
    assert answer.melanoma_score == pytest.approx(expected.melanoma_score, rel=1e-5)


@pytest.mark.parametrize("queue", [64, 12, 2])
def test_a_lesion_of_many_images_keeps_no_single_image_of_another_waiting(
    tiny_bundle: Bundle, queue: int
) -> None:
    lesion_of_50, single = uploads(1) * 50, uploads(2)[1]

    async def ask() -> tuple[Assessment, list[Assessment]]:
        service = AssessmentService(Assessor(tiny_bundle, threads=1), replace(LIMITS, queue=queue))
        slow = asyncio.create_task(service.assess_lesion(lesion_of_50))
        await asyncio.sleep(0)
        singles = []
        while not slow.done() and len(singles) < 3:
            assert service.ready
            singles.append(await service.assess(single))
        assert not slow.done()
        answer = await slow
        await service.close()
        return answer, singles

    answer, singles = asyncio.run(ask())
    assert len(answer.images) == 50
    assert [one.name for one in singles] == [single.name] * 3


def test_large_images_are_decoded_one_at_a_time(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    class Watching(Assessor):
        def prepare(self, image):
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            prepared = super().prepare(image)
            threading.Event().wait(0.01)
            with lock:
                at_once -= 1
            return prepared

    limits = replace(LIMITS, light_pixels=1_000, decode_threads=4, images=ImageLimits(max_pixels=10_000))

    async def ask() -> None:
        service = AssessmentService(Watching(tiny_bundle, threads=1), limits)
        await asyncio.gather(*map(service.assess, uploads(6)))
        with pytest.raises(ImageTooLargeError):
            await service.assess(Upload(name="x", data=encode(np.zeros((200, 100, 3), np.uint8), "PNG")))
        await service.close()

    asyncio.run(ask())
    assert most == 1


def test_large_images_keep_no_small_one_waiting(tiny_bundle: Bundle) -> None:
    may = threading.Event()

    class Holding(Assessor):
        def prepare(self, image):
            if image.height_px > 100:
                may.wait(20)
            return super().prepare(image)

    large = [Upload(name="x", data=encode(lesion(200, 150), "PNG"))] * 3

    async def ask() -> None:
        service = AssessmentService(Holding(tiny_bundle, threads=1), replace(LIMITS, light_pixels=10_000))
        waiting = asyncio.gather(*map(service.assess, large))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await service.assess(uploads(1)[0])
        may.set()
        await waiting
        await service.close()

    asyncio.run(ask())
