"""Attention of tiny-llama and SmolLM2 as transformers hands it out (`output_attentions`), and its measures by numpy.

    python attention.py                              tiny-llama alone: attention.json
    RETORT_MODELS=FOLDER python attention.py         SmolLM2-135M-Instruct too: attention-smollm2.json
"""

import os
from pathlib import Path

import numpy
import torch
from golden_files import GOLDEN, write_json
from transformers import LlamaForCausalLM


def without_first(maps):
    """Column 0 and row 0 taken out, rows normalised again."""
    rest = maps[:, 1:, 1:]
    sums = rest.sum(-1, keepdims=True)
    return numpy.divide(rest, sums, out=numpy.zeros_like(rest), where=sums > 0)


def measures(layers):
    """layers: [layers, heads, n, n], float64."""
    result = {"entropy": [], "focus": [], "sparsity": [], "firstToken": [], "similarityToPreviousLayer": []}
    for index, maps in enumerate(layers):
        logs = numpy.log(maps, out=numpy.zeros_like(maps), where=maps > 0)
        result["entropy"].append((-(maps * logs).sum(-1)).mean(-1))
        result["focus"].append(numpy.diagonal(maps, axis1=1, axis2=2).mean(-1))
        result["sparsity"].append((maps > 0.1).mean((1, 2)))
        result["firstToken"].append(maps[:, :, 0].mean(-1))
        if index > 0:
            before = layers[index - 1]
            product = (maps * before).sum((1, 2))
            result["similarityToPreviousLayer"].append(product / numpy.sqrt((maps**2).sum((1, 2)) * (before**2).sum((1, 2))))
    return {name: [[round(float(x), 7) for x in row] for row in rows] for name, rows in result.items()}


def study(model, tokens):
    with torch.no_grad():
        attentions = model(torch.tensor([tokens]), output_attentions=True).attentions
    layers = [attention[0].double().numpy() for attention in attentions]
    return {"tokens": tokens, "with": measures(layers), "without": measures([without_first(maps) for maps in layers])}


def tiny():
    model = LlamaForCausalLM.from_pretrained(GOLDEN / "tiny-llama", attn_implementation="eager").float().eval()
    prompts = [[(7 * index + 3) % 96 for index in range(40)], [5, 17, 17, 80, 2, 9]]
    write_json(GOLDEN / "attention.json", {"prompts": [study(model, tokens) for tokens in prompts]})


def smollm2():
    from smollm2 import load_model
    from smollm2_texts import TEXTS
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(os.environ["RETORT_MODELS"]) / "smollm2-135m-instruct" / "tokenizer.json"))
    tokens = tokenizer.encode(" ".join(TEXTS), add_special_tokens=False).ids[:96]
    write_json(GOLDEN / "attention-smollm2.json", {"prompts": [study(load_model(), tokens)]})


if __name__ == "__main__":
    tiny()
    if "RETORT_MODELS" in os.environ:
        smollm2()
