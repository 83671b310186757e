"""The demo of `sam4mllm demo`: the complete method on the embedded models, in minutes.

`recipe` has the values of its recipe, `run` the steps, and `tables` the results.
"""
