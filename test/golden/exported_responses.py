"""What other trainers read from exported answers: `exported-responses.json`.

    node exported-samples.ts OUT
    env-trl/bin/python exported_responses.py OUT datasets trl                  # pip install datasets trl peft torch
    env-llama-factory/bin/python exported_responses.py OUT llama-factory      # pip install llamafactory, which wants older versions of the others

Where LLaMA-Factory's torchaudio refuses to load beside its torch, an empty package of that name on PYTHONPATH does.

Each part replaces its own entries of the file. Trainers' configs are read by their own parsers, the data through these configs.
"""

import hashlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
RESULT = Path(__file__).parent / "exported-responses.json"
FORMATS = ["chat-jsonl", "sharegpt", "alpaca", "prompt-completion", "parquet"]
SETTINGS = ["learning_rate", "num_train_epochs", "per_device_train_batch_size", "lr_scheduler_type", "optim", "adam_beta1", "adam_beta2"]
SETTINGS += ["adam_epsilon", "weight_decay", "max_grad_norm", "seed"]


def plain(value):
    return getattr(value, "value", value)


def turns(messages):
    return [[message["role"], message["content"]] for message in messages]


def with_datasets(folder):
    """Every format, as `datasets` reads it: the raw rows, in their own keys."""
    from datasets import load_dataset

    rows = {}
    for name in FORMATS:
        kind = "parquet" if name == "parquet" else "json"
        data = load_dataset(kind, data_files=str(next((folder / name).glob(f"train.{kind}*"))), split="train")
        rows[name] = [json.loads(json.dumps(row)) for row in data]
    return {"versions": {"datasets": version("datasets"), "pyarrow": version("pyarrow")}, "rows": rows}


def with_trl(folder):
    """Conversations as TRL takes them apart, and its settings, both by the trl.yaml in each folder."""
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser, get_dataset
    from trl.data_utils import is_conversational, maybe_convert_to_chatml

    rows, settings = {}, {}
    for path in sorted(folder.glob("*/trl.yaml")):
        os.chdir(path.parent)
        parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
        _, training, model, mixture = parser.parse_args_and_config(["--config", "trl.yaml", "--use_cpu", "--bf16", "false"])
        data = [maybe_convert_to_chatml(row) for row in get_dataset(mixture)["train"]]
        assert all(is_conversational(row) for row in data), path
        rows[path.parent.name] = [turns(row["messages"] if "messages" in row else row["prompt"] + row["completion"]) for row in data]
        settings[path.parent.name] = {
            **{key: plain(getattr(training, key)) for key in [*SETTINGS, "max_length"]},
            "warmup_of_100": training.get_warmup_steps(100),
            **{key: plain(getattr(model, key)) for key in ["model_name_or_path", "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"]},
        }
    return {"versions": {"trl": version("trl"), "transformers": version("transformers")}, "rows": rows, "settings": settings}


def with_llama_factory(folder):
    """Conversations as LLaMA-Factory aligns them, and its settings, both by the llama-factory.yaml and dataset_info.json in each folder."""
    import yaml
    from llamafactory.data.loader import _load_single_dataset
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import get_train_args

    rows, settings = {}, {}
    for path in sorted(folder.glob("*/llama-factory.yaml")):
        os.chdir(path.parent)
        given = {**yaml.safe_load(path.read_text()), "use_cpu": True, "overwrite_cache": True}
        model, data, training, finetuning, _ = get_train_args(given)
        (attributes,) = get_dataset_list(data.dataset, data.dataset_dir)
        aligned = _load_single_dataset(attributes, model, data, training)
        rows[path.parent.name] = [
            ([["system", row["_system"]]] if row["_system"] else []) + turns(row["_prompt"]) + turns(row["_response"]) for row in aligned
        ]
        settings[path.parent.name] = {
            **{key: plain(getattr(training, key)) for key in SETTINGS},
            "warmup_of_100": training.get_warmup_steps(100),
            "cutoff_len": data.cutoff_len,
            "model_name_or_path": model.model_name_or_path,
            **{key: getattr(finetuning, key) for key in ["stage", "finetuning_type", "lora_rank", "lora_alpha", "lora_dropout", "lora_target"]},
        }
    return {"versions": {"llamafactory": version("llamafactory"), "transformers": version("transformers")}, "rows": rows, "settings": settings}


PARTS = {"datasets": with_datasets, "trl": with_trl, "llama-factory": with_llama_factory}

if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result["files"] = {f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*/*.*"))}
    for part in sys.argv[2:]:
        result[part] = PARTS[part](folder)
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=True)}" for key, value in result.items()]
    RESULT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
