"""R5 in a server: an answer is what it would be alone, however many share its steps, its pages and its room."""

from pathlib import Path

from engines import engine, native, some_tokens
from recording import Recording

from twofold.engine.generate import Generation
from twofold.engine.limits import Limits
from twofold.engine.request import Request
from twofold.engine.sampling import Sampling
from twofold.engine.serving import Serving
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer
from twofold.schedule.stream import Room


def test_answers_of_smollm2_that_share_steps_and_prefixes_equal_those_alone(smollm2_path: Path) -> None:
    beginning = some_tokens(150, 49152)
    prompts = [(beginning if n % 2 else []) + some_tokens(3 + 29 * n, 49152, seed=n) for n in range(8)]
    ways = [Sampling(), Sampling(temperature=0.9, top_p=0.9, seed=3)]
    limits = Limits(20, ignore_end=True)
    requests = [Request(prompt=tuple(p), sampling=ways[n // 2 % 2], limits=limits) for n, p in enumerate(prompts)]
    samplers: list[Recording] = []

    def choosing(request: Request, tokenizer: Tokenizer, vocabulary: int) -> Recording:
        samplers.append(Recording(request, tokenizer, vocabulary))
        return samplers[-1]

    with Checkpoint.open(smollm2_path) as checkpoint:
        tokenizer = Tokenizer(checkpoint.tokenizer)
    with native(2) as backend, engine(smollm2_path, backend) as fast:
        expected = []
        for one in requests:
            session = fast.open()
            generation = Generation(fast, session, tokenizer, one.sampling, one.limits)
            text = "".join(generation.run(one.prompt))
            expected.append((text, generation.token_ids, generation.logits_digest))
            fast.close(session)
        room = Room(context_length=fast.manifest.context_length, rows=100, heads=5)
        with Serving(fast, tokenizer, room=room, choosing=choosing) as serving:
            answers = [serving.submit(one) for one in requests]
            for answer, sampler, (text, tokens, digest) in zip(answers, samplers, expected, strict=True):
                pieces = list(answer)
                assert "".join(piece.text for piece in pieces) == text
                assert [chosen.token for piece in pieces for chosen in piece.chosen] == tokens
                assert sampler.hash.hexdigest() == digest
            assert sum(answer.usage.cached_tokens for answer in answers) == 3 * 128
