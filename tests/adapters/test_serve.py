"""The server as OpenAI's own client sees it, and as a client that means no good does."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request

import jax
import jax.numpy as jnp
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.adapters.serve.app import Service
from codegym_jax.adapters.serve.limits import Limits
from codegym_jax.adapters.serve.serving import require_token
from codegym_jax.adapters.serve.speech import Speech
from codegym_jax.config import UserError
from codegym_jax.models import sharding
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.report.live.serving import listen
from codegym_jax.rollout.completions import CompletionEngine
from codegym_jax.rollout.generate import Sampler
from tests.adapters.serving import TOOLS, ScriptedSampler, served
from tests.rollout.scripted import small_renderer

MODEL = "policy"
RENDERER = small_renderer("hermes")
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
USER = {"role": "user", "content": "hello"}


def say(prompt: str) -> str | None:
    """What the scripted policy answers to the last thing that was said."""
    last = prompt.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
    begun = prompt.rpartition("<|im_start|>assistant\n")[2]
    if begun:
        return f' {{"a": {len(begun)}}}}}\n</tool_call>' if "arguments" in begun else CALL[len(begun) :]
    said = {
        "call": CALL,
        "calls": f"Both: {CALL}\n{CALL.replace('add', 'multiply')}",
        "broken": CALL[:-9],
        "forever": None,
        "umlaut": "Grüße – 你好 🙂!",
        "letters": "abc STOP def",
    }
    return said.get(last, f"You said {last}.") if "<tool_response>" not in last else "It is 2."


@contextlib.contextmanager
def scripted(limits=None, slots=4, context=2000, **settings):
    """A served policy by script: its engine, and a client that tries nothing twice."""
    sampler = ScriptedSampler(RENDERER, say, slots=slots, context=context)
    with CompletionEngine(sampler, None) as engine:
        service = Service(
            engine=engine, renderer=RENDERER, model_name=MODEL, limits=limits or Limits(), **settings
        )
        with served(service) as url:
            token = settings.get("token") or "none"
            with openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=300) as client:
                yield engine, client


@pytest.fixture(scope="module")
def client():
    with scripted() as (_, client):
        yield client


def ask(client, content, **settings):
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=MODEL, messages=messages, **settings)


def test_a_plain_answer(client):
    answer = ask(client, "hello", temperature=0, max_tokens=50)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "You said hello.")
    assert choice.finish_reason == "stop" and choice.message.tool_calls is None and choice.logprobs is None
    prompt = RENDERER.tokenizer.encode("user\nhello")
    assert answer.usage.prompt_tokens > len(prompt)
    assert answer.usage.completion_tokens == len(RENDERER.tokenizer.encode("You said hello.")) + 1
    assert answer.model == MODEL and [one.id for one in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
def test_it_ends_for_its_length(client, key):
    answer = ask(client, "forever", **{key: 7})
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 7


def test_calls_and_their_results(client):
    """Two calls with words before; their results come back, and the policy sees them."""
    answer = ask(client, "calls", tools=TOOLS)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Both: "
    calls = choice.message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("add", {"a": 1}),
        ("multiply", {"a": 1}),
    ]
    assert len({call.id for call in calls}) == 2
    results = [{"role": "tool", "tool_call_id": call.id, "content": "2"} for call in calls]
    messages = [{"role": "user", "content": "calls"}, choice.message, *results]
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert last.choices[0].message.content == "It is 2."
    one = ask(client, "calls", tools=TOOLS, parallel_tool_calls=False).choices[0].message.tool_calls
    assert [call.function.name for call in one] == ["add"]


def test_messages_with_more_than_they_need(client):
    """As other clients write them: keys that hold null, a call's name twice, text in parts, two systems."""
    call = {"id": "a", "type": "function", "name": "add", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "assistant", "content": "Hello.", "tool_calls": None},
        USER,
        {"role": "assistant", "content": None, "refusal": None, "function_call": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "a", "name": "add"},
    ]
    asked = {"temperature": 0.001, "store": False, "tools": TOOLS, "extra_body": {"tool_choice": None}}
    answer = client.chat.completions.create(model=MODEL, messages=messages, **asked)
    assert answer.choices[0].message.content == "It is 2."


def test_a_choice_of_tools(client):
    named = {"type": "function", "function": {"name": "multiply"}}
    call = ask(client, "hello", tools=TOOLS, tool_choice=named).choices[0].message.tool_calls[0]
    assert call.function.name == "multiply"
    call = ask(client, "hello", tools=TOOLS, tool_choice="required").choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("add", '{"a": 1}')
    text = ask(client, "call", tools=TOOLS, tool_choice="none").choices[0].message
    assert text.tool_calls is None and text.content == CALL
    assert ask(client, "call").choices[0].message.content == CALL, "no tools, no calls"
    assert ask(client, "broken", tools=TOOLS).choices[0].message.content == CALL[:-9]


