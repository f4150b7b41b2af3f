"""Asks a server as the official Python clients do: `clients.py URL`.

Each function is a property; a failed assertion or an exception of the wrong class ends the
script with the name of the property.
"""

import sys
import time
import traceback

import anthropic
import httpx
import ollama
import openai
import pydantic
from typing import Annotated, Literal

URL = sys.argv[1]
MODEL = "built-in-model"
ASK = [{"role": "user", "content": "What says ROMEO?"}]

OPENAI = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
ANTHROPIC = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
OLLAMA = ollama.Client(host=URL)


def raises(kind, call, **expected):
    """Checks that a call raises exactly this class, with these attributes."""
    try:
        call()
    except kind as error:
        for name, value in expected.items():
            assert getattr(error, name) == value, (name, getattr(error, name))
        return error
    raise AssertionError(f"expected {kind.__name__}")


def chat(**more):
    return OPENAI.chat.completions.create(
        **{"model": MODEL, "messages": ASK, "max_tokens": 24, "seed": 7, **more}
    )


def openai_lists_the_model():
    assert [model.id for model in OPENAI.models.list()] == [MODEL]
    assert OPENAI.models.retrieve(MODEL).id == MODEL
    raises(openai.NotFoundError, lambda: OPENAI.models.retrieve("gpt-4o"))


def openai_chats_and_counts():
    answer = chat()
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens <= 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint
    again = chat()
    assert again.usage.prompt_tokens_details.cached_tokens > 0
    assert again.usage.completion_tokens_details.reasoning_tokens == 0


