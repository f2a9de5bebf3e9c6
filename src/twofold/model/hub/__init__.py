"""Checkpoints as the model hub holds them: a directory of config.json, tokenizer.json and safetensors files."""