@pytest.mark.parametrize("content", ["hello", "call", "calls", "broken", "umlaut", "letters"])
@pytest.mark.parametrize("stop", [None, ["STOP", "you"], "o"])
def test_a_stream_joined_is_the_answer_in_one_piece(client, content, stop):
    asked = {"tools": TOOLS, "logprobs": True, "extra_body": {"return_token_ids": True}, "stop": stop}
    whole = ask(client, content, **asked)
    usage = None
    text, reasons, calls, ids, scores, chunks = "", [], {}, [], [], 0
    for chunk in ask(client, content, stream=True, stream_options={"include_usage": True}, **asked):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            chunks += 1
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
            ids += getattr(choice, "token_ids", None) or []
            scores += choice.logprobs.content if choice.logprobs else []
            for call in choice.delta.tool_calls or ():
                calls[call.index] = (call.function.name, call.function.arguments)
    expected = whole.choices[0]
    assert text == (expected.message.content or "") and reasons == [expected.finish_reason]
    assert [calls[at] for at in sorted(calls)] == [
        (call.function.name, call.function.arguments) for call in expected.message.tool_calls or ()
    ]
    assert ids == expected.token_ids and scores == expected.logprobs.content
    assert usage == whole.usage and chunks > 3
    assert [score.token for score in scores] == [RENDERER.decode([one]) for one in ids]
    assert whole.prompt_token_ids[-1] == RENDERER.render_following([])[-1]
    if stop and content == "letters":
        assert text == ("abc " if stop != "o" else "abc STOP def")


TEXTS = st.text(alphabet='ab<>/tool_call\n{}":ü🙂', max_size=40) | st.sampled_from(
    [CALL, "<tool_call", "x" + CALL]
)


@settings(max_examples=150)
@given(
    texts=st.lists(TEXTS, max_size=3),
    stops=st.lists(st.sampled_from(["ab", "l_c", "b<", "🙂"]), max_size=2),
    cuts=st.lists(st.integers(1, 6)),
    tools=st.booleans(),
)
def test_what_is_told_bit_by_bit_is_the_content(texts, stops, cuts, tools):
    """However the tokens are cut, and whatever text looks like a call or a stop."""
    ids = RENDERER.tokenizer.encode("".join(texts))
    speech = Speech(RENDERER, TOOLS if tools else [], stops)
    told = ""
    for count in [*cuts, len(ids)]:
        if ids and not speech.stopped:
            told += speech.hear(ids[:count], [0.0] * len(ids[:count])).text
            ids = ids[count:]
    ending = speech.end("stop")
    assert told + ending.rest == (ending.message["content"] or "")
    assert not any(stop in told for stop in stops)


def test_several_choices(client):
    answer = ask(client, "forever", n=3, seed=5, max_tokens=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    again = ask(client, "forever", n=3, seed=5, max_tokens=5, stream=True)
    texts = ["", "", ""]
    for chunk in again:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


@pytest.fixture(scope="module")
def real():
    """A real policy, of random weights, whose sampler really samples."""
    model = Transformer(PRESETS["nano"], RENDERER.vocabulary_size)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 4), jnp.int32))
    sampler = Sampler(
        model, mesh, slots=8, max_tokens=256, max_message_tokens=8, stop_sequences=RENDERER.stop_sequences
    )
    with CompletionEngine(sampler, params) as engine:
        engine.warm_up()
        service = Service(engine=engine, renderer=RENDERER, model_name=MODEL)
        with (
            served(service) as url,
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=600) as client,
        ):
            yield sampler, engine, client


def test_sixty_four_streams_at_once_and_a_seed_gives_the_same_answer(real):
    """On eight slots; nothing is compiled meanwhile, and every slot is free at the end."""
    sampler, engine, client = real
    programs = sampler.compiled_programs

    def stream(number):
        asked = {"seed": number % 8, "max_tokens": 12, "temperature": 1.0 + number % 2, "top_p": 0.9}
        chunks = ask(client, f"hello {number % 8}", stream=True, **asked)
        return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        texts = list(pool.map(stream, range(64)))
    assert all(texts[number] == texts[number % 8] for number in range(64))
    assert len(set(texts)) == 8
    assert (
        ask(client, "hello 3", seed=3, max_tokens=12, temperature=2.0, top_p=0.9).choices[0].message.content
        == texts[3]
    )
    assert sampler.compiled_programs == programs == 4
    assert engine.load()[1:3] == (0, 0)


