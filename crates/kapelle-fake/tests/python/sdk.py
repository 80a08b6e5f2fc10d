"""The fake as the official SDKs see it: what they can do with it, and what it refuses them.

Called with the fake's URL. Ends with 1 and a line for each case that went wrong.
"""

import json
import sys
import traceback
import urllib.request
import warnings

import anthropic
import openai
from pydantic import BaseModel

warnings.simplefilter("ignore", DeprecationWarning)  # Some of the models are old on purpose.
URL = sys.argv[1]
CLAUDE, GPT = "claude-sonnet-4-6", "gpt-6-sol"
CASES = []


def case(check):
    CASES.append((check.__name__, check))
    return check


def claude(**more):
    return anthropic.Anthropic(**({"api_key": "sk-main", "base_url": URL, "auth_token": None} | more))


def gpt(**more):
    return openai.OpenAI(**({"api_key": "sk-main", "base_url": f"{URL}/v1"} | more))


A, O = claude(), gpt()
A0, O0 = claude(max_retries=0), gpt(max_retries=0)
A_OLD = claude(max_retries=0, default_headers={"anthropic-version": "2023-06-01"})


def journal():
    with urllib.request.urlopen(f"{URL}/__journal") as answer:
        return json.load(answer)


def user(content="hello"):
    return {"role": "user", "content": content}


def said(*content):
    return {"role": "assistant", "content": list(content)}


def ask(client=A0, **more):
    return client.messages.create(**({"model": CLAUDE, "max_tokens": 200, "messages": [user()]} | more))


def chat(client=O0, **more):
    return client.chat.completions.create(**({"model": GPT, "messages": [user()]} | more))


class Person(BaseModel):
    name: str
    age: int


WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
FUNCTION = {
    "type": "function",
    "function": {"name": "weather", "parameters": WEATHER["input_schema"]},
}


# --- what works: Anthropic


@case
def claude_answers():
    message = ask()
    assert message.content[0].text == "hello" and message.stop_reason == "end_turn"
    assert message._request_id.startswith("req_"), message._request_id
    assert message.usage.input_tokens == A.messages.count_tokens(model=CLAUDE, messages=[user()]).input_tokens


@case
def claude_streams():
    with A.messages.stream(model=CLAUDE, max_tokens=200, messages=[user("one two three four five six")]) as stream:
        assert "".join(stream.text_stream) == "one two three four five six"
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn" and message.usage.output_tokens == 7
    kinds = [event.type for event in ask(stream=True)]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"


@case
def claude_calls_tools_in_parallel():
    turns = [user("how is the weather?")]
    more = {"tools": [WEATHER], "thinking": {"type": "adaptive"}}
    with A.messages.stream(model=CLAUDE, max_tokens=200, messages=turns, **more) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.content[2].input == {"city": "Bern", "days": [1, 2]}
    assert message.content[3].input == {"city": "Łódź"}
    assert message.stop_reason == "tool_use"
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": text}
        for block, text in zip(message.content[2:], ["sun", "rain"])
    ]
    turns += [{"role": "assistant", "content": message.content}, user(results)]
    answer = ask(A, messages=turns, **more)
    assert answer.content[0].text == "they say sun\nrain", answer
    one = ask(messages=turns[:1], tools=[WEATHER], tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert [block.type for block in one.content] == ["text", "tool_use"]


@case
def a_tool_that_is_forced_is_called():
    call = ask(tools=[WEATHER], tool_choice={"type": "tool", "name": "weather"}).content[-1]
    assert (call.name, call.input) == ("weather", {"city": "fake"}), call
    choice = chat(tools=[FUNCTION], tool_choice="required").choices[0]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "fake"}
    assert choice.finish_reason == "tool_calls"


@case
def claude_obeys_a_schema():
    answer = A.messages.parse(model=CLAUDE, max_tokens=200, messages=[user("a person")], output_format=Person)
    assert answer.parsed_output == Person(name="Ada", age=36)
    answer = A.messages.parse(model=CLAUDE, max_tokens=200, messages=[user()], output_format=Person)
    assert isinstance(answer.parsed_output, Person)


