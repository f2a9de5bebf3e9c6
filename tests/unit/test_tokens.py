"""Text to tokens and back over HTTP."""

from typing import Any

import pytest
from served import HELLO, Served


def test_a_text_is_its_tokens(served: Served) -> None:
    told = served.post("/tokenize", {"prompt": "hello the world", "return_token_strs": True}).json()
    assert told["tokens"] == served.serving.tokenizer.encode("hello the world")
    assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), 256)
    assert "".join(told["token_strs"]) == "hello the world"
    back = served.post("/detokenize", {"tokens": told["tokens"]}).json()
    assert back == {"prompt": "hello the world"}


@pytest.mark.parametrize(("prompt", "end"), [(True, "assistant\n"), (False, "hello<|im_end|>\n")])
def test_a_conversation_is_the_tokens_of_its_template(served: Served, prompt: bool, end: str) -> None:
    told = served.post("/tokenize", {"messages": HELLO, "add_generation_prompt": prompt}).json()
    text = served.post("/detokenize", {"tokens": told["tokens"]}).json()["prompt"]
    assert text.endswith(end)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "a", "messages": HELLO}),
        ("/detokenize", {}),
        ("/detokenize", {"tokens": [10**6]}),
        ("/detokenize", {"tokens": [-1]}),
    ],
)
def test_what_is_neither_is_refused(served: Served, path: str, body: dict[str, Any]) -> None:
    assert served.post(path, body).status_code == 400
