"""Which layers of a model can be stored in fewer bits? klens measures it, with forward passes alone.

    scores = klens.rank_layers(model, tokens, schemes=["int4-g64", "int8-channel"])
    print(scores)
    plan = scores.plan("4.5bpw")
    plan.apply_(model)

rank_layers         scores every layer under every scheme
kl, mse, ...        a metric over two arrays of logits
quantize, pack ...  what storage does to a weight matrix
read_scores, read_plan   the files that save() wrote
"""

from klens._core import __version__
from klens._metrics import delta_ce, js, kl, mse, reverse_kl, sqnr, top1
from klens._plan import Plan, read_plan
from klens._quantize import pack, quantize, size_in_bytes, unpack
from klens._rank import ScanError, rank_layers
from klens._scores import Scores, read_scores
from klens._stopping import budget, order, split, top

__all__ = [
    "Plan",
    "ScanError",
    "Scores",
    "__version__",
    "budget",
    "delta_ce",
    "js",
    "kl",
    "mse",
    "order",
    "pack",
    "quantize",
    "rank_layers",
    "read_plan",
    "read_scores",
    "reverse_kl",
    "size_in_bytes",
    "split",
    "sqnr",
    "top",
    "top1",
    "unpack",
]
