"""alpha * CE + (1 - alpha) * T^2 * KL(teacher || student) from its definition (Hinton et al. 2015). Run: python distillation_loss.py"""

import json

import torch

from golden_files import GOLDEN, adapter_parameters, number, numbers, padded, write_json, write_tensors
from tiny_lora_model import load

SETTINGS = [(0.609, 5.94), (0.5, 1.0), (0.0, 2.0), (1.0, 2.0)]


def distillation(student, teacher, targets, alpha, temperature):
    """Sums over tokens. student, teacher [tokens, vocabulary]; targets [tokens]."""
    cross_entropy = -student.log_softmax(-1).gather(1, targets[:, None]).sum()
    log_p = (teacher / temperature).log_softmax(-1)
    log_q = (student / temperature).log_softmax(-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum()
    return alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence, cross_entropy, divergence


def cases_of_logits(generator):
    """Logits of five tokens over eleven words, the teacher's sharper; one pair of rows agrees, one is far apart."""
    student = 2 * torch.randn(5, 11, generator=generator)
    teacher = 4 * torch.randn(5, 11, generator=generator)
    teacher[1] = student[1] + 3.0
    teacher[2] = -30 * student[2]
    targets = torch.randint(0, 11, (5,), generator=generator)
    cases = []
    for alpha, temperature in SETTINGS:
        leaf = student.clone().double().requires_grad_()
        loss, cross_entropy, divergence = distillation(leaf, teacher.double(), targets, alpha, temperature)
        loss.backward()
        cases.append(
            {
                "alpha": alpha,
                "temperature": temperature,
                "sum": loss.item(),
                "crossEntropySum": cross_entropy.item(),
                "klSum": divergence.item(),
                "gradientOfSum": leaf.grad.flatten().tolist(),
            }
        )
    return {"shape": [5, 11], "studentLogits": numbers(student), "teacherLogits": numbers(teacher), "targets": targets.tolist(), "cases": cases}


def engine_case(generator):
    """The same loss through the tiny LoRA model: teacher logits for each weighted token, in the rows' order."""
    lora = json.loads((GOLDEN / "tiny-lora.json").read_text())
    rows = lora["rows"]
    counts = [sum(row["weights"]) for row in rows]
    teachers = [2 * torch.randn(count, 96, generator=generator) for count in counts]
    results, tensors = [], {f"teacher.{index}": teacher for index, teacher in enumerate(teachers)}
    for alpha, temperature in SETTINGS[:2]:
        model = load(GOLDEN / "tiny-lora" / "initial", trainable=True)
        tokens, attention, weights = padded(rows)
        logits = model(input_ids=tokens, attention_mask=attention).logits[:, :-1]
        chosen = weights[:, 1:] == 1
        loss, cross_entropy, divergence = distillation(logits[chosen], torch.cat(teachers), tokens[:, 1:][chosen], alpha, temperature)
        (loss / sum(counts)).backward()
        results.append(
            {
                "alpha": alpha,
                "temperature": temperature,
                "sum": number(loss.item()),
                "crossEntropySum": number(cross_entropy.item()),
                "klSum": number(divergence.item()),
                "tokenCount": sum(counts),
            }
        )
        tensors |= {f"gradient.{len(results) - 1}.{name}": parameter.grad for name, parameter in adapter_parameters(model).items()}
    return results, tensors


def main():
    generator = torch.Generator().manual_seed(20261124)
    logits_cases = cases_of_logits(generator)
    results, tensors = engine_case(generator)
    write_tensors(GOLDEN / "distillation-loss.safetensors", tensors)
    write_json(GOLDEN / "distillation-loss.json", {"note": "klSum is without alpha and T squared", "logits": logits_cases, "tinyLora": results})


main()
