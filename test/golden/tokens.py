"""
Writes tokens.json and the small tokenizers in tokenizers/: ids, offsets and decoded text of nasty texts, from Hugging Face's tokenizers.
With RETORT_MODELS also those of SmolLM2's own tokenizer.json, and with RETORT_DATA the ids of 500 GSM8K rows.

A tokenizer.json is read as it is (PreTrainedTokenizerFast). AutoTokenizer of transformers 5.23 builds GPT2Tokenizer anew from vocabulary and
merges and loses SmolLM2's splitting of digits: "\\n\\n7" becomes three tokens there, and was two when the model was trained.
"""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

from nasty_texts import NASTY, random_texts
from smollm2_texts import PROBLEMS, TEXTS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
CORPUS = TEXTS * 3 + [part for pair in PROBLEMS for part in pair] * 3 + [text for text in NASTY if len(text) < 200]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level_trainer(special, size):
    return trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)


def smol_like():
    """As SmolLM2: digits apart, then GPT-2's pattern."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, byte_level_trainer(CHATML, 420))
    return tokenizer


def llama3_like():
    """As Llama 3: a pattern of its own, whole words first (ignore_merges), BOS before raw text."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"]
    tokenizer.train_from_iterator(CORPUS, byte_level_trainer(special, 420))
    tokenizer.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
    return tokenizer


def qwen_like():
    """As Qwen: NFC first, single digits, added tokens that are not special, and ones that swallow white space or stand alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, byte_level_trainer(CHATML, 420))
    tokenizer.add_special_tokens([AddedToken("<|stripped|>", lstrip=True, rstrip=True, normalized=False), AddedToken("<|alone|>", single_word=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def sentencepiece_like():
    """As Llama 2 and Mistral: spaces as U+2581, bytes for unknown characters."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], limit_alphabet=120, show_progress=False)
    tokenizer.train_from_iterator((word for text in TEXTS + [p for pair in PROBLEMS for p in pair] for word in text.split(" ")), trainer)
    raw = json.loads(tokenizer.to_str())
    raw["added_tokens"] = [token for token in raw["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def word_piece():
    """As BERT: lower case, no accents; its spans are not asked for."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, limit_alphabet=90, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


SMALL = {"smol-like": smol_like, "llama3-like": llama3_like, "qwen-like": qwen_like, "sentencepiece-like": sentencepiece_like, "word-piece": word_piece}


def digest(value):
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:12]


def golden(path):
    """Ids with special tokens read (`parsed`) and as text (`plain`), spans in code points, and the text of the plain ids."""
    fast = PreTrainedTokenizerFast(tokenizer_file=str(path))
    encode = lambda text, plain: fast(text, add_special_tokens=False, split_special_tokens=plain, return_offsets_mapping=True)
    rows = []
    for text in NASTY:
        parsed, plain = encode(text, False), encode(text, True)
        rows.append(
            {
                "parsed": parsed["input_ids"],
                "plain": plain["input_ids"],
                "spans": parsed["offset_mapping"],
                "decoded": fast.decode(plain["input_ids"], clean_up_tokenization_spaces=False),
                "decodedWithoutSpecial": fast.decode(parsed["input_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False),
            }
        )
    return {"rows": rows, "random": [digest([encode(text, False)["input_ids"], encode(text, True)["input_ids"]]) for text in RANDOM], "raw": fast("a b")["input_ids"]}


def gsm8k_rows(path, data):
    fast = PreTrainedTokenizerFast(tokenizer_file=str(path))
    lines = [json.loads(line) for line in (data / "gsm8k" / "train.jsonl").read_text().splitlines()[:500]]
    ids = [fast.encode(line["question"], add_special_tokens=False) + fast.encode(line["answer"], add_special_tokens=False) for line in lines]
    return {"tokenCount": sum(map(len, ids)), "digests": [digest(row) for row in ids]}


RANDOM = random_texts(400, seed=20261122)
folder = HERE / "tokenizers"
folder.mkdir(exist_ok=True)
result = {"versions": {"tokenizers": version("tokenizers"), "transformers": version("transformers")}, "texts": NASTY, "randomTexts": RANDOM}
for name, build in SMALL.items():
    # Training is not the same every time (WordPiece's ties), so a tokenizer that is there stays.
    if not (folder / f"{name}.json").exists():
        build().save(str(folder / f"{name}.json"), pretty=False)
    result[name] = golden(folder / f"{name}.json")
models_folder, data_folder = os.environ["RETORT_MODELS"], os.environ["RETORT_DATA"]
smollm2 = Path(models_folder) / "smollm2-135m-instruct" / "tokenizer.json"
result["smollm2-135m-instruct"] = golden(smollm2)
result["gsm8k"] = gsm8k_rows(smollm2, Path(data_folder))
lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in result.items())
(HERE / "tokens.json").write_text("{\n" + lines + "\n}\n")
