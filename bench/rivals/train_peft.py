"""
PEFT's LoRA step on the CPU, timed: forward, backward, clipping, AdamW. Talks to bench/main.ts (protocol.py).

First line in: {modelFolder, rank, alpha, threadCount, rows: [{tokens, weights}]}. Then {mode, warmup, steps} each; modes: float32, bfloat16,
autocast (float32 weights, bfloat16 products), and each with "compiled-" (torch.compile) or "checkpointed-" (gradient checkpointing) before it.
"""

import time

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model

from protocol import peak_memory_bytes, reset_peak_memory, serve
from smollm2_model import load_model

MODES = [prefix + mode for prefix in ("", "compiled-", "checkpointed-") for mode in ("float32", "bfloat16", "autocast")]
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def start(options):
    torch.set_num_threads(options["threadCount"])
    torch.manual_seed(0)
    tokens = torch.tensor([row["tokens"] for row in options["rows"]])
    weights = torch.tensor([row["weights"] for row in options["rows"]])
    labels = tokens.masked_fill(weights == 0, -100)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    return {"options": options, "tokens": tokens, "labels": labels, "models": {}}, {"versions": versions, "threadCount": torch.get_num_threads()}


def trainer(state, mode):
    """A model and its optimiser for a mode, made when first asked for. Adapters stay float32, as PEFT makes them."""
    if mode not in MODES:
        raise ValueError(f"no mode {mode}; there are {', '.join(MODES)}")
    if mode not in state["models"]:
        state["models"].clear()  # one at a time: peak memory is then of this mode
        options = state["options"]
        base = load_model(options["modelFolder"], torch.bfloat16 if mode.endswith("bfloat16") else torch.float32)
        config = LoraConfig(r=options["rank"], lora_alpha=options["alpha"], lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
        model = get_peft_model(base, config).train()
        model.config.use_cache = False
        if mode.startswith("checkpointed-"):
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)
        called = torch.compile(model) if mode.startswith("compiled-") else model
        state["models"][mode] = (called, parameters, optimiser)
    return state["models"][mode]


def step(state, mode):
    model, parameters, optimiser = trainer(state, mode)
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=mode.endswith("autocast")):
        loss = model(input_ids=state["tokens"], labels=state["labels"]).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    return loss.item()


def measure(state, request):
    mode = request["mode"]
    trainer(state, mode)
    reset_peak_memory()
    begin = time.perf_counter()
    for _ in range(request["warmup"]):
        step(state, mode)
    warm = time.perf_counter()
    losses = [step(state, mode) for _ in range(request["steps"])]
    end = time.perf_counter()
    return {
        "mode": mode,
        "seconds": end - warm,
        "warmupSeconds": warm - begin,
        "tokenCount": state["tokens"].numel() * request["steps"],
        "peakMemoryBytes": peak_memory_bytes(),
        "loss": losses[-1],
    }


serve(start, measure)
