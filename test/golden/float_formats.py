"""
Writes float-formats.safetensors: numbers that are hard to round, in float32 and as PyTorch stores them in float16 and bfloat16, in a file
as the Python package safetensors lays it out (another order than ours, BF16 and F16 beside F32).
"""

import math

import torch
from golden_files import GOLDEN
from safetensors.torch import save_file

generator = torch.Generator().manual_seed(1)
special = [0.0, -0.0, math.inf, -math.inf, 65504.0, 65519.996, -65519.996, 2.0**-24, 2.0**-25, 2.0**-25 * 1.0000001, 2.0**-14, 2.0**-126, 2.0**-149]
ties = [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1023.5 * 2.0**-24, 2047.5, 2048.5 * 2]
ordinary = torch.randn(200, generator=generator) * torch.exp(8 * torch.randn(200, generator=generator))
small = ordinary.clamp(-60000, 60000)
values = torch.cat([torch.tensor(special + ties, dtype=torch.float32), small])
save_file(
    {"values": values, "float16": values.to(torch.float16), "bfloat16": values.to(torch.bfloat16)}
    | {"float16.read": values.to(torch.float16).float(), "bfloat16.read": values.to(torch.bfloat16).float()},
    GOLDEN / "float-formats.safetensors",
    {"format": "pt"},
)