def openai_streams_what_it_says():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = chat()
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    # The client's helper takes an answer that was cut off for a failure, so this one stops.
    stop = text[10:13]
    with OPENAI.chat.completions.stream(
        model=MODEL, messages=ASK, max_tokens=24, seed=7, stop=[stop]
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text.split(stop)[0]


def openai_gives_scores():
    answer = chat(logprobs=True, top_logprobs=3, temperature=0, max_tokens=5)
    scores = answer.choices[0].logprobs.content
    assert "".join(score.token for score in scores) == answer.choices[0].message.content
    for score in scores:
        assert len(score.top_logprobs) == 3
        assert score.logprob == score.top_logprobs[0].logprob <= 0


def openai_gives_several_answers_by_seed():
    several = chat(n=3, temperature=1.0)
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    for offset, text in enumerate(texts):
        assert chat(seed=7 + offset, temperature=1.0).choices[0].message.content == text


def openai_stops():
    whole = chat().choices[0].message.content
    stop = whole[10:13]
    stopped = chat(stop=[stop]).choices[0]
    assert stopped.message.content == whole.split(stop)[0]
    assert stopped.finish_reason == "stop"


def openai_completes_texts_and_ids():
    completions = OPENAI.completions
    answer = completions.create(model=MODEL, prompt="ROMEO:", max_tokens=6, seed=1, logprobs=2, echo=True)
    choice = answer.choices[0]
    assert choice.text.startswith("ROMEO:")
    assert choice.logprobs.token_logprobs[0] is None
    assert len(choice.logprobs.tokens) == len(choice.logprobs.top_logprobs)
    several = completions.create(model=MODEL, prompt=["ROMEO:", "JULIET:"], max_tokens=4, seed=1)
    assert len(several.choices) == 2
    ids = completions.create(model=MODEL, prompt=[843, 25], max_tokens=4, seed=1)
    assert ids.choices[0].text == several.choices[0].text
    stream = completions.create(model=MODEL, prompt="ROMEO:", max_tokens=4, seed=1, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == ids.choices[0].text


def openai_embeds():
    vectors = OPENAI.embeddings.create(model=MODEL, input=["ROMEO:", "JULIET:"])
    assert [len(item.embedding) for item in vectors.data] == [256, 256]
    plain = OPENAI.embeddings.create(model=MODEL, input="ROMEO:", encoding_format="float")
    assert max(abs(a - b) for a, b in zip(plain.data[0].embedding, vectors.data[0].embedding)) < 1e-6


def openai_raises_its_classes():
    bad = openai.BadRequestError
    raises(bad, lambda: chat(temperature=9e99), param="temperature", status_code=400)
    raises(bad, lambda: chat(response_format={"type": "xml"}), param="response_format.type")
    raises(bad, lambda: chat(extra_body={"tempratur": 1}), param="tempratur")
    long = [{"role": "user", "content": "word " * 9000}]
    raises(bad, lambda: chat(messages=long), code="context_length_exceeded")
    raises(bad, lambda: chat(messages=long, stream=True), code="context_length_exceeded")
    raises(openai.NotFoundError, lambda: chat(model="gpt-4o"), code="model_not_found")
    text = httpx.post(f"{URL}/v1/chat/completions", content="x", headers={"content-type": "text/plain"})
    assert text.status_code == 415


def openai_tells_of_errors_in_a_stream():
    never = {"logit_bias": [[id, False] for id in range(2048)]}
    raises(openai.APIError, lambda: list(chat(stream=True, extra_body=never)))


def message(**more):
    return ANTHROPIC.messages.create(
        **{"model": MODEL, "messages": ASK, "max_tokens": 24, "extra_body": {"seed": 7}, **more}
    )


def anthropic_writes_messages():
    answer = message(system="Speak in verse.")
    assert answer.role == "assistant" and answer.content[0].type == "text"
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
    messages = [{"role": "system", "content": "Speak in verse."}] + ASK
    same = chat(messages=messages, extra_body={"enable_thinking": False})
    assert same.choices[0].message.content == answer.content[0].text


def anthropic_streams():
    whole = message()
    with ANTHROPIC.messages.stream(
        model=MODEL, messages=ASK, max_tokens=24, extra_body={"seed": 7}
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def anthropic_stops():
    whole = message().content[0].text
    stop = whole[10:13]
    stopped = message(stop_sequences=[stop])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    assert stopped.content[0].text == whole.split(stop)[0]


def anthropic_counts():
    count = ANTHROPIC.messages.count_tokens(model=MODEL, messages=ASK)
    same = chat(extra_body={"enable_thinking": False})
    assert count.input_tokens == same.usage.prompt_tokens
    tools = [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]
    with_tools = ANTHROPIC.messages.count_tokens(model=MODEL, messages=ASK, tools=tools)
    assert with_tools.input_tokens > count.input_tokens


def anthropic_raises_its_classes():
    bad = anthropic.BadRequestError
    cold = {"temperature": -1}
    raises(bad, lambda: message(extra_body=cold), status_code=400)
    raises(bad, lambda: message(tool_choice={"type": "any"}))
    raises(bad, lambda: message(messages=[{"role": "user", "content": "word " * 9000}]))
    error = raises(anthropic.NotFoundError, lambda: message(model="claude"))
    assert error.body["error"]["type"] == "not_found_error"
    image = {"type": "image", "source": {"type": "url", "url": "http://x.example/x.png"}}
    raises(bad, lambda: message(messages=[{"role": "user", "content": [image]}]))


OPTIONS = {"seed": 7, "num_predict": 24}


def ollama_shows_the_model():
    assert [model.model for model in OLLAMA.list().models] == [MODEL]
    assert OLLAMA.show(MODEL).template


def ollama_chats_and_streams():
    answer = OLLAMA.chat(model=MODEL, messages=ASK, options=OPTIONS)
    assert answer.message.content == chat().choices[0].message.content
    assert answer.done and answer.eval_count > 0
    pieces = list(OLLAMA.chat(model=MODEL, messages=ASK, options=OPTIONS, stream=True))
    assert "".join(piece.message.content for piece in pieces) == answer.message.content
    assert pieces[-1].done_reason == answer.done_reason


def ollama_generates():
    answer = OLLAMA.generate(model=MODEL, prompt=ASK[0]["content"], options=OPTIONS)
    assert answer.response == chat().choices[0].message.content
    raw = OLLAMA.generate(model=MODEL, prompt="ROMEO:", raw=True, options={**OPTIONS, "num_predict": 6})
    same = OPENAI.completions.create(model=MODEL, prompt="ROMEO:", max_tokens=6, seed=7)
    assert raw.response == same.choices[0].text


def ollama_raises_its_class():
    raises(ollama.ResponseError, lambda: OLLAMA.chat(model="llama3", messages=ASK), status_code=404)
    bad = {"temperature": -1}
    raises(ollama.ResponseError, lambda: OLLAMA.chat(model=MODEL, messages=ASK, options=bad), status_code=400)


def responses(**more):
    return OPENAI.responses.create(
        **{"model": MODEL, "input": ASK, "max_output_tokens": 24, "extra_body": {"seed": 7}, **more}
    )


def openai_responds():
    answer = responses()
    assert answer.output_text == chat().choices[0].message.content
    assert answer.usage.output_tokens <= 24
    assert answer.status in ("completed", "incomplete")
    instructed = responses(input="What says ROMEO?", instructions="Speak in verse.")
    same = chat(messages=[{"role": "system", "content": "Speak in verse."}] + ASK)
    assert instructed.output_text == same.choices[0].message.content


def openai_streams_responses():
    events = list(responses(stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == responses().output_text
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert events[-1].response.output_text == text
    assert [event.sequence_number for event in events] == list(range(len(events)))


def openai_refuses_what_responses_cannot_do():
    bad = openai.BadRequestError
    raises(bad, lambda: responses(previous_response_id="resp_1"), param="previous_response_id")
    raises(bad, lambda: responses(tools=[{"type": "web_search"}]), param="tools[0].type")


class Person(pydantic.BaseModel):
    # Ollama is told the schema as it is, and an open one lets a model say more and more.
    model_config = pydantic.ConfigDict(extra="forbid")

    name: Annotated[str, pydantic.Field(max_length=8)]
    age: Annotated[int, pydantic.Field(ge=0, le=150)]
    mood: Literal["mad", "sad", "bad"]


class Move(pydantic.BaseModel):
    """Moves a piece."""

    row: Annotated[int, pydantic.Field(ge=0, le=9)]
    column: Annotated[int, pydantic.Field(ge=0, le=9)]


LONG = {"max_tokens": 200}
MOVE = openai.pydantic_function_tool(Move)
ONE_MOVE = {"tools": [MOVE], "tool_choice": "required", "parallel_tool_calls": False}


def openai_parses_models():
    common = {"model": MODEL, "messages": ASK, "seed": 7, "response_format": Person, **LONG}
    parsed = OPENAI.chat.completions.parse(**common).choices[0].message
    assert isinstance(parsed.parsed, Person)
    with OPENAI.chat.completions.stream(**common) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.content == parsed.content and final.parsed == parsed.parsed


def openai_parses_calls():
    common = {"model": MODEL, "messages": ASK, "seed": 7, **LONG, **ONE_MOVE}
    choice = OPENAI.chat.completions.parse(**common).choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert isinstance(call.function.parsed_arguments, Move)
    with OPENAI.chat.completions.stream(**common) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    [same] = final.message.tool_calls
    assert same.function.arguments == call.function.arguments
    named = {"type": "function", "function": {"name": "Move"}}
    [named] = chat(**{**LONG, **ONE_MOVE, "tool_choice": named}).choices[0].message.tool_calls
    Move.model_validate_json(named.function.arguments)


def openai_parses_responses():
    common = {"model": MODEL, "input": ASK, "max_output_tokens": 200, "extra_body": {"seed": 7}}
    answer = OPENAI.responses.parse(text_format=Person, **common)
    assert isinstance(answer.output_parsed, Person)
    tool = {"type": "function", "strict": True, **MOVE["function"]}
    answer = OPENAI.responses.parse(
        tools=[tool], tool_choice="required", parallel_tool_calls=False, **common
    )
    [call] = [item for item in answer.output if item.type == "function_call"]
    Move.model_validate_json(call.arguments)


def openai_works_as_an_agent():
    """Of each step's prompt, all is cached but what the tool has told: its call too."""
    messages = [{"role": "user", "content": "Play ten moves of a game, one call at a time."}]
    known = 0
    for step in range(10):
        answer = chat(messages=messages, seed=step, **{**LONG, **ONE_MOVE})
        usage = answer.usage
        cached = usage.prompt_tokens_details.cached_tokens
        print(f"        step {step}: {usage.prompt_tokens} tokens, {cached} cached, {known} known")
        # The braces that end a call are told without a pass, since nothing follows from them.
        assert cached >= known - 4, (step, cached, known)
        known = usage.prompt_tokens + usage.completion_tokens
        [call] = answer.choices[0].message.tool_calls
        move = Move.model_validate_json(call.function.arguments)
        messages.append(answer.choices[0].message.model_dump(exclude_none=True))
        told = f"Moved to {move.row}, {move.column}."
        messages.append({"role": "tool", "tool_call_id": call.id, "content": told})


def anthropic_calls_on_demand():
    tool = {"name": "move", "description": "Moves a piece.", "input_schema": Move.model_json_schema()}
    one = {"tools": [tool], "tool_choice": {"type": "tool", "name": "move"}, **LONG}
    answer = message(**one)
    assert answer.stop_reason == "tool_use"
    [call] = answer.content
    assert call.type == "tool_use" and Move.model_validate(call.input)
    with ANTHROPIC.messages.stream(
        model=MODEL, messages=ASK, extra_body={"seed": 7}, **one
    ) as stream:
        final = stream.get_final_message()
    assert final.content[0].input == call.input and final.stop_reason == "tool_use"
    any_tool = message(**{**one, "tool_choice": {"type": "any", "disable_parallel_tool_use": True}})
    assert any_tool.content[0].name == "move"


def ollama_answers_by_a_schema():
    options = {"seed": 7, "num_predict": 200}
    schema = Person.model_json_schema()
    answer = OLLAMA.chat(model=MODEL, messages=ASK, options=options, format=schema)
    Person.model_validate_json(answer.message.content)
    pieces = OLLAMA.chat(model=MODEL, messages=ASK, options=options, format=schema, stream=True)
    assert "".join(piece.message.content for piece in pieces) == answer.message.content


def wait_for_the_model():
    for _ in range(600):
        if httpx.get(f"{URL}/health").status_code == 200:
            return
        time.sleep(0.1)
    raise TimeoutError("the model is not there")


def main():
    wait_for_the_model()
    properties = [
        (name, value)
        for name, value in list(globals().items())
        if name.startswith(("openai_", "anthropic_", "ollama_"))
    ]
    failed = 0
    for name, check in properties:
        try:
            check()
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}")
            traceback.print_exc()
    print(f"{len(properties)} properties, {failed} failed")
    sys.exit(1 if failed else 0)


main()
