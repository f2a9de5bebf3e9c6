"""Two conversations in one event loop, each shown as it is answered.

python examples/stream_chat.py [MODEL]
"""

import asyncio
import sys

from twofold import LLM

QUESTIONS = {"sky": "Why is the sky blue?", "sea": "Why is the sea salty?"}


async def tell(llm: LLM, name: str, question: str) -> None:
    """Show the pieces of one answer, a line each, and then how it ended."""
    messages = [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": question}]
    stream = await llm.astream_chat(messages, max_tokens=32, temperature=0.7, seed=1)
    async for text in stream:
        print(f"{name}: {text!r}", flush=True)
    print(f"{name}: {stream.output.finish_reason} after {stream.output.usage.generated_tokens} tokens")


async def main(model: str) -> None:
    """Both at once."""
    with await asyncio.to_thread(LLM, model) as llm:
        await asyncio.gather(*(tell(llm, name, question) for name, question in QUESTIONS.items()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:] or ["smollm2"]))
