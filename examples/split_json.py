"""Weights in a process of their own, context in this one, and an answer that is JSON of a given form.

python examples/split_json.py [MODEL]
"""

import json
import sys

from twofold import LLM

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "letters": {"type": "integer"}},
    "required": ["colour", "letters"],
    "additionalProperties": False,
}


def main(model: str) -> None:
    """Ask for a colour."""
    with LLM(model, split=True) as llm:
        output = llm.chat("Which colour has the sky? Say it in JSON.", json_schema=SCHEMA, max_tokens=150)
        answer = json.loads(output.text) if output.finish_reason == "stop" else None
        print(json.dumps({"answer": answer, "finish_reason": output.finish_reason}))


if __name__ == "__main__":
    main(*sys.argv[1:] or ["smollm2"])
