"""Task sets on disk, the tokenizer, renderers and input pipelines. Works on records; runs no environment."""
