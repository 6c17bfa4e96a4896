"""Every parameter of tiny-llama trained, as transformers and torch.optim do it. Run after tiny_lora.py, whose rows it uses: python tiny_full.py"""

import json

import torch
from transformers import LlamaForCausalLM

from golden_files import GOLDEN, cross_entropy_sum, number, train, write_json, write_tensors


def fresh():
    """The model and its parameters by name; the tied embedding appears once."""
    model = LlamaForCausalLM.from_pretrained(GOLDEN / "tiny-llama", dtype=torch.float32, attn_implementation="eager").train()
    return model, dict(model.named_parameters())


def main():
    lora = json.loads((GOLDEN / "tiny-lora.json").read_text())
    model, parameters = fresh()
    loss_sum, token_count = cross_entropy_sum(model, lora["rows"])
    (loss_sum / token_count).backward()
    write_tensors(GOLDEN / "tiny-full.safetensors", {f"gradient.{name}": parameter.grad for name, parameter in parameters.items()})

    # No decay: which parameters a decay spares is a choice of the caller, not of the optimiser.
    model, parameters = fresh()
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    rates = [0.1 * step["learningRate"] for step in lora["adamw"]["steps"]]
    steps = train(model, parameters, lora["batches"], optimiser, rates, maximum_norm=1.0)
    write_json(
        GOLDEN / "tiny-full.json",
        {
            "note": "rows and batches are those of tiny-lora.json; norms are before clipping to 1.0",
            "lossSum": number(loss_sum.item()),
            "tokenCount": token_count,
            "maximumNorm": 1.0,
            "adamw": {"options": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.0}, "steps": steps},
        },
    )


main()
