from sam4mllm.data import conversations, samples
from sam4mllm.runtime.provenance import INDICES
from sam4mllm.targets import record


def test_the_indices_are_those_that_the_stages_write():
    assert INDICES == (samples.INDEX, record.INDEX, conversations.INDEX)
