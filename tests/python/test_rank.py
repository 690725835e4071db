import json
import signal
import subprocess
import sys
import threading
import time

import numpy
import plain
import pytest

import klens


def test_scores_are_those_of_the_plain_loop(two_layers):
    weights, forward = two_layers
    scores = klens.rank_layers(layers=weights, forward=forward, schemes=["int4-g16", "int8-channel"], metrics=["kl", "mse"])
    reference = forward()
    for scheme in ("int4-g16", "int8-channel"):
        for name, weight in list(weights.items()):
            weights[name] = klens.quantize(weight, scheme)
            assert scores.score(name, scheme) == pytest.approx(plain.kl(reference, forward()), rel=1e-5)
            assert scores.score(name, scheme, "mse") == pytest.approx(float(((reference - forward()) ** 2).mean()), rel=1e-5)
            weights[name] = weight
    assert [each["layer"] for each in scores.ranked("int4-g16")] == sorted(weights, key=lambda n: -scores.score(n, "int4-g16"))
    assert scores.complete and len(scores) == 4 and scores.positions == 20


@pytest.mark.parametrize("how", ["returns", "raises", "is interrupted"])
def test_weights_come_back_bit_for_bit(two_layers, how):
    weights, forward = two_layers
    before = {name: weight.copy() for name, weight in weights.items()}
    calls = []

    def counting():
        calls.append(None)
        if len(calls) == 4 and how != "returns":
            raise KeyboardInterrupt if how == "is interrupted" else RuntimeError("the engine broke")
        return forward()

    if how == "raises":
        with pytest.raises(klens.ScanError, match="down.weight.*RuntimeError: the engine broke") as caught:
            klens.rank_layers(layers=weights, forward=counting, schemes=["int4-g16"], metrics=["kl"])
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert not caught.value.scores.complete
    else:
        scores = klens.rank_layers(layers=weights, forward=counting, schemes=["int4-g16"])
        assert scores.complete == (how == "returns")
    for name, weight in weights.items():
        assert weight.tobytes() == before[name].tobytes()


def test_batches_and_a_checkpoint_that_is_gone_on_from(two_layers, tmp_path):
    weights, forward = two_layers
    logits = lambda batch: forward()[batch * 5 : batch * 5 + 5]  # noqa: E731
    whole = klens.rank_layers(layers=weights, forward=logits, batches=4, schemes="int4-g16")
    seen = []

    def breaks(batch):
        if batch == 2:
            raise OSError("gone")
        return logits(batch)

    def counts(batch):
        seen.append(batch)
        return logits(batch)

    file = tmp_path / "scan.klens"
    with pytest.raises(klens.ScanError):
        klens.rank_layers(layers=weights, forward=breaks, batches=4, schemes="int4-g16", checkpoint=file)
    resumed = klens.rank_layers(layers=weights, forward=counts, batches=4, schemes="int4-g16", checkpoint=file)
    assert set(seen) == {2, 3}
    assert [each["metrics"] for each in resumed.candidates] == [each["metrics"] for each in whole.candidates]
    with pytest.raises(OSError, match="nowhere.*create its folder"):
        klens.rank_layers(layers=weights, forward=breaks, batches=4, schemes="int4-g16", checkpoint=tmp_path / "nowhere" / "scan")
    weights["up.weight"][0, 0] += 1
    with pytest.raises(OSError, match="of another scan: its model"):
        klens.rank_layers(layers=weights, forward=counts, batches=4, schemes="int4-g16", checkpoint=file)


def test_tokens_give_perplexity_and_counted_positions(two_layers):
    weights, forward = two_layers
    tokens = numpy.arange(20).reshape(4, 5) % 8
    counted = numpy.ones((4, 5), bool)
    counted[:, 3:] = False
    scores = klens.rank_layers(layers=weights, forward=forward, tokens=tokens, counted=counted, schemes="int4-g16",
                               metrics=["kl", "delta_ce"])  # fmt: skip
    assert scores.positions == 12
    log_p = numpy.log(plain.softmax(forward())).reshape(4, 5, 8)
    nll = -numpy.mean([log_p[s, t, tokens[s, t + 1]] for s in range(4) for t in range(2)])
    assert json.loads(scores._core.json())["reference"]["nll"] == pytest.approx(nll, rel=1e-6)


def test_stopping_rules_and_savings(two_layers):
    weights, forward = two_layers
    logits = lambda batch: forward()[batch : batch + 1]  # noqa: E731
    for rule in (klens.top(1), klens.split(0.5), klens.order(0.5), klens.budget(forwards=6)):
        scores = klens.rank_layers(layers=weights, forward=logits, batches=20, schemes="int4-g16", stop=rule)
        assert 0 < scores.forwards <= 3.05  # the reference, two candidates, the first batch once more
    with pytest.raises(ValueError, match="forwards or seconds"):
        klens.budget()


