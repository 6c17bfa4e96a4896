"""Two tiny random Llamas as transformers computes them. Run: python tiny_llama.py"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from golden_files import GOLDEN, numbers, number, write_json, write_tensors

# tiny-llama: shaped as Llama 3.2 (tied, grouped queries, llama3 RoPE). Theta 100 and 32 original positions give wavelengths 6.3, 11.2, 19.9,
# 35.3 … 354, so that all three branches of the scaling occur: kept (< 32/4), smoothed, divided (> 32/1).
# tiny-llama-untied: a head of its own, another epsilon, three query heads a key head, no scaling.
# In both head_dim is 16 where width / heads is 8: ONNX Runtime's attention with a cache takes multiples of 16.
SHAPES = {
    "tiny-llama": dict(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=96,
        max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32),
    ),
    "tiny-llama-untied": dict(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=16, vocab_size=96,
        max_position_embeddings=128, rms_norm_eps=1e-3, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=500000.0),
    ),
}  # fmt: skip
ROW_LENGTHS = [48, 31, 17, 2]


def randomise(model, generator):
    """Weights large enough that attention is far from uniform, and norms away from 1: a small initialisation hides mistakes."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * noise if "norm" in name else noise * (0.4 if "embed" in name else 1.6 / parameter.shape[-1] ** 0.5)


def greedy(model, prompt, count):
    """Greedy continuation without a cache, with the margin between the two best logits at every step."""
    tokens, margins, log_probabilities = list(prompt), [], []
    for _ in range(count):
        logits = model(torch.tensor([tokens])).logits[0, -1]
        best = logits.topk(2)
        tokens.append(best.indices[0].item())
        margins.append(number((best.values[0] - best.values[1]).item()))
        log_probabilities.append(number(logits.log_softmax(-1)[tokens[-1]].item()))
    return {"prompt": list(prompt), "tokens": tokens[len(prompt) :], "margins": margins, "logProbabilities": log_probabilities}


def inner_values(model, tokens):
    """hidden.L after L layers, before the last norm; attention.L of layer L, from 0, [heads, query, key]."""
    values, hooks = {}, []
    hooks.append(model.model.embed_tokens.register_forward_hook(lambda _, __, output: values.update({"hidden.0": output[0]})))
    for index, layer in enumerate(model.model.layers):
        keep = lambda _, __, output, name=f"hidden.{index + 1}": values.update({name: (output[0] if isinstance(output, tuple) else output)[0]})
        hooks.append(layer.register_forward_hook(keep))
    attentions = model(torch.tensor([tokens]), output_attentions=True).attentions
    for hook in hooks:
        hook.remove()
    return values | {f"attention.{index}": attention[0] for index, attention in enumerate(attentions)}


def old_spelling(config):
    """config.json as transformers 4 wrote it."""
    old = {key: value for key, value in config.items() if key != "rope_parameters"}
    rope = dict(config["rope_parameters"])
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    old["torch_dtype"] = old.pop("dtype")
    return old


def logits_of(folder, rows):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return [model(torch.tensor([row])).logits[0] for row in rows]


def largest_difference(left, right):
    return number(max((a - b).abs().max().item() for a, b in zip(left, right, strict=True)))


@torch.no_grad()
def write_model(name, shape, generator):
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    config = LlamaConfig(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=2, attn_implementation="eager", initializer_range=0.02)
    model = LlamaForCausalLM(config).eval()
    randomise(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    rows = [torch.randint(3, shape["vocab_size"], (length,), generator=generator).tolist() for length in ROW_LENGTHS]
    logits = logits_of(folder, rows)

    # How far the logits move when one detail is wrong: what a tolerance of 1e-4 tells apart.
    written = json.loads((folder / "config.json").read_text())
    spelling = old_spelling(written)
    (folder / "config-old-spelling.json").write_text(json.dumps(spelling, indent=2) + "\n")
    wrong = {"old spelling (must be 0)": spelling, "rms_norm_eps doubled": written | {"rms_norm_eps": 2 * written["rms_norm_eps"]}}
    if written["rope_parameters"]["rope_type"] == "llama3":
        wrong["no RoPE scaling"] = written | {"rope_parameters": {"rope_type": "default", "rope_theta": written["rope_parameters"]["rope_theta"]}}
        wrong["low_freq_factor 2"] = written | {"rope_parameters": written["rope_parameters"] | {"low_freq_factor": 2.0}}
        wrong["high_freq_factor 8"] = written | {"rope_parameters": written["rope_parameters"] | {"high_freq_factor": 8.0}}
    sensitivity = {}
    with tempfile.TemporaryDirectory() as other:
        shutil.copytree(folder, other, dirs_exist_ok=True)
        for label, changed in wrong.items():
            (Path(other) / "config.json").write_text(json.dumps(changed))
            sensitivity[label] = largest_difference(logits, logits_of(other, rows))

    log_probabilities = [
        [0.0] + numbers(row_logits[:-1].log_softmax(-1).gather(1, torch.tensor(row[1:])[:, None])) for row, row_logits in zip(rows, logits, strict=True)
    ]
    tensors = {f"logits.{index}": row_logits for index, row_logits in enumerate(logits)} | inner_values(model, rows[2])
    write_tensors(GOLDEN / f"{name}.safetensors", tensors)
    prompts = [rows[0][:5], rows[1][:11], rows[2][:1]]
    write_json(
        GOLDEN / f"{name}.json",
        {
            "rows": rows,
            "logProbabilities": log_probabilities,
            "innerValuesOfRow": 2,
            "greedy": [greedy(model, prompt, 24) for prompt in prompts],
            "sensitivity": sensitivity,
        },
    )


for name, shape in SHAPES.items():
    write_model(name, shape, torch.Generator().manual_seed(20261122))
