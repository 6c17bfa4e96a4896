"""
What PEFT computes with an adapter folder written by retort. Prints JSON: {"versions": …, "logits": [[…] …]}, a flat list for each row.

python peft_reads_adapter.py MODEL_FOLDER ADAPTER_FOLDER < rows.json      where rows.json holds [[token ids] …]
"""

import json
import sys
import warnings

import peft
import torch
import transformers
from peft import PeftModel
from transformers import LlamaForCausalLM

warnings.simplefilter("error", category=UserWarning)  # PEFT warns of missing and of unexpected keys and goes on
transformers.utils.logging.disable_progress_bar()


@torch.no_grad()
def main(model_folder, adapter_folder):
    rows = json.load(sys.stdin)
    base = LlamaForCausalLM.from_pretrained(model_folder, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, adapter_folder).eval()
    logits = [model(torch.tensor([row])).logits[0].flatten().tolist() for row in rows]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    json.dump({"versions": versions, "logits": logits}, sys.stdout)


main(*sys.argv[1:3])
