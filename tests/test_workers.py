"""The benchmarks' workers run with the default's parts, so that what they time is the product."""

from benchmarks import workers
from benchmarks.broken import TINY


def test_the_limit_is_of_the_network_that_trains(phantom_root, phantoms):
    data = ["data=phantom", f"data.root={phantom_root}"]
    headed, plain = (workers.limit(data, *TINY, f"model.coarse_heads={n}") for n in (1, 0))
    assert headed["patches_per_s"] > 0
    assert headed["gflop_per_patch"] > plain["gflop_per_patch"] > 0
