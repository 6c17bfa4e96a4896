"""
Writes gguf/: two small GGUF files with the types that the package gguf writes, one of random blocks in those that it only reads, and gguf.json: what they hold, computed on another way than
reading them back. The weights are quantised and dequantised in Hugging Face's row order, so that the row permutation in the file does not
touch the expectation. With RETORT_MODELS also the tensors of the real SmolLM2 file, as gguf dequantises them.
"""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType as Type, GGUFReader, GGUFWriter, TokenType, dequantize, get_tensor_name_map, quantize

HERE = Path(__file__).parent
HIDDEN, HEADS, KV_HEADS, FEED, LAYERS = 32, 4, 2, 64, 2
HEAD = HIDDEN // HEADS
TYPES = [Type.Q4_1, Type.Q4_0, Type.Q8_0, Type.F16, Type.BF16, Type.F32]


def permute(weights, head_count):
    """convert_hf_to_gguf.py, LlamaModel.permute, as llama.cpp publishes it."""
    return weights.reshape(head_count, 2, weights.shape[0] // head_count // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def hugging_face_shapes(vocabulary, has_bias, is_tied):
    shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN), "model.norm.weight": (HIDDEN,)}
    if not is_tied:
        shapes["lm_head.weight"] = (vocabulary, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name, rows in {"q": HIDDEN, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}.items():
            shapes[f"{prefix}self_attn.{name}_proj.weight"] = (rows, HIDDEN)
            if has_bias:
                shapes[f"{prefix}self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{prefix}self_attn.o_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{prefix}mlp.gate_proj.weight"] = shapes[f"{prefix}mlp.up_proj.weight"] = (FEED, HIDDEN)
        shapes[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, FEED)
        shapes[f"{prefix}input_layernorm.weight"] = shapes[f"{prefix}post_attention_layernorm.weight"] = (HIDDEN,)
    return shapes


def described(values):
    flat = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
    return {
        "shape": list(values.shape),
        "sha256": hashlib.sha256(flat.tobytes()).hexdigest(),
        "first": [float(value) for value in flat[:3]],
        "sum": float(flat.astype(np.float64).sum()),
    }


def add_tokenizer(writer, tokenizer, pre, template):
    vocabulary = {**tokenizer["model"]["vocab"], **{token["content"]: token["id"] for token in tokenizer["added_tokens"]}}
    added = {token["id"]: token["special"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    types = [TokenType.NORMAL if i not in added else TokenType.CONTROL if added[i] else TokenType.USER_DEFINED for i in range(len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens + ["[PAD0]", "[PAD1]"])  # as the converter pads a vocabulary
    writer.add_token_types(types + [TokenType.UNUSED] * 2)
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(3)
    writer.add_chat_template(template)
    return len(tokens) + 2


def llama3_divisors(factor):
    """transformers, modeling_rope_utils.py, with the constants of Llama 3.x."""
    frequencies = 500000.0 ** (-np.arange(0, HEAD, 2) / HEAD)
    wavelengths = 2 * np.pi / frequencies
    smooth = (8192 / wavelengths - 1) / 3
    scaled = np.where(wavelengths > 8192, frequencies / factor, frequencies)
    middle = (wavelengths <= 8192) & (wavelengths >= 8192 / 4)
    scaled = np.where(middle, (1 - smooth) * frequencies / factor + smooth * frequencies, scaled)
    return (frequencies / scaled).astype(np.float32)


def write_gguf(path, architecture, tokenizer, pre, template, *, has_bias, is_tied, factor, seed):
    writer = GGUFWriter(path, architecture)
    vocabulary = add_tokenizer(writer, tokenizer, pre, template)
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    if factor is not None:
        writer.add_tensor("rope_freqs.weight", llama3_divisors(factor))
    names = get_tensor_name_map(MODEL_ARCH.LLAMA if architecture == "llama" else MODEL_ARCH.QWEN2, LAYERS)
    random = np.random.default_rng(seed)
    expected = {}
    for index, (name, shape) in enumerate(hugging_face_shapes(vocabulary, has_bias, is_tied).items()):
        values = (random.standard_normal(shape) * 0.1).astype(np.float32)
        # Small and large numbers too: a scale that is a subnormal float16, and zeros.
        if len(shape) == 2:
            values[1] *= 1e-6
            values[2] = 0
        kind = TYPES[index % len(TYPES)] if len(shape) == 2 else Type.F32
        expected[name] = {"type": kind.name, **described(dequantize(quantize(values, kind), kind).reshape(shape))}
        rows = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        stored = permute(values, rows) if architecture == "llama" and rows is not None else values
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), quantize(stored, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def write_random_blocks(path, seed):
    """A row of 512 in each type that the package cannot write: random bytes, with scales that are ordinary float16 numbers."""
    random = np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    # Where in a block of each type its float16 numbers lie (ggml-common.h).
    halves = {Type.Q5_0: (22, [0]), Type.Q5_1: (24, [0, 2]), Type.Q4_K: (144, [0, 2]), Type.Q5_K: (176, [0, 2]), Type.Q6_K: (210, [208])}
    expected = {}
    for index, (kind, (size, places)) in enumerate(halves.items()):
        count = 512 // (32 if kind in (Type.Q5_0, Type.Q5_1) else 256)
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for place in places:
            blocks[:, place : place + 2] = (random.standard_normal((count, 1)) * 0.01).astype(np.float16).view(np.uint8)
        data = blocks.reshape(1, -1)
        writer.add_tensor(f"blk.{index}.ffn_up.weight", data, raw_dtype=kind)
        expected[f"model.layers.{index}.mlp.up_proj.weight"] = {"type": kind.name, **described(dequantize(data, kind))}
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def real_tensors(path):
    """The file's own tensors with the permutation undone as transformers undoes it (modeling_gguf_pytorch_utils.py)."""
    reader = GGUFReader(path)
    heads = {"attn_q": 9, "attn_k": 3}
    result = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        count = heads.get(tensor.name.split(".")[-2])
        if count is not None:
            values = values.reshape(count, values.shape[0] // count // 2, 2, -1).swapaxes(2, 1).reshape(values.shape)
        result[tensor.name] = hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest()[:16]
    return result


def tokenizer_named(name):
    return json.loads((HERE / "tokenizers" / f"{name}.json").read_text())


folder = HERE / "gguf"
folder.mkdir(exist_ok=True)
llama = write_gguf(
    folder / "llama.gguf", "llama", tokenizer_named("llama3-like"), "llama-bpe", "{{ messages[0]['content'] }}<|eot_id|>",
    has_bias=False, is_tied=True, factor=32.0, seed=1,
)  # fmt: skip
qwen2 = write_gguf(
    folder / "qwen2.gguf", "qwen2", tokenizer_named("qwen-like"), "qwen2", "{{ messages[0]['content'] }}<|im_end|>",
    has_bias=True, is_tied=False, factor=None, seed=2,
)  # fmt: skip
blocks = write_random_blocks(folder / "blocks.gguf", seed=3)
smollm2 = real_tensors(Path(os.environ["RETORT_MODELS"]) / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf")
result = {"versions": {"gguf": version("gguf"), "numpy": version("numpy")}, "llama": llama, "qwen2": qwen2, "blocks": blocks, "smollm2-135m-instruct": smollm2}
(HERE / "gguf.json").write_text("{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()) + "\n}\n")
