"""Plain definitions in float64 that share no code with klens."""

import numpy


def softmax(logits):
    shifted = logits.astype("float64") - logits.max(-1, keepdims=True)
    return numpy.exp(shifted) / numpy.exp(shifted).sum(-1, keepdims=True)


def kl(reference, observed):
    p, q = softmax(reference), softmax(observed)
    return float((p * (numpy.log(p) - numpy.log(q))).sum(-1).mean())


def js(reference, observed):
    p, q = softmax(reference), softmax(observed)
    m = (p + q) / 2
    return float(((p * numpy.log(p / m)).sum(-1) + (q * numpy.log(q / m)).sum(-1)).mean() / 2)


def kendall_tau(first, second):
    """How far two lists agree in their order, of all pairs: 1 wholly, -1 not at all."""
    pairs = [(a, b) for a in range(len(first)) for b in range(a)]
    return sum(numpy.sign((first[a] - first[b]) * (second[a] - second[b])) for a, b in pairs) / len(pairs)
