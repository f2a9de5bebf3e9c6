"""Many prompts at once: computed together, answered in order, each as it would be alone.

python examples/batch.py [MODEL]
"""

import sys

from twofold import LLM

PROMPTS = ["The sky is blue because", "The sea is salty because", "Grass is green because"]


def main(model: str) -> None:
    """Go on with each prompt."""
    with LLM(model) as llm:
        outputs = llm.generate(PROMPTS, max_tokens=24, stop="\n")
        for prompt, output in zip(PROMPTS, outputs, strict=True):
            print(f"{prompt}{output.text} [{output.finish_reason}, {output.usage.generated_tokens} tokens]")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["smollm2"])
