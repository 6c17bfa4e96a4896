"""What the golden scripts share: paths, versions, batches, and values that both languages compute alike."""

import json
import math
import platform
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy
import peft
import torch
import transformers
from safetensors.torch import save_file

transformers.utils.logging.disable_progress_bar()

warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
GOLDEN = Path(__file__).parent
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def versions():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "gguf": version("gguf"),
    }


def write_json(path, value):
    """JSON with one key a line at the top and compact values, so that differences can be read."""
    lines = [f"  {json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}" for key, item in {"versions": versions(), **value}.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_tensors(path, tensors):
    save_file({name: tensor.detach().to(torch.float32).contiguous().clone() for name, tensor in tensors.items()}, path, {"format": "pt"})


def number(value):
    """A float32 as the shortest decimal that gives it back."""
    return float(numpy.format_float_positional(numpy.float32(value), unique=True)) if math.isfinite(value) else value


def numbers(tensor):
    return [number(value) for value in tensor.detach().flatten().tolist()]


def padded(rows):
    """Rows padded on the right; masked by length, never by comparing with a padding id."""
    longest = max(len(row["tokens"]) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    weights = torch.zeros(len(rows), longest)
    for index, row in enumerate(rows):
        length = len(row["tokens"])
        tokens[index, :length] = torch.tensor(row["tokens"])
        attention[index, :length] = 1
        weights[index, :length] = torch.tensor(row["weights"], dtype=torch.float32)
    return tokens, attention, weights


def cross_entropy_sum(model, rows):
    """Sum over weighted tokens of -log p(token | tokens before it), and the number of weighted tokens."""
    tokens, attention, weights = padded(rows)
    logits = model(input_ids=tokens, attention_mask=attention).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum(), int(weights.sum().item())


def hashed_values(name, shape, scale):
    """
    Values in [-scale, scale) that depend on the name and the index alone: FNV-1a of the name's UTF-8 bytes, plus index times the golden
    ratio, mixed in the manner of lowbias32 (Wellons 2018), over 2^32. Computed in float64 and rounded once to float32.
    """
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    index = numpy.arange(math.prod(shape), dtype=numpy.uint64)
    mask = numpy.uint64(0xFFFFFFFF)
    word = (numpy.uint64(seed) + index * numpy.uint64(0x9E3779B9)) & mask
    word ^= word >> numpy.uint64(16)
    word = (word * numpy.uint64(0x21F0AAAD)) & mask
    word ^= word >> numpy.uint64(15)
    word = (word * numpy.uint64(0xD35A2D97)) & mask
    word ^= word >> numpy.uint64(15)
    values = (word.astype(numpy.float64) / 4294967296.0 * 2.0 - 1.0) * scale
    return torch.from_numpy(values.astype(numpy.float32)).reshape(shape)


def adapter_parameters(model):
    """LoRA parameters by the names that an adapter file has, without `base_model.model.`: …q_proj.lora_A.weight."""
    return {
        name.removeprefix("base_model.model.").replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }


def train(model, named_parameters, batches, optimiser, learning_rates, maximum_norm):
    """One step a batch: loss summed over tokens, gradient divided once by the step's tokens, clipped by its global norm."""
    reports = []
    for batch, learning_rate in zip(batches, learning_rates, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
        optimiser.zero_grad()
        loss_sum, token_count = cross_entropy_sum(model, batch)
        (loss_sum / token_count).backward()
        norm = torch.nn.utils.clip_grad_norm_(list(named_parameters.values()), maximum_norm)
        optimiser.step()
        reports.append({"lossSum": number(loss_sum.item()), "tokenCount": token_count, "learningRate": learning_rate, "gradientNorm": number(norm.item())})
    return reports


def warmup_linear(step, warmup, total, peak):
    """transformers.get_linear_schedule_with_warmup, step counted from 0: rises from 0 to the peak, then falls to 0."""
    return peak * step / warmup if step < warmup else peak * (total - step) / (total - warmup)