@case
def claude_thinks():
    with A.messages.stream(
        model="claude-opus-4-5", max_tokens=4000, messages=[user("think")], thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        message = stream.get_final_message()
    assert message.content[0].thinking == "deep thoughts" and message.content[0].signature
    assert message.usage.output_tokens_details.thinking_tokens == 4
    turns = [user("think"), {"role": "assistant", "content": message.content}, user("again")]
    assert ask(model="claude-opus-4-5", messages=turns).content[0].text == "again"


@case
def claude_lists_models():
    models = [model.id for model in A.models.list(limit=4)]
    assert len(models) == len(set(models)) >= 15 and "claude-opus-5-5" in models
    model = A.models.retrieve("tiny")
    assert model.max_input_tokens == 40 and model.created_at.year == 2026


@case
def claude_reads_its_cache():
    system = [{"type": "text", "text": "long " * 2000, "cache_control": {"type": "ephemeral"}}]
    first, second = ask(system=system).usage, ask(system=system).usage
    assert first.cache_creation_input_tokens == second.cache_read_input_tokens == 2504, (first, second)
    assert first.cache_creation.ephemeral_5m_input_tokens == 2504


@case
def claude_refuses():
    message = ask(messages=[user("forbidden")])
    assert message.stop_reason == "refusal" and message.stop_details.type == "refusal"


@case
def the_sdks_retry_what_is_limited():
    assert ask(A, messages=[user("limited")], max_tokens=201).content[0].text == "at last"
    mine = [entry for entry in journal() if entry["rule"] == "slow down"]
    assert [entry["status"] for entry in mine] == [429, 200] and not any(e["early"] for e in mine), mine


@case
def the_sdks_retry_what_is_overloaded():
    assert ask(A, messages=[user("overloaded")]).content[0].text == "at last"
    statuses = [entry["status"] for entry in journal() if entry["rule"] == "overloaded"]
    assert statuses == [529, 503, 200], statuses


# --- what works: OpenAI


@case
def gpt_answers():
    answer = chat()
    assert answer.choices[0].message.content == "hello" and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id.startswith("req_")
    assert len(chat(n=2).choices) == 2


@case
def gpt_streams():
    chunks = list(chat(messages=[user("one two three four five six")], stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "one two three four five six"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 7


@case
def gpt_calls_tools_in_parallel():
    turns = [user("how is the weather?")]
    with O.chat.completions.stream(model=GPT, messages=turns, tools=[FUNCTION]) as stream:
        choice = stream.get_final_completion().choices[0]
    calls = choice.message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Bern", "Łódź"]
    assert choice.finish_reason == "tool_calls"
    turns.append(chat(messages=turns, tools=[FUNCTION]).choices[0].message)
    turns += [
        {"role": "tool", "tool_call_id": call.id, "content": text}
        for call, text in zip(turns[1].tool_calls, ["sun", "rain"])
    ]
    assert chat(messages=turns, tools=[FUNCTION]).choices[0].message.content == "they say sun\nrain"


@case
def gpt_obeys_a_schema():
    answer = O.chat.completions.parse(model=GPT, messages=[user("a person")], response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    answer = chat(messages=[user("in json")], response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content)


@case
def gpt_lists_models():
    assert "gpt-6-sol" in [model.id for model in O.models.list()]
    assert O.models.retrieve("tiny").object == "model"


@case
def gpt_counts_thoughts():
    usage = chat(messages=[user("think")]).usage
    assert usage.completion_tokens_details.reasoning_tokens == 4
    usage = chat(messages=[user("think")], reasoning_effort="none").usage
    assert usage.completion_tokens_details.reasoning_tokens == 0


# --- what is refused: Anthropic


def refused(name, error, kind, part, **more):
    def check():
        try:
            ask(**more)
        except error as raised:
            assert type(raised) is error, type(raised)
            assert raised.type == kind, raised.type
            assert raised.request_id and part in raised.api_message, raised.api_message
        else:
            raise AssertionError("it was not refused")

    CASES.append((f"claude: {name}", check))


BAD = (anthropic.BadRequestError, "invalid_request_error")
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"}
TEXT = {"type": "text", "text": "words"}
OBJECT = {"type": "object", "additionalProperties": False, "properties": {}}
MARKED = TEXT | {"cache_control": {"type": "ephemeral"}}
HOUR = TEXT | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def formatted(schema):
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


refused("unknown key", anthropic.AuthenticationError, "authentication_error", "x-api-key", client=claude(api_key="sk-x", max_retries=0))
refused("denied key", anthropic.PermissionDeniedError, "permission_error", "", client=claude(api_key="sk-old", max_retries=0))
refused("unknown model", anthropic.NotFoundError, "not_found_error", "model: gpt-6-sol", model=GPT)
refused("no version", *BAD, "header is required", client=claude(default_headers={"anthropic-version": anthropic.Omit()}))
refused("wrong version", *BAD, "not a valid version", client=claude(default_headers={"anthropic-version": "2020-01-01"}))
refused("no max_tokens", *BAD, "max_tokens: Field required", max_tokens=anthropic.omit, timeout=9)
refused("max_tokens too large", *BAD, "max_tokens: 64001 > 64000", max_tokens=64001, timeout=9)
refused("max_tokens is no number", *BAD, "max_tokens", max_tokens="many", timeout=9)
refused("temperature is gone", *BAD, "temperature: Extra inputs", extra_body={"temperature": 0.5})
refused("top_p is gone", *BAD, "top_p: Extra inputs", extra_body={"top_p": 0.5})
refused("top_k is gone", *BAD, "top_k: Extra inputs", extra_body={"top_k": 5})
refused("unknown field", *BAD, "colour: Extra inputs", extra_body={"colour": "red"})
refused("unknown field of a block", *BAD, "messages.0.content.0.colour", messages=[user([TEXT | {"colour": "red"}])])
refused("unknown role", *BAD, "messages.0.role: Input should be 'user' or 'assistant'", messages=[{"role": "system", "content": "x"}])
refused("no messages", *BAD, "at least one message", messages=[])
refused("assistant first", *BAD, "first message must use", messages=[said(TEXT), user()])
refused("empty content", *BAD, "non-empty content", messages=[user("")])
refused("empty text block", *BAD, "text content blocks must be non-empty", messages=[user([{"type": "text", "text": ""}])])
refused("unknown block", *BAD, "Input tag 'poem'", messages=[user([{"type": "poem"}])])
refused("prefill", *BAD, "does not support assistant message prefill", messages=[user(), said(TEXT)])
refused("space at the end of a prefill", *BAD, "trailing whitespace", model="claude-sonnet-4-5", messages=[user(), said(TEXT | {"text": "a "})])
refused("no result", *BAD, "without `tool_result` blocks immediately after: toolu_1", messages=[user(), said(CALL), user()])
refused("no result at the end", *BAD, "without `tool_result`", messages=[user(), said(CALL)])
refused("result is not first", *BAD, "without `tool_result`", messages=[user(), said(CALL), user([TEXT, RESULT])])
refused("one result of two", *BAD, "immediately after: toolu_2", messages=[user(), said(CALL, CALL | {"id": "toolu_2"}), user([RESULT])])
refused("result without a call", *BAD, "unexpected `tool_use_id`", messages=[user([RESULT])])
refused("two results for a call", *BAD, "single result", messages=[user(), said(CALL), user([RESULT, RESULT])])
refused("two calls of one id", *BAD, "ids must be unique", messages=[user(), said(CALL, CALL), user([RESULT])])
refused("result from the assistant", *BAD, "Input tag 'tool_result'", messages=[user(), said(RESULT), user()])
refused("call from the user", *BAD, "Input tag 'tool_use'", messages=[user([CALL])])
refused("unsigned thought", *BAD, "signature: Field required", messages=[user(), said({"type": "thinking", "thinking": "hm"}, TEXT), user()])
refused("foreign thought", *BAD, "Invalid `signature`", messages=[user(), said({"type": "thinking", "thinking": "hm", "signature": "x"}, TEXT), user()])
refused("document of the assistant", *BAD, "`document` blocks", messages=[user(), said({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}), user()])
refused("citations of the user", *BAD, "citations are not permitted", messages=[user([TEXT | {"citations": [{"type": "char_location"}]}])])
refused("forced tool on a new model", *BAD, 'tool_choice.type: "any"', model="claude-opus-5-5", tools=[WEATHER], tool_choice={"type": "any"})
refused("forced tool by name", *BAD, 'tool_choice.type: "tool"', model="claude-sonnet-5-5", tools=[WEATHER], tool_choice={"type": "tool", "name": "weather"})
refused("choice of a tool that is not there", *BAD, "Tool 'walk' not found", tools=[WEATHER], tool_choice={"type": "tool", "name": "walk"})
refused("choice without tools", *BAD, "only be specified while providing tools", tool_choice={"type": "auto"})
refused("forced tool while thinking", *BAD, "Thinking may not be enabled", tools=[WEATHER], tool_choice={"type": "any"}, thinking={"type": "adaptive"})
refused("name of a tool", *BAD, "tools.0.name", tools=[WEATHER | {"name": "two words"}])
refused("tools of one name", *BAD, "Tool names must be unique", tools=[WEATHER, WEATHER])
refused("tool without a schema", *BAD, "tools.0.input_schema: Field required", tools=[{"name": "x"}])
refused("schema of a tool", *BAD, "JSON schema is invalid", tools=[WEATHER | {"input_schema": {"type": "object", "properties": {"a": {"type": "text"}}}}])
refused("thinking always on", *BAD, 'thinking.type: "disabled"', model="claude-opus-5-5", thinking={"type": "disabled"})
refused("budget too small", *BAD, "thinking.budget_tokens", model="claude-opus-4-5", thinking={"type": "enabled", "budget_tokens": 1000})
refused("budget too large", *BAD, "must be greater than `thinking.budget_tokens`", model="claude-opus-4-5", thinking={"type": "enabled", "budget_tokens": 5000})
refused("between_tools elsewhere", *BAD, "between_tools", thinking={"type": "between_tools"})
refused("open schema", *BAD, "'additionalProperties' is required", **formatted({"type": "object", "properties": {}}))
refused("bounds in a schema", *BAD, "'minimum' is not supported", **formatted(OBJECT | {"properties": {"a": {"type": "integer", "minimum": 1}}}))
refused("schema that is none", *BAD, "no JSON Schema", **formatted(OBJECT | {"type": "thing"}))
refused("format of another kind", *BAD, "output_config.format", output_config={"format": {"type": "xml", "schema": {}}})
refused("too many markers", *BAD, "maximum of 4 blocks", messages=[user([MARKED] * 5)])
refused("an hour after five minutes", *BAD, "must not come after", messages=[user([MARKED, HOUR])])
refused("prompt too long", *BAD, "prompt is too long: 54 tokens > 40 maximum", model="tiny", max_tokens=20, messages=[user("x" * 200)])
refused("spent", anthropic.RateLimitError, "rate_limit_error", "spend limit", messages=[user("spent")])


@case
def an_older_version_still_takes_a_temperature():
    assert ask(A_OLD, extra_body={"temperature": 0.5}).content[0].text == "hello"


@case
def claude_errors_of_the_server():
    try:
        ask(messages=[user("status 500")])
    except anthropic.InternalServerError as raised:
        assert raised.type == "api_error" and raised.status_code == 500
    else:
        raise AssertionError("it was not raised")
    try:
        list(ask(messages=[user("late error")], stream=True))
    except anthropic.APIStatusError as raised:
        assert raised.type == "overloaded_error", raised
    else:
        raise AssertionError("it was not raised")


@case
def claude_streams_that_break():
    for words in ["cut off", "malformed"]:
        try:
            list(ask(messages=[user(words)], stream=True))
        except Exception as raised:  # The SDK has no class of its own for these.
            assert not isinstance(raised, anthropic.APIStatusError), raised
        else:
            raise AssertionError(f"{words}: nothing was raised")


# --- what is refused: OpenAI


def spurned(name, error, code, part, **more):
    def check():
        try:
            chat(**more)
        except error as raised:
            assert type(raised) is error, type(raised)
            assert raised.code == code, raised.code
            assert raised.request_id and part in raised.message, raised.message
        else:
            raise AssertionError("it was not refused")

    CASES.append((f"gpt: {name}", check))


POOR = openai.BadRequestError
TURN = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}
TOOL = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}


def shaped(schema, strict=True):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": strict, "schema": schema}}}


spurned("unknown key", openai.AuthenticationError, "invalid_api_key", "Incorrect API key", client=gpt(api_key="sk-x"))
spurned("denied key", openai.PermissionDeniedError, None, "refused", client=gpt(api_key="sk-old"))
spurned("unknown model", openai.NotFoundError, "model_not_found", "does not exist", model=CLAUDE)
spurned("unknown field", POOR, "unknown_parameter", "'colour'", extra_body={"colour": "red"})
spurned("no messages", POOR, "empty_array", "empty array", messages=[])
spurned("missing messages", POOR, "missing_required_parameter", "'messages'", messages=openai.omit)
spurned("unknown role", POOR, "invalid_value", "Supported values are", messages=[{"role": "robot", "content": "x"}])
spurned("old max_tokens", POOR, "unsupported_parameter", "max_completion_tokens", max_tokens=5)
spurned("too many tokens", POOR, "invalid_value", "at most 128000", max_completion_tokens=128001)
spurned("orphan tool message", POOR, None, "must be a response to", messages=[user(), TOOL])
spurned("missing tool message", POOR, None, "did not have response messages: call_1", messages=[user(), TURN, user()])
spurned("missing tool message at the end", POOR, None, "did not have response", messages=[user(), TURN])
spurned("tool message of another call", POOR, None, "not found in 'tool_calls'", messages=[user(), TURN, TOOL | {"tool_call_id": "call_2"}])
spurned("two tool messages for a call", POOR, None, "not found in 'tool_calls'", messages=[user(), TURN, TOOL, TOOL])
spurned("two calls of one id", POOR, None, "Duplicate value", messages=[user(), TURN | {"tool_calls": TURN["tool_calls"] * 2}, TOOL])
spurned("arguments that are no text", POOR, "invalid_value", "arguments", messages=[user(), {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "w", "arguments": {}}}]}, TOOL])
spurned("empty assistant", POOR, None, "expected a string, got null", messages=[user(), {"role": "assistant", "content": None}, user()])
spurned("name of a tool", POOR, "invalid_value", "tools[0].function.name", tools=[{"type": "function", "function": {"name": "two words"}}])
spurned("kind of a tool", POOR, "invalid_value", "'poem'", tools=[{"type": "poem"}])
spurned("schema of a tool", POOR, "invalid_function_parameters", "Invalid schema for function 'f'", tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "thing"}}}])
spurned("strict tool", POOR, "invalid_function_parameters", "'additionalProperties' is required", tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {}}}}])
spurned("choice without tools", POOR, None, "only allowed when 'tools'", tool_choice="auto")
spurned("choice that is none", POOR, "invalid_value", "Supported values", tools=[FUNCTION], tool_choice="always")
spurned("choice of a tool that is not there", POOR, None, "not found in 'tools'", tools=[FUNCTION], tool_choice={"type": "function", "function": {"name": "walk"}})
spurned("open schema", POOR, None, "Invalid schema for response_format 'x'", **shaped({"type": "object", "properties": {}}))
spurned("optional property", POOR, None, "Missing 'a'", **shaped(OBJECT | {"properties": {"a": {"type": "string"}}, "required": []}))
spurned("json without the word", POOR, None, "must contain the word 'json'", response_format={"type": "json_object"})
spurned("stream_options without a stream", POOR, None, "only allowed when 'stream'", stream_options={"include_usage": True})
spurned("prompt too long", POOR, "context_length_exceeded", "maximum context length is 40", model="tiny", messages=[user("x" * 200)])
spurned("spent", openai.RateLimitError, "insufficient_quota", "quota", messages=[user("spent")])


@case
def gpt_errors_in_a_stream():
    try:
        list(chat(messages=[user("late error")], stream=True))
    except openai.APIError as raised:
        assert raised.type == "overloaded_error", raised
    else:
        raise AssertionError("it was not raised")


def main():
    failed = 0
    for name, check in CASES:
        try:
            check()
        except Exception:
            failed += 1
            print(f"{name}:\n{traceback.format_exc(limit=-3)}", file=sys.stderr)
    print(json.dumps({"cases": len(CASES), "failed": failed}))
    return 1 if failed else 0


sys.exit(main())
