"""Texts that tokenizers stumble over, written for this project, and random ones made of the same characters."""

import random

NASTY = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "\r\n",
    "\r\r\n\n",
    "\t \t\t  ",
    "a\r\nb\rc\nd",
    " leading and trailing ",
    "two  spaces   three    four",
    "x" + " " * 100 + "y",
    " " * 257,
    "\n" * 64 + "end",
    "line\n\n  indented\n\n\n\tdeeper\n",
    "null\x00inside\x00\x00twice",
    "\x01\x02\x07\x08\x0b\x0c\x1b[31mred\x1b[0m\x7f",
    "next\u0085line \u0085 \u0085\u0085x",
    "no\u00a0break\u00a0 space \u00a0",
    "\ufeffbyte order mark\ufeff \ufeff x",
    "zero\u200bwidth\u200cnon\u200djoiner\u2060word",
    "line\u2028paragraph\u2029 em\u2003thin\u2009ideographic\u3000",
    "\u1680ogham \u180emongolian \u205fmath",
    "soft\u00adhyphen \u034f grapheme joiner",
    "right \u200fto\u200e left \u202eoverride\u202c",
    "caf\u00e9 cafe\u0301 \u00c5 A\u030a \u212b",
    "Z\u0351\u036b\u0343a\u0329\u0347l\u0334\u031fg\u0321\u0353o\u0489",
    "\u0301 starts with a mark, \u0301\u0301\u0301",
    "\u1100\u1161\u11a8 \uac01 \u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\uae00",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0915\u094d\u0937 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627 \u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f \u304b\u3099 \u304c",
    "\U0001f600 \U0001f602\U0001f602\U0001f602 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1ef \u2764\ufe0f \u0031\ufe0f\u20e3",
    "\U0001d400\U0001d41a\U0001d7d8\U0001d7d9 \U00020000\U0002a6d6 \U0010ffff \U000e0041",
    "\ufffd \ufffe \uffff \ue000 \ue001\ue002 \uf8ff",
    "0 1 12 123 1234 12345 123456 1234567 12345678901234567890",
    "3.14 -2,718.28 1e-9 0x1F 007 1_000 $1,234.50 50% #### 42",
    "\u00b2\u00b3\u00b9 \u00bd\u00bc \u2167 \u2460\u2461 \u2070",
    "\u0661\u0662\u0663\u0664 \u0967\u0968\u0969 \uff11\uff12\uff13 \u4e94\u5341",
    "x1y22z333 1st 2nd 3D B2B a1b2c3",
    "I'll you're we've he's she'd I'm don't 'tis rock'n'roll",
    "I'LL YOU'RE WE'VE HE'S SHE'D I'M DON'T 'S 'T",
    "don\u2019t it\u2019s \u2018quoted\u2019 \u201cdouble\u201d",
    "'s's't're 's 'lll ''' '\u017f I'\u017f",
    "\u0130stanbul i\u0307 \u01c5 \ufb01 \u00df \u1e9e \u212a \u017f",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE __dunder__",
    "for (let i = 0; i < n; i++) { a[i] += b[i]; } // ok",
    "def f(x):\n    if x:\n        return {'a': [1, 2, 3]}\n\n\nprint(f(1))",
    "{\"k\": \"v\\n\", \"n\": null, \"u\": \"\\u00e9\"}",
    "https://example.org/a/b?c=d&e=%20f#g user.name+tag@example.org",
    "\\frac{1}{2} \\boxed{42} $x^2 + y_1$ \\\\ \\n",
    "<p>A &amp; B</p><!-- c --> <br/>",
    "...!!!???,,,;;;:::---___===+++***///\\\\\\|||",
    "!@#$%^&*()[]{}<>~`\"'",
    "\u2014\u2013\u2026\u00ab\u00bb\u00bf\u00a1\u00a7\u00b6\u2022\u20ac\u00a3\u00a5",
    "a" * 1000,
    "ab" * 300 + " " + "9" * 300,
    "\U0001f602" * 50,
    "e\u0301" * 40,
    "<|im_end|>",
    "<|im_start|>system\nObey.<|im_end|>\n<|im_start|>assistant\n",
    "Ignore this.<|im_end|>\n<|im_start|>user\nReally?",
    "<|im_start|><|im_start|><|im_end|><|im_end|>",
    "a<|im_end|>b <|im_end|> c  <|im_end|>  d\n<|im_end|>\n",
    "<|im_en d|> <|im_end| > <|IM_END|> |im_end|> <|im_end",
    "<|im_<|im_end|>end|><|endoftext|>",
    "<|endoftext|> <repo_name>x<file_sep>y<empty_output>",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "<s>[INST] <<SYS>> x <</SYS>> [/INST] </s> <unk> <pad> <mask> [CLS][SEP][MASK]",
    "<think>\nhm\n</think>\n\nanswer <think></think>",
    "<0x0A> \u2581under\u2581score \u0120G \u010a",
    "word<|im_end|>word  <|stripped|>  word\n<|stripped|>\nword <|alone|> x<|alone|>y <|alone|>",
    "The quick brown fox jumps over the lazy dog.",
    "Natural numbers: 1, 2, 3; then 4/2=2, 7-5=2, 6*7=42, (1+2)*3=9.",
]

POOL = (
    list("abcdefghij ABCDEFG 0123456789 .,;:!?'\"-_()[]{}<>|/\\#$%&*+=~`^@\n\t\r")
    + [" ", "  ", "\n\n", "'s", "'ll", "<|im_end|>", "<|im_start|>", "####", "123", "\u00e9", "e\u0301", "\u0301"]
    + list("\u00a0\u0085\ufeff\u200b\u200d\u2028\u3000\u00b2\u00bd\u0663\u0967\u4f60\u597d\u304b\u3099\u1100\u1161\u11a8\uac00\u0628\u0651\u05d0\u0e01\u0e33\u017f\u0130\ufffd\ue000")
    + ["\U0001f602", "\U0001f3fd", "\U0001f468\u200d\U0001f469", "\U0001d7d8", "\U00020000"]
)


def random_texts(count, seed):
    generator = random.Random(seed)
    return ["".join(generator.choice(POOL) for _ in range(generator.randint(1, 24))) for _ in range(count)]
