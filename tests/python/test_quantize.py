import numpy
import pytest

import klens

W = numpy.random.default_rng(3).normal(size=(5, 96)).astype("float32")


def test_the_fifteen_codes_of_int4_are_fixed_points():
    row = numpy.arange(-7, 8, dtype="float32")[None]
    assert (klens.quantize(row, "int4-channel") == row).all()


def test_int4_by_its_formula():
    groups = W.reshape(5, 3, 32)
    scale = (numpy.abs(groups).max(-1, keepdims=True) / numpy.float32(7)).astype("float32")
    expected = numpy.clip(numpy.rint(groups / scale), -7, 7) * scale
    assert numpy.array_equal(klens.quantize(W, "int4-g32-f32"), expected.reshape(W.shape))


@pytest.mark.parametrize(
    "scheme",
    ["int4-g32", "int3-channel", "int8-asym-g32", "fp16", "bf16", "f32", "q4_0", "q8_0", "q5_1", "fp8-e4m3-channel", "mxfp4", "nvfp4", "nf4-g32"],
)
def test_what_is_unpacked_is_what_quantize_gives(scheme):
    packed = klens.pack(W, scheme)
    assert packed.nbytes == klens.size_in_bytes(W, scheme) == klens.size_in_bytes((5, 96), scheme)
    assert numpy.array_equal(klens.unpack(packed, scheme, 96), klens.quantize(W, scheme))


def test_weights_stay_as_they_are():
    before = W.copy()
    klens.quantize(W, "int2-channel")
    assert numpy.array_equal(W, before)


def test_a_transposed_matrix_and_half_precision():
    assert numpy.array_equal(klens.quantize(numpy.asfortranarray(W), "int4-g32"), klens.quantize(W, "int4-g32"))
    half = W.astype("float16")
    assert numpy.array_equal(klens.quantize(half, "int4-g32"), klens.quantize(half.astype("float32"), "int4-g32"))


@pytest.mark.parametrize(
    ("weight", "scheme", "kind", "words"),
    [
        (W, "int99", ValueError, "unknown scheme 'int99'"),
        (W.astype("float64"), "int4-g32", TypeError, "float64"),
        (W[0], "int4-g32", ValueError, "1 dimension"),
        (W[:, :40], "q4_0", ValueError, "q4_0"),
        (W * numpy.inf, "int4-g32", FloatingPointError, "row 0"),
    ],
)
def test_what_cannot_be_stored_is_refused(weight, scheme, kind, words):
    with pytest.raises(kind, match=words):
        klens.quantize(weight, scheme)


def moved(weight, kept, inputs):
    """What the products with the inputs lose: sum of (x (w - kept)')^2, in float64."""
    return float(((inputs.astype("float64") @ (weight.astype("float64") - kept).T) ** 2).sum())


def test_informed_schemes_lose_less_of_the_products_than_plain_rounding():
    random = numpy.random.default_rng(4)
    mixing = random.normal(size=(96, 96)) * random.lognormal(sigma=1.5, size=96)
    x = (random.normal(size=(400, 96)) @ mixing).astype("float32")
    plain_rounding = moved(W, klens.quantize(W, "int4-g32"), x)
    weighted = ((W - klens.quantize(W, "int4-g32-imp", inputs=x)) ** 2 * (x**2).mean(0)).sum()
    assert weighted < ((W - klens.quantize(W, "int4-g32")) ** 2 * (x**2).mean(0)).sum()
    assert moved(W, klens.quantize(W, "int4-g32-gptq", inputs=x), x) < 0.9 * plain_rounding
    packed = klens.pack(W, "int4-g32-gptq", inputs=x)
    assert numpy.array_equal(klens.unpack(packed, "int4-g32-gptq", 96), klens.quantize(W, "int4-g32-gptq", inputs=x))


@pytest.mark.parametrize(
    ("inputs", "kind", "words"),
    [
        (None, ValueError, "int4-g32-imp"),
        (numpy.zeros((0, 96), "float32"), ValueError, "positions, in"),
        (numpy.ones((3, 95), "float32"), ValueError, "not those of 96 columns"),
        (numpy.full((3, 96), numpy.nan, "float32"), (ValueError, FloatingPointError), "int4-g32-imp"),
    ],
)
def test_inputs_that_tell_nothing_are_refused(inputs, kind, words):
    with pytest.raises(kind, match=words):
        klens.quantize(W, "int4-g32-imp", inputs=inputs)
