"""Text on which tokenizers have disagreed: one named sample an idea."""

from collections.abc import Iterator

HARD_TEXT: dict[str, str] = {
    "empty": "",
    "one space": " ",
    "english": "It's what they'd've said: we'll SEE, you're 'tis; don't CAN'T I'M.",
    "numbers": "3.14159 1,000,000 -42 0x1F 1e-9 007 10% 2024-02-30T25:61 ½ ² ① Ⅷ ㊿ 𝟙𝟚",
    "numbers of other scripts": "٠١٢٣ ۴۵۶ ०१२३ ১২৩ ๑๒๓ ០១២៣ 一二三 ༡༢༣ 𝟘𝟡 １２３ 𐒠𐒡",
    "chinese": "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。𠀀𠮷𪚥",
    "japanese": "吾輩は猫である。名前はまだ無い。ﾊﾝｶｸｶﾅ ヴァイオリン々〆",
    "korean": "모든 인간은 태어날 때부터 자유롭다 가나다",
    "thai and lao": "มนุษย์ทั้งหลายเกิดมามีอิสระ ມະນຸດເກີດມາມີສິດ",
    "indic": "सभी मनुष्यों को गौरव க்ஷ శ్రీ ക്ഷ",
    "arabic and hebrew": "يولد جميع الناس أحرارًا ﷽ שָׁלוֹם עולם \u200f(abc)\u200e",
    "bidirectional controls": "\u202eabc\u202c \u2067def\u2069 \u061c",
    "combining marks": "Ze\u0301ro n\u0303 Z\u0351\u036b\u0343a\u0329\u0321 é e\u0301 Å A\u030a \u0301alone",
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷 ☺️ 👨🏿‍🚀 🤦🏼‍♂️ 1️⃣ 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "zero width": "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg\u034fh",
    "spaces": "a  b   c    d     \u00a0\u2003\u3000\u1680\u205f\u2028\u2029\u0085end ",
    "only spaces": " " * 17,
    "newlines": "\n\n\n a\n \n  b \n\n\r\n\r\n\r c\n",
    "carriage returns": "line one\r\nline two\r\n\r\n\tline three\r",
    "tabs": "\t\tif x:\n\t\t\treturn\ty \t \t\n",
    "python": "def f(x: int = 0) -> str:\n    return f'{x!r:>10}' if x else \"\"  # NOTE\n\n\n    @a.b\n",
    "c": '#include <stdio.h>\nint main(void){for(int i=0;i<10;++i)printf("%d\\n",i&1?~i:-i);}//\n',
    "markup": '<a href="x?y=1&amp;z=2">\n<!-- c --></a>```json\n{"k": [null, true, 1.0e+5]}\n```',
    "formulae": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β ⇒ ∑ᵢ aᵢ² ≤ ‖a‖₂ → ∞ 𝔸𝕓𝒸",
    "links": "https://example.org/a_b-c/?q=%20&r=#s mailto:x@y.zz ::1 10.0.0.1:80",
    "punctuation": "!!??...,,;;::''\"\"``--__==++**//\\\\||~~@@##$$%%^^&&(){}[]<>",
    "apostrophes": "'s 'S 't 'T 're 'RE 've 'm 'll 'LL 'd x's ''s ' s ’s",
    "nul": "a\0b\0\0c \0 d",
    "control characters": "".join(map(chr, range(0x20))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "noncharacters": "\ufffe\uffff\ufdd0\U0001fffe\U0010ffff \ufffd\ufffc",
    "private use": "\ue000\uf8ff\U000f0000\U00100000",
    "special tokens": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<|endoftext|>",
    "special tokens in words": "a<|im_end|>b <|im_end|> c<|im_end|><|im_end|>\n<repo_name>x<file_sep>y",
    "almost special tokens": "<|im_start |> <|im_start <|im_end|<|im_end|>> <||im_end|> <|IM_END|> < |im_end",
    "long word": "a" * 3000 + "ä" * 1000 + "漢" * 1000,
    "long word of syllables": "internationalisation" * 200,
    "long number": "1234567890" * 100,
    "long run of spaces": "x" + " " * 2000 + "y" + "\n" * 500 + "\t" * 300 + "z",
    "long run of marks": "=" * 500 + "-" * 501 + "#" * 99,
    "casing": "ẞß ǅ ŉ İı ſs K Å ΐ ﬀ ﬃ ΣΑΣ ς",
    "letters that print as bytes": "Ġ Ċ ĉ Ā ÿ þ ÷ ñ Ġthe ▁the <0x0A>",
    "modifiers": "ʰʲʷ ᴬᴮ ⁿ ₐ ª º ʼ ˈ",
}


def planes() -> Iterator[tuple[str, str]]:
    """Every code point of planes 0 to 3 and of the tags, every 257th of the rest, each in five contexts."""
    whole = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200)]
    points = [*whole, *range(0x40000, 0x110000, 257)]
    for start in range(0, len(points), 4096):
        block = points[start : start + 4096]
        yield f"U+{block[0]:04X}", "\n".join(f"a{chr(c)} {chr(c)}{chr(c)}1 {chr(c)}b" for c in block)
