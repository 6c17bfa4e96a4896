"""
transformers' generate on the CPU, timed: greedy, with its default cache, prompts of one length. Talks to bench/main.ts (protocol.py).

First line in: {modelFolder, threadCount}. Then {mode, prompts: [[ids]], newTokenCount} each; modes: float32, bfloat16.
"""

import time

import torch
import transformers

from protocol import peak_memory_bytes, reset_peak_memory, serve
from smollm2_model import load_model


def start(options):
    torch.set_num_threads(options["threadCount"])
    models = {mode: load_model(options["modelFolder"], getattr(torch, mode)).eval() for mode in ("float32", "bfloat16")}
    for model in models.values():
        model.generation_config.eos_token_id = None  # every answer has its full length, without a processor that forbids the end token
    return models, {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "threadCount": torch.get_num_threads()}


@torch.inference_mode()
def measure(models, request):
    prompts = torch.tensor(request["prompts"])
    count = request["newTokenCount"]
    reset_peak_memory()
    begin = time.perf_counter()
    output = models[request["mode"]].generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=count, do_sample=False, pad_token_id=2
    )
    seconds = time.perf_counter() - begin
    answers = output[:, prompts.shape[1] :].tolist()
    return {
        "mode": request["mode"],
        "seconds": seconds,
        "tokenCount": sum(len(answer) for answer in answers),
        "peakMemoryBytes": peak_memory_bytes(),
        "firstAnswer": answers[0],
    }


serve(start, measure)
