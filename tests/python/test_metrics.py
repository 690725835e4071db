import math

import numpy
import plain
import pytest

import klens

random = numpy.random.default_rng(2)
X = random.normal(size=(7, 53)).astype("float32") * 3
Y = X + random.normal(size=X.shape).astype("float32")


def test_the_divergences_are_those_of_their_definitions():
    assert klens.kl(X, Y) == pytest.approx(plain.kl(X, Y), rel=1e-6)
    assert klens.reverse_kl(X, Y) == pytest.approx(plain.kl(Y, X), rel=1e-6)
    assert klens.js(X, Y) == pytest.approx(plain.js(X, Y), rel=1e-6)


def test_what_can_be_counted_by_hand():
    a, b = numpy.array([[1, 2, 3]], "float32"), numpy.array([[1, 2, 5]], "float32")
    assert klens.mse(a, b) == pytest.approx(4 / 3)
    assert klens.sqnr(a, b) == pytest.approx(10 * math.log10(14 / 4))
    assert klens.top1(a, b) == 1 and klens.top1(a, -b) == 0
    assert klens.kl(a, a) == 0 and klens.sqnr(a, a) == math.inf
    zeros = numpy.zeros((2, 2), "float32")
    shifted = numpy.array([[math.log(3), 0], [0, 0]], "float32")  # P(0) = 3/4 at the first position
    assert klens.delta_ce(zeros, shifted, [0, -1]) == pytest.approx(math.log(1 / 2) - math.log(3 / 4), rel=1e-6)


def test_any_number_of_leading_dimensions_and_any_stride():
    assert klens.kl(X.reshape(1, 7, 53), Y.reshape(7, 1, 53)) == klens.kl(X, Y)
    assert klens.kl(numpy.asfortranarray(X), Y) == klens.kl(X, Y)
    assert klens.kl(X[::2], Y[::2]) == klens.kl(X[::2].copy(), Y[::2].copy())
    assert klens.kl(X, Y, threads=3) == klens.kl(X, Y)


def test_half_precision_is_read_as_it_is():
    x, y = X.astype("float16"), Y.astype("float16")
    assert klens.kl(x, y) == klens.kl(x.astype("float32"), y.astype("float32"))


@pytest.mark.parametrize(
    ("reference", "observed", "kind", "words"),
    [
        (X.astype("float64"), Y, TypeError, "float64.*float32"),
        (X.astype("int32"), Y, TypeError, "int32"),
        (X, Y[:, :-1], ValueError, "7x53.*7x52"),
        (numpy.float32(1), Y, ValueError, "single number"),
        (numpy.where(X == X[3, 5], numpy.nan, X), Y, FloatingPointError, "position 3: reference logit 5"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference, observed, kind, words):
    with pytest.raises(kind, match=words):
        klens.kl(reference, observed)


def test_delta_ce_needs_tokens_of_the_vocabulary():
    with pytest.raises(ValueError, match="next token 99"):
        klens.delta_ce(X, Y, [99] + [0] * 6)
