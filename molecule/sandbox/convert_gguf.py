#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model.gguf in a folder to safetensors (bfloat16, shards of at most 150 MB), tokenizer and configs in another.

Run by build.py in the engine's root, with the engine's packages: convert_gguf.py FROM TO.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

SHARD = "150MB"


def main(source: str, target: str) -> None:
    options = {"gguf_file": "model.gguf"}
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    model = AutoModelForCausalLM.from_pretrained(
        source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16, **options
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.config.eos_token_id = model.config.pad_token_id = end
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"), eos_token_id=end, pad_token_id=end
    )
    model.save_pretrained(target, max_shard_size=SHARD)
    tokenizer.chat_template = None  # the template with tools is added by build.py
    tokenizer.save_pretrained(target)
    out = Path(target)
    special = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
    }
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    # a class that every transformers release reads
    config.update(
        special, tokenizer_class="PreTrainedTokenizerFast", model_max_length=model.config.max_position_embeddings
    )
    path.write_text(json.dumps(config, indent=2) + "\n")
    # without a trace of the conversion: vLLM would look for a GGUF file
    path = out / "config.json"
    config = json.loads(path.read_text())
    config.pop("quantization_config", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
