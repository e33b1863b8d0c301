"""The unmodified openai package asks a server of tiny models: each check prints `ok <name>` when it holds.

Called by tests/serve/python.rs as `client.py BASE_URL`; the server has the models chat, other and embed, and the key sk-test.
"""

import asyncio
import json
import sys

import openai
import pydantic

BASE = sys.argv[1]
client = openai.OpenAI(base_url=BASE, api_key="sk-test", max_retries=0, timeout=120)
# A random model likes white space and the end of its turn too well.
NO_END = {"256": -100, "257": -100, "258": -100}
NO_SPACE = {"32": -100, "10": -100, "9": -100, "13": -100, "220": -100, "198": -100}
ASK = [{"role": "user", "content": "hello"}]


class State(pydantic.BaseModel):
    """What a structured answer is read into."""

    pump: bool
    valves: list[bool]


class open_valve(pydantic.BaseModel):
    """Opens a valve."""

    fast: bool


def raises(kind, status, code, call):
    try:
        call()
    except openai.APIStatusError as error:
        assert type(error) is kind, (type(error), error)
        assert error.status_code == status and error.code == code, (error.status_code, error.code, error.body)
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def chat():
    one = client.chat.completions.create(
        model="chat", messages=ASK, max_tokens=16, temperature=0, logprobs=True, top_logprobs=2, logit_bias=NO_END
    )
    assert one.choices[0].finish_reason == "length" and one.usage.completion_tokens == 16
    assert len(one.choices[0].logprobs.content) == 16 and len(one.choices[0].logprobs.content[0].top_logprobs) == 2
    assert one.model_extra["x_selvedge"]["ran"] == "local"
    many = client.chat.completions.create(
        model="chat", messages=ASK, max_tokens=8, n=3, seed=3, stop=["zzz"], user="u", presence_penalty=0.5,
        extra_body={"top_k": 20, "min_p": 0.01},
    )
    assert len(many.choices) == 3
    return one.choices[0].message.content


def stream():
    whole = chat()
    parts, usage = [], None
    for chunk in client.chat.completions.create(
        model="chat", messages=ASK, max_tokens=16, temperature=0, logit_bias=NO_END,
        stream=True, stream_options={"include_usage": True},
    ):
        if chunk.choices:
            parts.append(chunk.choices[0].delta.content or "")
        usage = chunk.usage or usage
    assert "".join(parts) == whole and usage.completion_tokens == 16


def tools():
    tool = openai.pydantic_function_tool(open_valve)
    args = dict(model="chat", messages=ASK, tools=[tool], tool_choice="required", parallel_tool_calls=False,
                temperature=0, max_tokens=200, logit_bias=NO_SPACE)
    whole = client.chat.completions.parse(**args)
    call = whole.choices[0].message.tool_calls[0]
    assert call.function.name == "open_valve" and isinstance(call.function.parsed_arguments, open_valve)
    with client.chat.completions.stream(**args) as events:
        names = [event.type for event in events]
        final = events.get_final_completion()
    assert "tool_calls.function.arguments.done" in names, names
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    answer = client.chat.completions.create(
        model="chat", max_tokens=4,
        messages=ASK + [whole.choices[0].message.model_dump(exclude_none=True),
                        {"role": "tool", "tool_call_id": call.id, "content": "done"}],
    )
    assert answer.choices[0].message.role == "assistant"


def json_schema():
    parsed = client.chat.completions.parse(
        model="chat", messages=ASK, response_format=State, temperature=0, max_tokens=300, logit_bias=NO_SPACE
    )
    assert isinstance(parsed.choices[0].message.parsed, State), parsed
    whole = client.chat.completions.create(
        model="chat", messages=ASK, temperature=0, max_tokens=300, logit_bias=NO_SPACE,
        response_format={"type": "json_schema", "json_schema": {
            "name": "n", "schema": {"enum": [{"a": 1}, {"a": 2}]}, "strict": True}},
    )
    assert json.loads(whole.choices[0].message.content)["a"] in (1, 2)


def completions():
    many = client.completions.create(model="chat", prompt=["ab", "cd"], max_tokens=6, temperature=0, logit_bias=NO_END)
    assert [choice.index for choice in many.choices] == [0, 1]
    echo = client.completions.create(
        model="chat", prompt="ab", max_tokens=6, temperature=0, logit_bias=NO_END, echo=True, logprobs=1
    )
    assert echo.choices[0].text == "ab" + many.choices[0].text
    assert echo.choices[0].logprobs.token_logprobs[0] is None and len(echo.choices[0].logprobs.tokens) == 8
    parts = client.completions.create(model="chat", prompt="ab", max_tokens=6, temperature=0, logit_bias=NO_END, stream=True)
    assert "".join(part.choices[0].text for part in parts) == many.choices[0].text


