"""
Writes lm-eval-scores.json: strange answers, each scored by lm-evaluation-harness itself with the filters and the metric of its task gsm8k
(read from the installed package's YAML): what strict-match and flexible-extract read from it, and exact_match against a gold answer.
"""

import importlib.util
import json
import random
from importlib.metadata import version
from pathlib import Path

import yaml
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter

PACKAGE = Path(importlib.util.find_spec("lm_eval").origin).parent
TASK = yaml.safe_load((PACKAGE / "tasks" / "gsm8k" / "gsm8k.yaml").read_text())
METRIC = {key: TASK["metric_list"][0][key] for key in ("regexes_to_ignore", "ignore_case", "ignore_punctuation")}
FILTERS = {}
for entry in TASK["filter_list"]:
    regex = {key: value for key, value in entry["filter"][0].items() if key != "function"}
    FILTERS[entry["name"]] = RegexFilter(**regex)

HAND = [
    ("", "5"), (" ", "5"), ("\n\n", "5"), ("no number here", "5"), ("five", "5"), ("#### five", "5"), ("####", "5"), ("#### ", "5"),
    ("#### 5", "5"), ("####5", "5"), ("####  5", "5"), ("####\t5", "5"), ("####\n5", "5"), ("### 5", "5"), ("##### 5", "5"), ("#### 5\n", "5"),
    ("#### 5.", "5"), ("#### 5..", "5"), ("#### 5.0", "5"), ("#### 5.00", "5"), ("#### 05", "5"), ("#### +5", "5"), ("#### -5", "5"), ("#### -5", "-5"),
    ("#### - 5", "-5"), ("#### --5", "-5"), ("#### \u22125", "-5"), ("#### \u20135", "-5"), ("#### $5", "5"), ("#### 5$", "5"), ("#### $ 5", "5"), ("#### \u20ac5", "5"),
    ("#### 1,234", "1234"), ("#### 1234", "1,234"), ("#### 1,234,567", "1,234,567"), ("#### 1.234", "1234"), ("#### 1 234", "1234"), ("#### 12,34", "1234"),
    ("#### ,5", "5"), ("#### 5,", "5"), ("#### .5", "5"), ("#### .", "5"), ("#### ,", "5"), ("#### .,.,", ""), ("#### ...", "5"), ("#### -", "5"), ("#### -.", "5"), ("#### -,5", "-5"),
    ("#### 5 apples", "5"), ("#### 5apples", "5"), ("#### about 5", "5"), ("#### **5**", "5"), ("**#### 5**", "5"), ("`#### 5`", "5"), ("#### \\boxed{5}", "5"), ("\\boxed{5}", "5"),
    ("#### 5%", "5"), ("#### 5/1", "5"), ("#### 1/2", "0.5"), ("#### 5e3", "5000"), ("#### 5x", "5"), ("#### 5:30", "5"), ("#### 5-6", "5"), ("#### 6-5", "5"),
    ("#### 4\n#### 5", "5"), ("#### 5\n#### 4", "5"), ("#### 5 #### 4", "5"), ("#### x #### 5", "5"), ("#### #### 5", "5"), ("######## 5", "5"), ("#### 5#### 4", "5"),
    ("The answer is 5", "5"), ("The answer is 5.", "5"), ("The answer is 5. It is not 6.", "5"), ("5 is the answer, not 6", "5"), ("It is 5!", "5"), ("It is $5.", "5"), ("It is $5.00.", "5"),
    ("It is $5.00.", "5.00"), ("$5", "5"), ("5", "5"), ("-5", "-5"), ("- 5", "-5"), ("10-5", "5"), ("10 - 5 = 5", "5"), ("x=-5", "-5"), ("3-5", "-5"), ("a-5b", "-5"),
    ("1,234", "1234"), ("1,234.", "1234"), ("1,234.50", "1234.50"), ("$1,234", "1234"), ("-$1,234", "-1234"), ("$-1,234", "-1234"), ("1.000.000", "1000000"),
    (".", "5"), ("..", "5"), (",", "5"), (",,", "5"), ("$", "5"), ("$$", "5"), ("$$", ""), ("...", ""), ("and so on...", "5"), ("5 ...", "5"), ("5, 6, 7", "7"), ("5,6,7", "567"), ("5 , 6", "6"),
    ("x. y, z", "5"), ("Hello., world", "5"), ("cost: $.", "5"), ("It costs $.50", ".50"), ("It costs $.50", "0.50"), ("5 dollars $,", "5"),
    ("\u0665", "5"), ("\uff15", "5"), ("#### \uff15", "5"), ("\u2464", "5"), ("\u00bd", "0.5"), ("5\u00b2", "5"), ("#### 5\u00a0", "5"), ("####\u00a05", "5"), ("#### \u200b5", "5"), ("#### 5\u200b", "5"),
    ("\U0001f60a #### 5 \U0001f60a", "5"), ("\u7b54\u6848\u662f5\u3002", "5"), ("\u7b54\u6848\u662f 5", "5"), ("5\u5143", "5"), ("\u0627\u0644\u062c\u0648\u0627\u0628 5", "5"),
    ("#### 5\r\n", "5"), ("#### 5\rmore 6", "5"), ("#### 5\x00", "5"), ("#### 5\x0b6", "5"), ("####\u20285", "5"), ("5\u2028", "5"),
    ("#### 5<|im_end|>", "5"), ("#### 5</s>", "5"), ("Question: 7 #### 5", "5"), ("#### 5\nQuestion: What is 2 + 2?", "5"), ("<<2+3=5>>5", "5"), ("<<2+3=5>>", "5"),
    ("Step 1: 2. Step 2: 3.\n\n#### 5", "5"), ("1. two\n2. three\n3. five", "5"), ("2 + 3 = 5\n\nSo there are 5 in 1 hour", "5"), ("2024-07-26", "26"), ("12:30", "30"), ("1/2", "2"), ("50%", "50"),
    ("#### 1000000000000000000000", "1000000000000000000000"), ("#### 0.1", "0.1"), ("#### 0", "0"), ("#### -0", "0"), ("#### 00", "0"), ("#### NaN", "NaN"), ("#### Infinity", "5"),
    ("[invalid]", "5"), ("[invalid]", "[invalid]"), ("x", "[invalid]"), ("#### 5", "#### 5"), ("#### 5", "2 + 3 = 5\n#### 5"), ("#### 5", "2 + 3 = <<2+3=5>>5.\n#### 5"), ("5", "#### 4\n#### 5"),
    ("#### 5", "#### 5.\n"), ("#### 5", "#### $5"), ("#### 5", "5."), ("#### 5", "5.."), ("#### 5", "5.\n"), ("#### 5", "5.\n\n"), ("#### 1234", "#### 1,234"), ("#### -3", "#### -3"), ("#### five", "#### FIVE"),
    ("5" * 400, "5"), ("#### " + "9" * 300 + ",", "9" * 300), ("word " * 500 + "5", "5"), ("#### 5 " + "blah 7 " * 200, "5"),
]

