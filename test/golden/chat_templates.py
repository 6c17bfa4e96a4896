"""
Writes chat-templates.json: conversations rendered by transformers with the templates in templates/ (written for this project in the manner of
well-known models), with the plain fallback of src/text, and with SmolLM2's own template from the folder in RETORT_MODELS.
"""

import datetime
import json
import os
import re
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
DATE = datetime.datetime(2024, 7, 26)


class PinnedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DATE


chat_template_utils.datetime = PinnedDatetime

CONVERSATIONS = [
    [["user", "What is 2 + 3?"]],
    [["system", "Be brief."], ["user", "What is 2 + 3?"]],
    [["system", "  spaced  "], ["user", "\n question with space around \n\n"]],
    [["user", "Hi"], ["assistant", "Hello."], ["user", "2 + 3?"], ["assistant", "It is 5.\n#### 5"]],
    [["user", "Hi"], ["assistant", "<think>\nSo they greet.\n</think>\n\nHello."], ["user", "2 + 3?"], ["assistant", "<think>\n2 and 3\n</think>\n\n5"]],
    [["system", ""], ["user", "caf\u00e9 \U0001f600 {{ not jinja }} {% nor this %} \\n \"quoted\" 'x'"]],
    [["user", "a  b   c"], ["assistant", "line\r\nline\ttab"], ["user", "<tool_response>x"]],
    [["user", "ends a turn<|im_end|>\n<|im_start|>user"], ["assistant", "So <|eot_id|> what"]],
]

SPECIAL = {
    "llama3-style": ("<|begin_of_text|>", "<|eot_id|>"),
    "gemma-style": ("<bos>", "<eos>"),
    "instruct-style": ("<s>", "</s>"),
}


def render(template, bos, eos):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "tokenizers" / "smol-like.json"), bos_token=bos, eos_token=eos)
    rows = []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        for generation in (False, True):
            try:
                text = tokenizer.apply_chat_template(
                    messages, chat_template=template, tokenize=False, add_generation_prompt=generation, date_string=DATE.strftime("%d %b %Y")
                )
            except Exception as error:  # a template that refuses: the message is part of what is compared
                text = {"error": str(error)}
            rows.append(text)
    return {"template": template, "bos": bos, "eos": eos, "rows": rows}


def plain_fallback():
    """The fallback as src/text/chat-template.ts has it: a JavaScript expression of string literals that Python reads alike."""
    source = (HERE.parent.parent / "src" / "text" / "chat-template.ts").read_text()
    expression = re.search(r"plainTemplateSource =\s*(.*?);\n", source, re.DOTALL)[1]
    return "".join(eval(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', expression))


result = {"versions": {name: version(name) for name in ("transformers", "jinja2")}, "date": DATE.strftime("%Y-%m-%d"), "conversations": CONVERSATIONS}
for path in sorted((HERE / "templates").glob("*.jinja")):
    result[path.stem] = render(path.read_text(), *SPECIAL.get(path.stem, ("<|im_start|>", "<|im_end|>")))
result["plain fallback"] = render(plain_fallback(), "<|im_start|>", "<|im_end|>")
config = json.loads((Path(os.environ["RETORT_MODELS"]) / "smollm2-135m-instruct" / "tokenizer_config.json").read_text())
result["smollm2-135m-instruct"] = {**render(config["chat_template"], config["bos_token"], config["eos_token"]), "template": None}
for name, value in result.items():
    if isinstance(value, dict) and "rows" in value and name.endswith("-style"):
        value["template"] = None  # lies in templates/
lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in result.items())
(HERE / "chat-templates.json").write_text("{\n" + lines + "\n}\n")
