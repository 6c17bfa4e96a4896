"""Writes merged-weights.json: what PEFT's merge_and_unload makes of tiny-llama and the adapter in tiny-lora/initial, in float32."""

from golden_files import GOLDEN, numbers, write_json
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained(GOLDEN / "tiny-llama", dtype="float32")
before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
merged = PeftModel.from_pretrained(base, GOLDEN / "tiny-lora" / "initial").merge_and_unload().state_dict()
weights = {
    name: {
        "changed": bool((tensor != before[name]).any()),
        "norm": float(tensor.double().norm()),
        "lastRow": numbers(tensor[-1] if tensor.dim() == 2 else tensor)[:16],
    }
    for name, tensor in merged.items()
}
write_json(GOLDEN / "merged-weights.json", {"weights": weights})