PIECES = ["#### ", "####", "#", " ", "\n", "-", "$", ",", ".", "5", "12", "1,234", "0.5", "007", "-3", "$4", "%", "x", "The answer is ", "=", "\\boxed{", "}", "**", "\u2212", "\uff15", "\u00a0", "\t", "\r\n", "So ", "(", ")", ":", "/"]


def generated(count, seed):
    generator = random.Random(seed)
    cases = []
    for _ in range(count):
        answer = "".join(generator.choice(PIECES) for _ in range(generator.randint(1, 12)))
        # Golds are drawn so that about half of the answers with a number are right under one of the rules.
        found = FILTERS[generator.choice(list(FILTERS))].apply([[answer]], [{}])[0][0]
        gold = found if generator.random() < 0.6 and found != "[invalid]" else generator.choice(["5", "12", "1234", "1,234", "0.5", "-3", "4", "7"])
        if generator.random() < 0.3:
            gold = "Some steps.\n#### " + gold
        cases.append((answer, gold))
    return cases


def scored(answer, gold):
    row = {"answer": answer, "gold": gold}
    for name, regex in FILTERS.items():
        extraction = regex.apply([[answer]], [{}])[0][0]
        score = exact_match_hf_evaluate(predictions=[extraction], references=[gold], **METRIC)["exact_match"]
        row[name] = [extraction, int(score)]
    return row


rows = [scored(answer, gold) for answer, gold in HAND + generated(400, seed=413)]
head = {"versions": {"lm-eval": version("lm-eval")}, "filters": TASK["filter_list"], "metric": METRIC}
lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
lines.append('"rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
(Path(__file__).parent / "lm-eval-scores.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
