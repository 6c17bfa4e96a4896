"""Writes quickstart-tokens.json: ids that Hugging Face's tokenizers gives with the quickstart's tokenizer.json, of its own and of nasty texts."""

import json
from importlib.metadata import version
from pathlib import Path

from nasty_texts import NASTY
from tokenizers import Tokenizer

HERE = Path(__file__).parent
OWN = [
    "Jack finds 7 buttons and Hugo finds 16; Jack takes all of them. How many buttons are left with Jack?",
    "7+16=23\n23-5=18\nCheck: 18+5=23, 23-16=7\n#### 18",
    "End with #### and the number.",
    "Explain your reasons as a kind teacher would to a pupil who is new to this.",
    "Your answer will teach a little model: one plain calculation after another and no talk.",
    "1234567 + 0.5 = 30 31 007",
]

tokenizer = Tokenizer.from_file(str(HERE / "../../quickstart/teacher/tokenizer.json"))
texts = OWN + [text for text in NASTY if len(text) < 200]
ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
golden = {"versions": {"tokenizers": version("tokenizers")}, "texts": texts, "ids": ids}
(HERE / "quickstart-tokens.json").write_text(json.dumps(golden, ensure_ascii=True) + "\n")