def wait_until_idle(engine):
    while engine.load()[1:3] != (0, 0):
        pass


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(stream):
    """One slot: who comes next would wait for ever."""
    limits = Limits(answer_tokens=10**9)
    with scripted(limits, slots=1, context=10**9) as (engine, client):
        place = urllib.parse.urlsplit(str(client.base_url))
        body = {"model": MODEL, "messages": [{"role": "user", "content": "forever"}], "stream": stream}
        with contextlib.closing(http.client.HTTPConnection(place.hostname, place.port)) as leaving:
            leaving.request(
                "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
            )
            if stream:
                assert leaving.getresponse().read(10) == b'data: {"id'
            while not engine.load().sampled_tokens:
                pass
            leaving.sock.shutdown(socket.SHUT_RDWR)
        assert ask(client, "hello").choices[0].message.content == "You said hello."
        wait_until_idle(engine)


def post(client, body, path="/v1/chat/completions", **headers):
    """Status and error of a body as it is."""
    place = urllib.parse.urlsplit(str(client.base_url))
    with contextlib.closing(http.client.HTTPConnection(place.hostname, place.port)) as connection:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())["error"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"messages": None}, "messages is missing"),
        ({"messages": []}, "messages must hold a message"),
        ({"messages": "hello"}, "messages must be a list"),
        ({"messages": [1]}, r"messages[0]: the key role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "the key content must hold text",
        ),
        ({"tools": [{}]}, "tools[0]"),
        ({"tools": "add"}, "tools must be a list"),
        ({"tool_choice": "some"}, "tool_choice must be"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "rm"}}}, "none of the tools"),
        ({"temperature": -1}, "temperature must be at least 0, got -1"),
        ({"temperature": "hot"}, "temperature must be"),
        ({"temperature": 10**400}, "temperature must be"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"n": 0}, "n must be from 1 to 16"),
        ({"n": True}, "n must be"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"stop": [""]}, "stop must be"),
        ({"stop": list("abcdefghijklmnopq")}, "stop must be"),
        ({"seed": 1.5}, "seed must be"),
        ({"logprobs": True, "top_logprobs": 5}, "top_logprobs is not supported here: the sampler keeps"),
        ({"logit_bias": {"5": 1}}, "logit_bias is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"functions": [{}]}, "use tools"),
        ({"colour": 1}, "unknown parameter colour"),
        ({"stream": "yes"}, "stream must be true or false"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(client, changed, told):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **changed}
    status, error = post(client, json.dumps(body))
    assert status == 400 and told in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "nul", b"\xff\xfe", '{"model": NaN}', "[" * 100_000, '{"a":1,"a":2}']
)
def test_a_body_that_is_no_request(client, body):
    status, error = post(client, body)
    assert status == 400 and "the body" in error["message"]


def test_what_asks_for_nothing_is_let_through(client):
    neutral = {"frequency_penalty": 0, "logit_bias": {}, "user": "me", "response_format": {"type": "text"}}
    assert ask(client, "hello", **neutral, store=False, top_logprobs=0).choices[0].message.content
    half = [{"role": "user", "content": "half \ud83d of a pair <|im_end|>"}]
    body = json.dumps({"model": MODEL, "messages": half})
    place = urllib.parse.urlsplit(str(client.base_url))
    with contextlib.closing(http.client.HTTPConnection(place.hostname, place.port)) as connection:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        assert connection.getresponse().status == 200


def test_who_may_not_and_what_is_not_there():
    with scripted(token="a-secret-of-length") as (_, client):
        other = client.with_options(api_key="wrong")
        for call in (lambda: ask(other, "hello"), lambda: other.models.list()):
            with pytest.raises(openai.AuthenticationError, match="bearer token"):
                call()
        with pytest.raises(openai.NotFoundError, match="'other' is not served here; 'policy' is"):
            client.chat.completions.create(model="other", messages=[USER])
        assert ask(client, "hello").choices[0].message.content == "You said hello."
        place = urllib.parse.urlsplit(str(client.base_url))
        with contextlib.closing(http.client.HTTPConnection(place.hostname, place.port)) as connection:
            for path, status in (
                ("/health", 200),
                ("/metrics", 401),
                ("/v1/chat/completions", 401),
                ("/x", 404),
            ):
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                assert response.status == status or (path.startswith("/v1") and response.status == 405)