def test_a_real_ctrl_c_returns_within_a_second(two_layers, ctrl_c_interrupts):
    weights, forward = two_layers
    before, sent = {name: weight.copy() for name, weight in weights.items()}, []

    def interrupt():
        sent.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    def slow(batch):
        time.sleep(0.02)
        return forward()[batch : batch + 1]

    timer = threading.Timer(0.5, interrupt)
    timer.start()
    scores = klens.rank_layers(layers=weights, forward=slow, batches=20, schemes=["int4-g16", "int8-channel"])
    assert time.monotonic() - sent[0] < 1
    assert not scores.complete and 0 < scores.candidates[0]["positions"] < 20 and "stopped early" in str(scores)
    assert all(weight.tobytes() == before[name].tobytes() for name, weight in weights.items())


def test_logits_that_are_no_numbers_are_named_and_the_scan_goes_on(two_layers):
    weights, forward = two_layers
    before = weights["up.weight"].copy()

    def breaks(batch):
        logits = forward()[batch * 5 : batch * 5 + 5].copy()
        if batch == 1 and not numpy.array_equal(weights["up.weight"], before):
            logits[3, 2] = numpy.nan
        return logits

    scores = klens.rank_layers(layers=weights, forward=breaks, batches=4, schemes="int4-g16")
    assert scores.remarks[0].startswith("up.weight as int4-g16 failed: batch 1: ")
    assert "position 3: observed logit 2 of 8 is NaN" in scores.remarks[0]
    assert {each["layer"]: each["result"] for each in scores.candidates} == {"up.weight": "failed", "down.weight": "measured"}
    assert "failed" in str(scores) and scores.remarks[0] in scores._repr_html_()
    assert weights["up.weight"].tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"forward": lambda: numpy.zeros((3, 4))}, (klens.ScanError,), "float64"),
        ({"forward": lambda: None}, (klens.ScanError,), "NoneType.*float32 array"),
        ({"forward": lambda: numpy.full((3, 4), numpy.nan, "float32")}, (klens.ScanError,), "position 0.*NaN"),
        ({"forward": lambda: numpy.zeros(4, "float32")}, (klens.ScanError,), "1 dimensions; give a matrix"),
        ({"tokens": [[1, 2], [3, 4]]}, (ValueError, klens.ScanError), "4"),
        ({"schemes": "int9"}, (ValueError,), "int9"),
        ({"schemes": lambda weight: weight}, (TypeError,), "no name.*loop of your own"),
        ({"schemes": ["int4-g16", abs]}, (TypeError,), "no name.*loop of your own"),
        ({"metrics": "kll"}, (ValueError,), "unknown metric"),
        ({"method": "fast"}, (ValueError,), "fast"),
        ({"method": "local"}, (ValueError,), "local.*exact"),
        ({"stop": "soon"}, (ValueError,), "soon"),
        ({"exclude": "*"}, (ValueError,), "leave no layer"),
        ({"layers": {"w": numpy.zeros((3, 4))}}, (TypeError,), "w is float64"),
        ({"layers": {"w": numpy.zeros((3, 4), "int8")}}, (TypeError,), "w is int8"),
        ({"layers": {"w": numpy.zeros((3, 4), "float32")[:, ::2]}}, (ValueError,), "row-major"),
        ({"layers": {"w": numpy.zeros(3, "float32")}}, (ValueError,), "1 dimension"),
        ({"forward": None}, (TypeError,), "forward="),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(two_layers, change, kind, words):
    weights, forward = two_layers
    with pytest.raises(kind, match=words):
        klens.rank_layers(**{"layers": weights, "forward": forward, "schemes": "int4-g16", **change})


def test_weights_that_cannot_be_written_are_refused(two_layers):
    weights, forward = two_layers
    weights["up.weight"].flags.writeable = False
    with pytest.raises(ValueError, match="up.weight cannot be written"):
        klens.rank_layers(layers=weights, forward=forward)


def test_a_candidate_whose_weights_no_scheme_holds_is_left_out(two_layers):
    weights, forward = two_layers
    weights["up.weight"][0, 0] = 1e6  # its scale overflows fp16
    scores = klens.rank_layers(layers=weights, forward=forward, schemes=["int4-channel", "int4-channel-f32"])
    left = [each for each in scores.candidates if each["result"] == "failed"]
    assert [(each["layer"], each["scheme"]) for each in left] == [("up.weight", "int4-channel")]


def test_an_import_needs_numpy_alone_and_a_pipe_shows_no_bar(two_layers):
    code = "import sys, klens; assert not {'torch', 'pandas', 'matplotlib', 'tqdm'} & set(sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""


def test_schemes_that_look_at_inputs_are_given_them(two_layers):
    weights, forward = two_layers
    random = numpy.random.default_rng(8)
    inputs = {name: random.normal(size=(50, weight.shape[1])).astype("float32") for name, weight in weights.items()}
    scores = klens.rank_layers(layers=weights, forward=forward, schemes=["int4-g16-imp", "int4-g16-gptq"], inputs=inputs)
    reference = forward()
    for scheme in ("int4-g16-imp", "int4-g16-gptq"):
        for name, weight in list(weights.items()):
            weights[name] = klens.quantize(weight, scheme, inputs=inputs[name])
            assert scores.score(name, scheme) == pytest.approx(plain.kl(reference, forward()), rel=1e-5)
            weights[name] = weight
    with pytest.raises(ValueError, match="looks at its inputs"):
        klens.rank_layers(layers=weights, forward=forward, schemes=["int4-g16-imp"])
