"""Which single pod to ask for, and when."""

from shipper.filters.kubernetes.pace import Pace
from shipper.filters.kubernetes.questions import KEEP_S, Questions
from tests.filters.kubernetes.conftest import source_of

PACE = Pace(grace_s=0.5, retry_first_s=1.0, retry_max_s=30.0)


def test_the_watch_gets_a_moment_before_the_api_is_asked() -> None:
    questions = Questions(PACE)
    assert questions.ask(source_of("u1", "web-1"), 10.0)
    question = questions.next()
    assert question is not None
    assert (question.uid, question.namespace, question.pod, question.due) == ("u1", "default", "web-1", 10.5)


def test_a_pod_is_asked_for_once() -> None:
    questions = Questions(PACE)
    assert questions.ask(source_of("u1", "web-1"), 10.0)
    assert not questions.ask(source_of("u1", "web-1", container="proxy"), 11.0)
    assert len(questions) == 1


def test_the_one_that_is_due_first_comes_first() -> None:
    questions = Questions(PACE)
    questions.ask(source_of("u1", "web-1"), 10.0)
    questions.ask(source_of("u2", "web-2"), 11.0)
    first = questions.next()
    assert first is not None
    questions.postpone(first, 20.0)
    after = questions.next()
    assert after is not None
    assert (first.uid, after.uid) == ("u1", "u2")


def test_retries_come_slower_and_slower_up_to_a_limit() -> None:
    questions = Questions(PACE)
    questions.ask(source_of("u1", "web-1"), 0.0)
    question = questions.next()
    assert question is not None
    delays = []
    for _ in range(40):
        questions.postpone(question, 0.0)
        delays.append(question.due)
    assert 0.5 <= delays[0] <= 2.0
    assert all(15.0 <= delay <= 30.0 for delay in delays[10:])


def test_an_answer_or_the_end_of_interest_closes_it() -> None:
    questions = Questions(PACE)
    for uid in ("u1", "u2", "u3"):
        questions.ask(source_of(uid, uid), 0.0)
    questions.close("u1")
    questions.retain({"u3"}, KEEP_S - 1)
    assert questions.is_open("u2")  # its file may be newer than the list
    questions.retain({"u3"}, KEEP_S + 1)
    assert not questions.is_open("u1")
    assert not questions.is_open("u2")
    assert questions.is_open("u3")