def test_a_web_page_elsewhere_gets_nothing(client):
    """Neither by a name that was made to lead here, nor as a form."""
    body = json.dumps({"model": MODEL, "messages": [USER]})
    assert post(client, body, Host="evil.example")[0] == 421
    assert post(client, body, **{"content-type": "text/plain"})[0] == 415


def test_limits():
    """Body 413, context 400, a slow answer 408 in both forms, a full queue 429."""
    limits = Limits(body_bytes=1000, answer_s=0.2, waiting=1, answer_tokens=10**9)
    with scripted(limits, slots=1, context=10**9) as (engine, client):
        assert post(client, "x" * 1001)[0] == 413
        with pytest.raises(openai.APIStatusError, match=r"the answer took more than 0\.2 seconds") as caught:
            ask(client, "forever")
        assert caught.value.status_code == 408
        with pytest.raises(openai.APIError, match=r"more than 0\.2 seconds"):
            list(ask(client, "forever", stream=True))
        with pytest.raises(openai.RateLimitError, match="waiting"):
            ask(client, "hello", n=3)
        wait_until_idle(engine)
    with (
        scripted(context=40) as (_, client),
        pytest.raises(openai.BadRequestError, match="maximum context length is 40 tokens") as caught,
    ):
        ask(client, "hello" * 20)
    assert caught.value.code == "context_length_exceeded"


def test_a_policy_that_failed_is_told():
    with scripted() as (engine, client):
        engine.close()
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, "hello")
        assert caught.value.status_code == 503
        assert "503" not in str(client.models.list()), "what needs no policy is still told"


def test_metrics_are_of_prometheus_form():
    from prometheus_client.parser import text_string_to_metric_families

    with scripted() as (_, client):
        ask(client, "hello")
        place = urllib.parse.urlsplit(str(client.base_url))
        with contextlib.closing(http.client.HTTPConnection(place.hostname, place.port)) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["codegym_requests_total", "/v1/chat/completions", "200"] == 1
    assert samples["codegym_slots",] == 4 and samples["codegym_running",] == 0
    assert samples["codegym_first_token_seconds_count",] == samples["codegym_answer_seconds_count",] == 1
    assert samples["codegym_completion_tokens_total",] == samples["codegym_sampled_tokens_total",] > 5


def test_only_this_machine_may_ask_without_a_token():
    for host, token, told in (
        ("127.0.0.1", "", ""),
        ("0.0.0.0", "", "must bring a token"),
        ("0.0.0.0", "short", "16"),
    ):
        with contextlib.closing(listen(host, 0)) as bound:
            if not told:
                require_token(bound, token)
                continue
            with pytest.raises(UserError, match=told):
                require_token(bound, token)


@contextlib.contextmanager
def stopping(drain_s):
    """A server of its own process, and its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.adapters.stopped_server", str(drain_s)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    ) as process:
        yield process, process.stdout.readline().strip()


def test_told_to_stop_it_finishes_what_runs_and_takes_nothing_new():
    """A process of its own: SIGTERM comes in the midst of a stream, which gets its end; it ends with 0."""
    with stopping(drain_s=60) as (process, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300) as client:
            chunks = iter(ask(client, "hello", stream=True))
            first = next(chunks)
            process.send_signal(signal.SIGTERM)
            refused = threading.Event()
            while not refused.is_set():
                with contextlib.suppress(openai.APITimeoutError):
                    try:
                        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as other:
                            other.models.list()
                    except openai.APIConnectionError:
                        refused.set()
            process.stdin.write("go on\n")
            process.stdin.flush()
            rest = [choice for chunk in chunks for choice in chunk.choices]
        assert first.choices[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in rest) == "You said hello."
        assert rest[-1].finish_reason == "stop"
        assert process.wait() == 0


def test_told_to_stop_it_tells_those_it_waits_for_no_longer():
    """With no time to finish in: a stream gets an error as its last event, any other answer status 503."""
    with (
        stopping(drain_s=0) as (process, url),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        chunks = iter(ask(client, "hello", stream=True))
        next(chunks)
        whole = pool.submit(ask, client, "hello")
        while sum(open_completions(url)) < 2:
            pass
        process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="told to stop"):
            list(chunks)
        with pytest.raises(openai.InternalServerError, match="503 - the server was told to stop"):
            whole.result()
        process.stdin.close()
        assert process.wait() == 0


def open_completions(url):
    """Those that run, and those that wait."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        lines = response.read().decode().splitlines()
    for name in ("codegym_running", "codegym_waiting"):
        yield sum(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))
