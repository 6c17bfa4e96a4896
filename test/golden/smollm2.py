"""SmolLM2-135M-Instruct as gguf, transformers and PEFT compute it. Run: RETORT_MODELS=FOLDER python smollm2.py"""

import hashlib
import os
from pathlib import Path

import numpy
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from golden_files import GOLDEN, PROJECTIONS, adapter_parameters, cross_entropy_sum, hashed_values, number, numbers, train, warmup_linear, write_json, write_tensors
from smollm2_texts import PROBLEMS, TEXTS

FOLDER = Path(os.environ["RETORT_MODELS"]) / "smollm2-135m-instruct"
GGUF = FOLDER / "SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
LOGIT_POSITIONS = [0, 1, 7, 20, 33, 47, 62, 63]
LOGIT_TOKENS = [(index * 1537 + 11) % 49152 for index in range(32)]
SIGN_COUNT = 16
# Committed whole; every other gradient by its norm, 16 entries and 16 random projections.
WHOLE_GRADIENTS = ["layers.0.", "layers.15.self_attn.q_proj", "layers.15.mlp.down_proj", "layers.29.self_attn.v_proj", "layers.29.self_attn.o_proj"]

PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def read_gguf(config):
    """Weights by Hugging Face's names. llama.cpp stores q and k with rotary pairs side by side; Hugging Face wants halves."""
    weights = {}
    for tensor in GGUFReader(GGUF).tensors:
        value = torch.from_numpy(numpy.array(dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32))
        segments = tensor.name.split(".")
        if segments[0] == "blk":
            part = segments[2]
            if part in ("attn_q", "attn_k"):
                heads = config.num_attention_heads if part == "attn_q" else config.num_key_value_heads
                value = value.reshape(heads, value.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
            weights[f"model.layers.{segments[1]}.{PARTS[part]}.weight"] = value
        else:
            weights[{"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[segments[0]]] = value
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def load_model():
    config = LlamaConfig.from_pretrained(FOLDER, attn_implementation="eager")
    model = LlamaForCausalLM(config).float()
    model.load_state_dict(read_gguf(config), strict=True)
    return model.eval()


def chat(tokenizer, question, answer):
    """The template rendered by hand; prompt and answer encoded apart, as generation has them. Loss on the answer and its <|im_end|>."""
    prompt = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    left = tokenizer.encode(prompt, add_special_tokens=False).ids
    right = tokenizer.encode(f"{answer}<|im_end|>", add_special_tokens=False).ids
    return {"tokens": left + right, "weights": [0] * len(left) + [1] * len(right)}, left


def scored(model, tokenizer, text):
    tokens = tokenizer.encode(text, add_special_tokens=False).ids[:65]
    assert len(tokens) == 65, len(tokens)
    logits = model(torch.tensor([tokens])).logits[0, :64]
    best = logits.topk(2, dim=-1)
    return {
        "text": text,
        "tokens": tokens,
        "argmax": best.indices[:, 0].tolist(),
        "margin": numbers(best.values[:, 0] - best.values[:, 1]),
        "logProbabilityOfNext": numbers(logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])),
        "logits": [numbers(logits[position, LOGIT_TOKENS]) for position in LOGIT_POSITIONS],
    }


def greedy(model, prompt, count):
    """Greedy continuation with transformers' cache, up to <|im_end|> (2), with the margin between the two best logits at every step."""
    tokens, margins, cache, fed = [], [], None, list(prompt)
    for _ in range(count):
        output = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
        cache, best = output.past_key_values, output.logits[0, -1].topk(2)
        fed = [best.indices[0].item()]
        tokens += fed
        margins.append(number((best.values[0] - best.values[1]).item()))
        if fed == [2]:
            break
    return {"prompt": list(prompt), "tokens": tokens, "margins": margins}


def with_hashed_adapter(model):
    """LoRA rank 8, alpha 16: A in ±1/sqrt(inputs), B in ±0.02, by name and index (hashed_values)."""
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM"))
    parameters = adapter_parameters(adapted)
    for name, parameter in parameters.items():
        scale = 1 / parameter.shape[1] ** 0.5 if "lora_A" in name else 0.02
        parameter.data = hashed_values(name, list(parameter.shape), scale)
    return adapted.train(), parameters


def gradients_of(adapted, parameters, rows):
    adapted.zero_grad()
    loss_sum, token_count = cross_entropy_sum(adapted, rows)
    (loss_sum / token_count).backward()
    return loss_sum.item(), token_count, {name: parameter.grad.detach().clone() for name, parameter in parameters.items()}


def signs(name, index, count):
    return torch.where(hashed_values(f"{name}#{index}", [count], 1.0) >= 0, 1.0, -1.0).double()


def summary(gradients):
    """Enough to judge ‖a−b‖/‖b‖: for random signs s, the mean of (s·a − s·b)² estimates ‖a−b‖²."""
    names = sorted(gradients)
    flat = {name: gradients[name].double().flatten() for name in names}
    entries = {name: [index * 7919 % flat[name].numel() for index in range(16)] for name in names}
    return {
        "names": names,
        "norms": [flat[name].norm().item() for name in names],
        "entries": [numbers(flat[name][entries[name]]) for name in names],
    }, {
        "projections": torch.tensor([[(flat[name] * signs(name, index, flat[name].numel())).sum().item() for index in range(SIGN_COUNT)] for name in names]),
    }


def main():
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    model = load_model()
    rows, prompts = zip(*(chat(tokenizer, question, answer) for question, answer in PROBLEMS), strict=True)
    with torch.no_grad():
        texts = [scored(model, tokenizer, text) for text in TEXTS]
        continuations = [greedy(model, prompt, 40) for prompt in prompts[:3]]

    adapted, parameters = with_hashed_adapter(model)
    batch = list(rows[:2])
    _, _, rounded = gradients_of(adapted, parameters, batch)
    # float32 rounds otherwise on every processor: PEFT's own gradients of the upper layers lie 1e-4 to 3e-4 from these, so the exact ones are golden
    exact, _ = with_hashed_adapter(load_model())
    exact = exact.double()
    loss_sum, token_count, gradients = gradients_of(exact, adapter_parameters(exact), batch)
    noise = max(((rounded[name].double() - gradients[name]).norm() / gradients[name].norm()).item() for name in gradients)
    told, projected = summary(gradients)
    whole = {f"gradient.{name}": gradient for name, gradient in gradients.items() if any(part in name for part in WHOLE_GRADIENTS)}
    write_tensors(GOLDEN / "smollm2.safetensors", whole | projected)

    for name, parameter in parameters.items():
        parameter.data = hashed_values(name, list(parameter.shape), 1 / parameter.shape[1] ** 0.5 if "lora_A" in name else 0.02)
    batches = [[2 * step % 8, (2 * step + 1) % 8] for step in range(10)]
    rates = [warmup_linear(step, 3, 11, 1e-3) for step in range(1, 11)]
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    steps = train(adapted, parameters, [[rows[index] for index in batch] for batch in batches], optimiser, rates, maximum_norm=1.0)

    write_json(
        GOLDEN / "smollm2.json",
        {
            "file": GGUF.name,
            "sha256": hashlib.sha256(GGUF.read_bytes()).hexdigest(),
            "logitPositions": LOGIT_POSITIONS,
            "logitTokens": LOGIT_TOKENS,
            "texts": texts,
            "greedy": continuations,
            "lora": {"rank": 8, "alpha": 16, "targets": PROJECTIONS},
            "rows": rows,
            "gradient": {
                "note": "in float64, of (sum over weighted tokens) / tokenCount, rows 0 and 1; entry k of a tensor is at index k * 7919 mod size",
                "float32Noise": noise,
                "rows": [0, 1],
                "lossSum": number(loss_sum),
                "tokenCount": token_count,
                "signCount": SIGN_COUNT,
                **told,
            },
            "adamw": {
                "options": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.01},
                "maximumNorm": 1.0,
                "batches": batches,
                "steps": steps,
            },
        },
    )


if __name__ == "__main__":
    main()
