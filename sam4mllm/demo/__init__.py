"""The demonstration: the whole method in minutes on the embedded models, by `sam4mllm demo`.

`recipe` has its values, `run` its steps, and `tables` what it shows. Knows no command line.
"""