def embeddings():
    # The package asks for base64 unless it is told otherwise.
    packed = client.embeddings.create(model="embed", input=["abc", "xyz"])
    plain = client.embeddings.create(model="embed", input=["abc", "xyz"], encoding_format="float")
    for one, other in zip(packed.data, plain.data):
        assert len(one.embedding) == 64
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding))


def models():
    assert [model.id for model in client.models.list()] == ["chat", "other", "embed"]
    assert client.models.retrieve("other").owned_by == "selvedge"


def errors():
    create = lambda **more: client.chat.completions.create(**{"model": "chat", "messages": ASK, "max_tokens": 4, **more})
    raises(openai.NotFoundError, 404, "model_not_found", lambda: create(model="gpt-4"))
    long = raises(openai.BadRequestError, 400, "context_length_exceeded", lambda: create(max_tokens=100_000))
    assert long.param == "messages" and long.type == "invalid_request_error", long.body
    raises(openai.BadRequestError, 400, "context_length_exceeded", lambda: create(max_tokens=100_000, stream=True))
    raises(openai.BadRequestError, 400, "invalid_value", lambda: create(temperature=-2))
    raises(openai.BadRequestError, 400, "unsupported_parameter", lambda: create(functions=[{"name": "f"}]))
    stranger = openai.OpenAI(base_url=BASE, api_key="wrong", max_retries=0)
    raises(openai.AuthenticationError, 401, "invalid_api_key", lambda: stranger.models.list())
    raises(openai.NotFoundError, 404, "unknown_url", lambda: client.files.list())


def busy():
    """More than the four places and sixteen that wait: some are told to come again, and the package does."""

    async def many(retries):
        asking = openai.AsyncOpenAI(base_url=BASE, api_key="sk-test", max_retries=retries, timeout=120)
        asks = [asking.chat.completions.create(model="chat", messages=ASK, max_tokens=120, logit_bias=NO_END)
                for _ in range(40)]
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = asyncio.run(many(0))
    full = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    right = [answer for answer in answers if not isinstance(answer, Exception)]
    assert full and right and len(full) + len(right) == 40, answers
    assert full[0].response.headers["retry-after"] == "1" and full[0].code == "queue_full"


def cancel():
    stream = client.chat.completions.create(model="chat", messages=ASK, max_tokens=400, logit_bias=NO_END, stream=True)
    for _ in zip(range(3), stream):
        pass
    stream.close()


def responses():
    whole = client.responses.create(
        model="chat", input="hello", instructions="short", max_output_tokens=12, temperature=0,
        extra_body={"logit_bias": NO_END},
    )
    assert whole.status == "incomplete" and whole.output_text and whole.usage.output_tokens == 12
    parts, final = [], None
    for event in client.responses.create(
        model="chat", input="hello", instructions="short", max_output_tokens=12, temperature=0, stream=True,
        extra_body={"logit_bias": NO_END},
    ):
        if event.type == "response.output_text.delta":
            parts.append(event.delta)
        if event.type == "response.incomplete":
            final = event.response
    assert "".join(parts) == whole.output_text == final.output_text
    parsed = client.responses.parse(
        model="chat", input=ASK, text_format=State, temperature=0, max_output_tokens=300,
        extra_body={"logit_bias": NO_SPACE},
    )
    assert isinstance(parsed.output_parsed, State)
    raises(openai.BadRequestError, 400, "unsupported_parameter",
           lambda: client.responses.create(model="chat", input="x", previous_response_id="resp_1"))


def response_tools():
    tool = {"type": "function", "name": "f", "strict": True, "parameters": {
        "type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}}
    args = dict(model="chat", input=ASK, tools=[tool], tool_choice="required", parallel_tool_calls=False,
                temperature=0, extra_body={"logit_bias": NO_SPACE})
    with client.responses.stream(**args) as events:
        names = [event.type for event in events]
        final = events.get_final_response()
    assert "response.function_call_arguments.done" in names and names[-1] == "response.completed", names
    call = final.output[0]
    assert call.type == "function_call" and isinstance(json.loads(call.arguments)["on"], bool)
    after = client.responses.create(
        model="chat", max_output_tokens=4,
        input=ASK + [call.model_dump(exclude_none=True), {"type": "function_call_output", "call_id": call.call_id, "output": "ok"}],
    )
    assert after.usage.output_tokens >= 1


for check in (chat, stream, tools, json_schema, completions, embeddings, models, errors, busy, cancel, responses, response_tools):
    check()
    print("ok", check.__name__, flush=True)
