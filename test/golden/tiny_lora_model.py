"""tiny-llama with an adapter of tiny-lora/."""

import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from golden_files import GOLDEN


def base_model():
    return LlamaForCausalLM.from_pretrained(GOLDEN / "tiny-llama", dtype=torch.float32, attn_implementation="eager")


def load(folder, trainable):
    return PeftModel.from_pretrained(base_model(), folder, is_trainable=trainable).train(trainable)
