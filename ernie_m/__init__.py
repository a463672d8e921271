"""ERNIE-M for transformers 5: configuration, model, tokenizer and conversion."""
