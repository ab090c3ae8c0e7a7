"""The client against a real HTTP endpoint: every completion once, whatever the endpoint and the budget do."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codegym_jax.config import ConfigError
from codegym_jax.synthesis.llm.client import Client, Unanswered, wait_before_s
from codegym_jax.synthesis.llm.endpoint import Endpoint, EndpointError, most, retry_after_s
from codegym_jax.synthesis.llm.ledger import Ledger, Usage
from codegym_jax.synthesis.llm.settings import BudgetConfig, EndpointConfig, LlmConfig
from codegym_jax.synthesis.llm.store import Completion, CompletionStore, Request
from tests.synthesis.llm.loopback import Asked, Fail, Say, serving

WAIT_S = 0.002


def settings(url: str = "http://127.0.0.1:1/v1", **changes) -> EndpointConfig:
    defaults = {"concurrency": 4, "first_wait_s": WAIT_S, "longest_wait_s": 4 * WAIT_S, "timeout_s": 20.0}
    return EndpointConfig(base_url=url, model="writer", **(defaults | changes))


def request(prompt: str = "hello", index: int = 0, **changes) -> Request:
    plain = Request(
        prompt=prompt, template="t@1", model="writer", temperature=0.5, max_tokens=60, index=index
    )
    return replace(plain, **changes)


def ask(
    config: EndpointConfig,
    store: Path,
    requests: list[Request],
    budget: BudgetConfig | None = None,
    look: Callable[[Client, Ledger], None] = lambda client, ledger: None,
) -> list[Completion | Unanswered]:
    async def all_of_them() -> list[Completion | Unanswered]:
        completions = CompletionStore(store)
        spent = Usage(completions.prompt_tokens, completions.completion_tokens)
        ledger = Ledger(budget or BudgetConfig(), spent)
        client = Client(Endpoint(config, "secret"), completions, ledger, config)
        try:
            return await client.ask_all(requests)
        finally:
            await client.close()
            look(client, ledger)

    return asyncio.run(all_of_them())


def echo(asked: Asked) -> Say:
    return Say(f"{asked.prompt}/{asked.seed}")


def texts(results: list[Completion | Unanswered]) -> list[str]:
    return [one.text if isinstance(one, Completion) else one.reason for one in results]


def test_answers_come_in_the_order_of_the_requests_and_are_paid_for_once(tmp_path: Path):
    requests = [request(prompt, index) for prompt in "abc" for index in range(4)]
    expected = [f"{prompt}/{index}" for prompt in "abc" for index in range(4)]
    four = threading.Barrier(4)

    def answer(asked: Asked) -> Say:
        four.wait(timeout=60)  # so many must be under way together
        return echo(asked)

    with serving(answer) as endpoint:
        for _ in range(2):
            assert texts(ask(settings(endpoint.url), tmp_path, requests)) == expected
        assert len(endpoint.answered) == 12 and set(endpoint.answered.values()) == {1}
        assert endpoint.most_at_a_time == 4
        body = endpoint.seen[0].body
    assert body["model"] == "writer" and body["temperature"] == 0.5 and body["max_tokens"] == 60


def test_equal_requests_at_the_same_time_are_one(tmp_path: Path):
    with serving(echo) as endpoint:
        results = ask(settings(endpoint.url), tmp_path, [request()] * 9 + [request(index=1)])
        assert texts(results) == ["hello/0"] * 9 + ["hello/1"]
        assert sorted(endpoint.attempts.values()) == [1, 1]


@pytest.mark.parametrize(
    "change",
    [{"prompt": "x"}, {"model": "m"}, {"temperature": 0.6}, {"max_tokens": 61}, {"extra_json": '{"a": 1}'}],
)
def test_whatever_changes_the_sampling_changes_the_key(change):
    assert request(**change).key != request().key == request(template="other").key


FAULTS = {
    "rate_limited": Fail(429),
    "server_error": Fail(503, body="<html>down</html>"),
    "dropped": Fail(),
    "malformed": Fail(200, body='{"choices": ['),
}


@pytest.mark.parametrize("cause", FAULTS)
def test_what_may_pass_is_tried_again_until_it_does(cause: str, tmp_path: Path):
    def answer(asked: Asked) -> Say | Fail:
        return FAULTS[cause] if asked.attempt < 3 else echo(asked)

    counts = {}
    with serving(answer) as endpoint:
        results = ask(
            settings(endpoint.url),
            tmp_path,
            [request(index=index) for index in range(2)],
            look=lambda client, ledger: counts.update(client.counts),
        )
        assert texts(results) == ["hello/0", "hello/1"]
        assert set(endpoint.attempts.values()) == {4}
    assert counts == {f"failed_{cause}": 6, "answered": 2, "truncated": 0}


@pytest.mark.parametrize(
    "body",
    ["[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
     '{"choices": [{"message": {"content": "x"}, "finish_reason": null}]}', "not JSON", ""],
)  # fmt: skip
def test_a_reply_that_is_no_chat_completion_is_never_kept(body: str, tmp_path: Path):
    def answer(asked: Asked) -> Say | Fail:
        return Fail(200, body=body) if asked.attempt == 0 else echo(asked)

    with serving(answer) as endpoint:
        assert texts(ask(settings(endpoint.url), tmp_path, [request()])) == ["hello/0"]
        assert endpoint.attempts.total() == 2


def test_a_connection_dropped_in_the_middle_of_a_reply_is_tried_again(tmp_path: Path):
    def answer(asked: Asked) -> Say | Fail:
        return Fail(in_the_middle=True) if asked.attempt == 0 else echo(asked)

    with serving(answer) as endpoint:
        assert texts(ask(settings(endpoint.url), tmp_path, [request()])) == ["hello/0"]


def test_a_slow_answer_is_not_waited_for(tmp_path: Path):
    def answer(asked: Asked) -> Say | Fail:
        if asked.attempt == 0:
            endpoint.ended.wait()
        return echo(asked)

    counts = {}
    with serving(answer) as endpoint:
        results = ask(
            settings(endpoint.url, timeout_s=0.5),
            tmp_path,
            [request()],
            look=lambda client, ledger: counts.update(client.counts),
        )
    assert texts(results) == ["hello/0"] and counts["failed_timed_out"] == 1


def test_nobody_comes_back_before_the_endpoint_says(tmp_path: Path):
    """Of a burst that is limited, all wait: the others would only be told the same."""
    burst = threading.Semaphore(3)

    def answer(asked: Asked) -> Say | Fail:
        if burst.acquire(blocking=False):
            return Fail(429, headers={"Retry-After": "0.3"})
        return echo(asked)

    with serving(answer) as endpoint:
        results = ask(settings(endpoint.url, concurrency=1), tmp_path, [request(p) for p in "abcd"])
        assert texts(results) == ["a/0", "b/0", "c/0", "d/0"]
        assert endpoint.too_early == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0), ("-3", 0.0), ("soon", 0.0),
     ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0), ("inf", 0.0), ("nan", 0.0), ("", 0.0), (None, 0.0)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after_s(header, now_s=40.0) == seconds


def test_waits_double_up_to_a_bound_and_depend_on_the_key_alone():
    config = settings(first_wait_s=1.0, longest_wait_s=8.0)
    for attempt, whole in enumerate([1.0, 2.0, 4.0, 8.0, 8.0, 8.0], start=1):
        waits = {wait_before_s(config, key, attempt) for key in map(str, range(50))}
        assert len(waits) == 50 and all(whole / 2 <= wait <= whole for wait in waits)
    assert wait_before_s(config, "k", 3) == wait_before_s(config, "k", 3)
    assert wait_before_s(config, "k", 5_000) <= 8.0


def test_an_endpoint_that_fails_for_good_is_left_alone(tmp_path: Path):
    config = {"max_attempts": 2, "max_failures": 3, "concurrency": 1}
    with serving(lambda asked: Fail(500)) as endpoint:
        results = ask(settings(endpoint.url, **config), tmp_path, [request(index=i) for i in range(6)])
        assert texts(results) == ["endpoint_failed"] * 3 + ["endpoint_down"] * 3
        assert endpoint.attempts.total() == 6
        endpoint.answer = echo
        results = ask(settings(endpoint.url, **config), tmp_path, [request(index=i) for i in range(6)])
        assert len(set(texts(results))) == 6


def test_a_refused_request_is_asked_once_and_harms_no_other(tmp_path: Path):
    def answer(asked: Asked) -> Say | Fail:
        return Fail(400) if asked.seed == 1 else echo(asked)

    with serving(answer) as endpoint:
        results = ask(settings(endpoint.url), tmp_path, [request(index=i) for i in range(3)])
        assert texts(results) == ["hello/0", "request_refused", "hello/2"]
        assert set(endpoint.attempts.values()) == {1}


@pytest.mark.parametrize(
    "fault",
    [Fail(401), Fail(404), Fail(429, body='{"error": {"message": "pay", "code": "insufficient_quota"}}')],
)
def test_an_endpoint_that_refuses_everything_ends_the_run(fault: Fail, tmp_path: Path):
    with serving(lambda asked: fault) as endpoint:
        with pytest.raises(EndpointError, match="refuses"):
            ask(settings(endpoint.url, concurrency=1), tmp_path, [request(index=i) for i in range(20)])
        assert endpoint.attempts.total() == 1


def test_what_is_under_way_when_a_run_ends_is_kept_and_nothing_more_is_sent(tmp_path: Path):
    arrived, go_on = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Say | Fail:
        if asked.seed == 1:
            return Fail(500)  # its next attempt would be the run's next request
        arrived.set()
        go_on.wait(timeout=60)
        return echo(asked)

    async def interrupted(config: EndpointConfig) -> None:
        completions = CompletionStore(tmp_path)
        client = Client(Endpoint(config, "secret"), completions, Ledger(BudgetConfig(), Usage()), config)
        everything = asyncio.create_task(client.ask_all([request(index=index) for index in range(4)]))
        await asyncio.to_thread(arrived.wait, 60)
        everything.cancel()
        with pytest.raises(asyncio.CancelledError):
            await everything
        ending = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        go_on.set()
        await ending

    with serving(answer) as endpoint:
        config = settings(endpoint.url, concurrency=2, first_wait_s=60.0, longest_wait_s=60.0)
        asyncio.run(interrupted(config))
        assert sorted(endpoint.attempts.values()) == [1, 1] and endpoint.answered.total() == 1
    store = CompletionStore(tmp_path)
    assert len(store) == 1 and store.get(request()) is not None
    store.close()


def test_tokens_and_money_are_counted(tmp_path: Path):
    budget = BudgetConfig(prompt_price=2.0, completion_price=8.0)
    ledgers: list[Ledger] = []
    for _ in range(2):  # the second time from the store alone
        with serving(echo) as endpoint:
            ask(
                settings(endpoint.url),
                tmp_path,
                [request(index=i) for i in range(10)],
                budget,
                look=lambda client, ledger: ledgers.append(ledger),
            )
    for ledger in ledgers:
        assert ledger.spent == Usage(1000, 500)
        assert ledger.money(ledger.spent) == pytest.approx((1000 * 2 + 500 * 8) / 1e6)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_budget_stops_before_the_request_that_might_exceed_it(concurrency: int, tmp_path: Path):
    """A request may take 129 tokens (5 bytes, framing of 64, 60 to write) and takes 60: 129 + 60 n <= 400."""
    bound = most(request()).tokens
    assert bound == 5 + 64 + 60
    limit = 400
    fitting = (limit - bound) // 60 + 1

    def answer(asked: Asked) -> Say:
        return Say("x", prompt_tokens=40, completion_tokens=20)

    reasons = []
    with serving(answer) as endpoint:
        config = settings(endpoint.url, concurrency=concurrency)
        requests = [request(index=i) for i in range(12)]
        results = ask(
            config,
            tmp_path,
            requests,
            BudgetConfig(tokens=limit),
            look=lambda client, ledger: reasons.append(client.stopped_because),
        )
        assert texts(results).count("x") == fitting and texts(results).count("budget") == 12 - fitting
        assert endpoint.attempts.total() == fitting
        assert reasons == [
            "the budget is used up: 300 of 400 tokens are spent and the next request may take 129"
        ]
        assert texts(ask(config, tmp_path, requests)) == ["x"] * 12
        assert set(endpoint.attempts.values()) == {1}


def test_a_budget_of_money_holds_over_runs(tmp_path: Path):
    with serving(echo) as endpoint:
        budget = BudgetConfig(money=0.002, prompt_price=10.0, completion_price=10.0)
        requests = [request(index=i) for i in range(3)]
        config = settings(endpoint.url, concurrency=1)
        assert texts(ask(config, tmp_path, requests, budget)) == ["hello/0", "budget", "budget"]
        assert texts(ask(config, tmp_path, requests, budget)) == ["hello/0", "budget", "budget"]
        assert endpoint.attempts.total() == 1


def test_a_truncated_completion_is_kept_as_what_it_is(tmp_path: Path):
    with serving(lambda asked: Say("half", finish_reason="length")) as endpoint:
        for _ in range(2):
            (result,) = ask(settings(endpoint.url), tmp_path, [request()])
            assert isinstance(result, Completion) and result.is_truncated
        assert endpoint.attempts.total() == 1


def test_an_endpoint_that_counts_no_tokens_is_charged_the_most(tmp_path: Path):
    body = '{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}'
    with serving(lambda asked: Fail(200, body=body)) as endpoint:
        (result,) = ask(settings(endpoint.url), tmp_path, [request()])
    assert isinstance(result, Completion)
    assert Usage(result.prompt_tokens, result.completion_tokens) == most(request())


def test_fields_of_the_body_can_be_added_and_left_out(tmp_path: Path):
    extra = '{"max_tokens": null, "max_completion_tokens": 9, "reasoning_effort": "low"}'
    with serving(echo) as endpoint:
        ask(settings(endpoint.url), tmp_path, [request(extra_json=extra)])
        body = endpoint.seen[0].body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 9 and body["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        (settings, {"concurrency": 0}, "llm.endpoint.concurrency must be at least 1"),
        (settings, {"extra_json": "[]"}, "llm.endpoint.extra_json"),
        (BudgetConfig, {"money": 5.0}, "llm.budget.money must be given with prices"),
        (BudgetConfig, {"tokens": -1}, "llm.budget.tokens"),
        (lambda **one: LlmConfig(endpoint=settings(), **one), {"candidate_temperature": 0.0}, "all the same"),
        (lambda **one: LlmConfig(endpoint=settings(), **one), {"min_test_share": 1.5}, r"in \(0, 1\]"),
    ],
)
def test_wrong_settings_are_named(section, changes, words):
    with pytest.raises(ConfigError, match=words):
        section(**changes)
