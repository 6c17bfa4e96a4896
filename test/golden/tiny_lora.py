"""LoRA on tiny-llama as PEFT and torch.optim compute it. Run after tiny_llama.py: python tiny_lora.py"""

import json
import shutil

import torch
from peft import LoraConfig, get_peft_model

from golden_files import GOLDEN, PROJECTIONS, adapter_parameters, cross_entropy_sum, number, train, warmup_linear, write_json, write_tensors
from tiny_lora_model import base_model, load

FOLDER = GOLDEN / "tiny-lora"
STEP_COUNT = 10


def save(model, folder):
    """As PEFT saves it, without the path of this machine and the model card."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "tiny-llama"}, indent=2) + "\n")


def random_rows(lengths, prompt_lengths, generator):
    """Rows whose first tokens are a prompt without loss; the third of four also leaves out a token in the middle."""
    rows = []
    for index, (length, prompt_length) in enumerate(zip(lengths, prompt_lengths, strict=True)):
        weights = [0 if position < prompt_length else 1 for position in range(length)]
        if index == 2:
            weights[prompt_length + 1] = 0
        rows.append({"tokens": torch.randint(3, 96, (length,), generator=generator).tolist(), "weights": weights})
    return rows


def write_initial(generator):
    torch.manual_seed(7)
    model = get_peft_model(base_model(), LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM"))
    for name, parameter in adapter_parameters(model).items():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    save(model, FOLDER / "initial")


def run_steps(optimiser_of, batches, learning_rates, name):
    model = load(FOLDER / "initial", trainable=True)
    parameters = adapter_parameters(model)
    reports = train(model, parameters, batches, optimiser_of(list(parameters.values())), learning_rates, maximum_norm=1.0)
    save(model, FOLDER / name)
    return reports


def main():
    generator = torch.Generator().manual_seed(20261123)
    write_initial(generator)
    rows = random_rows([40, 23, 12, 5], [10, 22, 3, 1], generator)
    batches = [random_rows([24 - step, 16, 11 + step], [6, 9, 2], generator) for step in range(STEP_COUNT)]
    batches = [batch[: 1 + step % 3] for step, batch in enumerate(batches)]  # one to three rows: the token count differs from step to step

    model = load(FOLDER / "initial", trainable=True)
    parameters = adapter_parameters(model)
    loss_sum, token_count = cross_entropy_sum(model, rows)
    (loss_sum / token_count).backward()
    tensors = {f"gradient.{name}": parameter.grad for name, parameter in parameters.items()}
    with torch.no_grad():
        for index, row in enumerate(rows):
            tensors[f"logits.{index}"] = model(torch.tensor([row["tokens"]])).logits[0]
        sums = [number(cross_entropy_sum(model, [row])[0].item()) for row in rows]

    rates = [warmup_linear(step, 2, STEP_COUNT + 1, 0.02) for step in range(1, STEP_COUNT + 1)]
    adamw = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.01}
    sgd = {"momentum": 0.9, "weightDecay": 0.01}
    adamw_steps = run_steps(lambda p: torch.optim.AdamW(p, lr=0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01), batches, rates, "after-adamw")
    sgd_steps = run_steps(lambda p: torch.optim.SGD(p, lr=0, momentum=0.9, weight_decay=0.01), batches, [10 * rate for rate in rates], "after-sgd")
    with torch.no_grad():
        for name in ("after-adamw", "after-sgd"):
            trained = load(FOLDER / name, trainable=False)
            tensors[f"logits.{name}"] = trained(torch.tensor([rows[0]["tokens"]])).logits[0]

    write_tensors(GOLDEN / "tiny-lora.safetensors", tensors)
    write_json(
        GOLDEN / "tiny-lora.json",
        {
            "note": "gradients are of (sum over weighted tokens) / tokenCount; SGD is torch's: decay joins the gradient before the momentum; norms are before clipping to 1.0",
            "lora": {"rank": 4, "alpha": 8, "targets": PROJECTIONS},
            "rows": rows,
            "lossSum": number(loss_sum.item()),
            "tokenCount": token_count,
            "lossSumOfEachRow": sums,
            "maximumNorm": 1.0,
            "schedule": {"name": "linear", "warmupSteps": 2, "totalSteps": STEP_COUNT + 1, "peak": 0.02, "firstStep": 1},
            "batches": batches,
            "adamw": {"options": adamw, "steps": adamw_steps},
            "sgd": {"options": sgd, "steps": sgd_steps},
        },
    )


main()
