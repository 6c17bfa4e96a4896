"""SmolLM2 for the rivals: its GGUF dequantised, or safetensors where the folder has them, as transformers' LlamaForCausalLM."""

from pathlib import Path

import numpy
import torch
from transformers import LlamaConfig, LlamaForCausalLM

PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def gguf_weights(path, config):
    """Weights by Hugging Face's names; llama.cpp stores q and k with rotary pairs side by side, Hugging Face wants halves."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    weights = {}
    for tensor in GGUFReader(path).tensors:
        value = torch.from_numpy(numpy.array(dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32))
        segments = tensor.name.split(".")
        if segments[0] != "blk":
            weights[{"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight", "output": "lm_head.weight"}[segments[0]]] = value
            continue
        part = segments[2]
        if part in ("attn_q", "attn_k"):
            heads = config.num_attention_heads if part == "attn_q" else config.num_key_value_heads
            value = value.reshape(heads, value.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
        weights[f"model.layers.{segments[1]}.{PARTS[part]}.weight"] = value
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    return weights


def load_model(folder, dtype):
    """With transformers' default attention (scaled_dot_product_attention), which is its fastest on a CPU."""
    folder = Path(folder)
    ggufs = sorted(folder.glob("*.gguf"))
    if (folder / "model.safetensors").exists() or (folder / "model.safetensors.index.json").exists() or not ggufs:
        return LlamaForCausalLM.from_pretrained(folder, dtype=dtype)
    config = LlamaConfig.from_pretrained(folder)
    model = LlamaForCausalLM(config)
    model.load_state_dict(gguf_weights(ggufs[0], config), strict=True)
    return model.to(dtype)
