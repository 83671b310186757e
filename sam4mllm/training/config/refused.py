"""Recipe keys that are refused by name: old names with their new ones, and arguments that the package sets itself.

Together with the fields of `Training` and `Lora`, these are all arguments of `trl.SFTConfig` and `peft.LoraConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping

TRAINING_RENAMED = {
    "steps": "max_steps",
    "epochs": "num_train_epochs",
    "batch": "per_device_train_batch_size",
    "accumulate": "gradient_accumulation_steps",
    "schedule": "lr_scheduler_type",
    "warmup": "warmup_steps",
    "warmup_ratio": "warmup_steps",  # since transformers 5, warmup_steps below 1 is a ratio
    "beta2": "adam_beta2",
    "clip": "max_grad_norm",
    "log_every": "logging_steps",
    "save_every": "save_steps",
    "keep": "save_total_limit",
    "workers": "dataloader_num_workers",
    "activation_checkpointing": "gradient_checkpointing",  # TRL has two names for the same switch
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
}
LORA_RENAMED = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "targets": "target_modules"}


def _by_name(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons by name; each reason maps to its names, separated by spaces."""
    return {name: reason for reason, names in reasons.items() for name in names.split()}


TRAINING_REFUSED = _by_name(
    {
        "checkpoints are written below the recipe's out": "output_dir",
        "the package loads the model: see mllm, chat_template, trust_remote_code and device": (
            "model_init_kwargs trust_remote_code chat_template_path eos_token pad_token use_cpu"
        ),
        "the package packs the rows itself, and cutting a row would lose image tokens: set rows.tokens": (
            "max_length truncation_mode packing packing_strategy eval_packing padding_free pad_to_multiple_of"
        ),
        "the package tokenizes the rows: see data and rows": (
            "dataset_text_field dataset_kwargs dataset_num_proc remove_unused_columns label_names"
        ),
        "the rows are shuffled where they are made: set rows.seed": (
            "shuffle_dataset train_sampling_strategy length_column_name data_seed dataloader_drop_last"
        ),
        "only replies have labels": "completion_only_loss assistant_only_loss",
        "rows are made by forked processes": "dataloader_multiprocessing_context",
        "there is no evaluation set: validation.samples are predicted, and scored by cIoU": (
            "do_train do_eval do_predict eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size "
            "prediction_loss_only eval_do_concat_batches batch_eval_metrics eval_use_gather_object "
            "eval_accumulation_steps include_for_metrics bf16_full_eval fp16_full_eval load_best_model_at_end "
            "metric_for_best_model greater_is_better"
        ),
        "a checkpoint must be complete to resume from it: set save_steps": (
            "save_strategy save_only_model save_on_each_node enable_jit_checkpoint"
        ),
        "a run resumes from its last checkpoint by itself": (
            "resume_from_checkpoint ignore_data_skip restore_callback_states_from_checkpoint"
        ),
        "it would hide a loss that is NaN": "logging_nan_inf_filter",
        "it would change the rows of a step": "auto_find_batch_size",
        "recipe.yaml would hold the secret: set the environment variable HF_TOKEN": "hub_token",
        "the launcher sets it: accelerate launch --config_file": "local_rank parallelism_config",
    }
)
LORA_REFUSED = _by_name(
    {
        "peft writes it": "peft_type auto_mapping peft_version base_model_name_or_path revision inference_mode",
        "the adapter is attached to the model's own class": "task_type alora_invocation_tokens",
        "the base keeps its weights": (
            "bias layer_replication loftq_config eva_config corda_config lora_ga_config kasa_config"
        ),
        "the vocabulary keeps its embeddings": "trainable_token_indices",
        "it needs Megatron": "megatron_config megatron_core",
        "peft does not keep it in an adapter": "runtime_config",
    }
)
