import json
import math

import numpy
import pytest

import klens


@pytest.fixture
def scores(two_layers):
    weights, forward = two_layers
    return klens.rank_layers(layers=weights, forward=lambda batch: forward()[batch * 5 : batch * 5 + 5], batches=4,
                             schemes=["int4-g16", "int8-channel"], metrics=["kl", "sqnr"])  # fmt: skip


def test_a_table_worst_first_with_intervals(scores):
    text = str(scores)
    worst, least = (each["layer"] for each in scores.ranked("int4-g16"))
    assert text.index("int4-g16") < text.index(worst) < text.index(least)
    assert "4 candidates over 20 positions" in text and ".." in text
    assert "stopped" not in text
    assert [each["layer"] for each in scores.ranked("int4-g16", "sqnr")][0] in scores._repr_html_()


def test_a_file_comes_back_whole(scores, tmp_path):
    scores.save(tmp_path / "scores.json")
    again = klens.read_scores(tmp_path / "scores.json")
    assert again.candidates == scores.candidates and again.metrics == ["kl", "sqnr"]
    with pytest.raises(OSError, match="nowhere.json"):
        klens.read_scores(tmp_path / "nowhere.json")
    (tmp_path / "cut.json").write_text((tmp_path / "scores.json").read_text()[:100])
    with pytest.raises(OSError, match="cut.json.*JSON"):
        klens.read_scores(tmp_path / "cut.json")


def test_rows_hold_every_number(scores):
    for row, candidate in zip(scores.rows(), scores.candidates):
        assert row["kl"] == candidate["metrics"]["kl"]["mean"] and row["kl_low"] <= row["kl"] <= row["kl_high"]
        assert (row["rows"], row["columns"]) == tuple(candidate["shape"])
    with pytest.raises(KeyError):
        scores.score("up.weight", "int2-channel")
    with pytest.raises(ValueError, match="mse.*kl, sqnr"):
        scores.ranked(metric="mse")


def test_a_plan_meets_its_budget_with_the_least_damage(scores):
    weights = 32 * 16 + 8 * 32
    plan = scores.plan("6.5bpw")
    assert plan.bytes <= weights * 6.5 / 8 and plan.bits_per_weight == pytest.approx(plan.bytes * 8 / weights)
    options = [(scores.score("up.weight", a) + scores.score("down.weight", b), a, b)
               for a in scores.schemes for b in scores.schemes
               if klens.size_in_bytes((32, 16), a) + klens.size_in_bytes((8, 32), b) <= weights * 6.5 / 8]  # fmt: skip
    assert plan.predicted["kl"] == pytest.approx(min(options)[0])
    assert (plan.layers["up.weight"], plan.layers["down.weight"]) == min(options)[1:]
    untouched = scores.plan("200%")
    assert set(untouched.layers.values()) == {"f32"} and untouched.predicted["kl"] == 0  # no 16-bit float holds such weights
    with pytest.raises(ValueError, match="smallest possible is 480 bytes"):
        scores.plan("1bpw")


def test_constraints_of_a_plan(scores):
    assert set(scores.plan("6.5bpw", together=["*"]).layers.values()) in ({"int4-g16"}, {"int8-channel"})
    assert scores.plan("9bpw", pins={"up": "int4-g16"}).layers["up.weight"] == "int4-g16"
    assert "up.weight" not in scores.plan("9bpw", exclude="up").layers
    assert scores.plan("40bpw", keep="up").layers["up.weight"] == "f32"
    with pytest.raises(ValueError, match="matches no layer"):
        scores.plan("9bpw", keep="lm_head")


def test_layers_of_a_block_share_a_scheme():
    random = numpy.random.default_rng(4)
    names = [f"layers.{block}.{kind}_proj.weight" for block in range(3) for kind in "qkvo"]
    weights = {name: random.normal(size=(16, 16)).astype("float32") for name in names}
    x = random.normal(size=(12, 16)).astype("float32")

    def forward():
        y = x
        for name in names:
            y = y + numpy.tanh(y @ weights[name].T)
        return y

    scores = klens.rank_layers(layers=weights, forward=forward, schemes=["int3-channel", "int8-channel"])
    plan = scores.plan("6.5bpw", together=["*q_proj", "*k_proj", "*v_proj"], together_by_kind=False)
    blocks = [{plan.layers[f"layers.{block}.{kind}_proj.weight"] for kind in "qkv"} for block in range(3)]
    assert all(len(each) == 1 for each in blocks)
    with pytest.raises(ValueError, match="begin alike up to"):
        scores.plan("6.5bpw", together=["layers.0.*", "*v_proj"])


def test_a_plan_is_applied_for_a_while_or_for_good(two_layers, scores):
    weights, forward = two_layers
    plan, before = scores.plan("5bpw"), {name: weight.copy() for name, weight in weights.items()}
    with plan.applied(weights):
        for name, weight in weights.items():
            assert numpy.array_equal(weight, klens.quantize(before[name], plan.layers[name]))
    assert all(weight.tobytes() == before[name].tobytes() for name, weight in weights.items())
    plan.apply_(weights)
    assert numpy.array_equal(weights["up.weight"], klens.quantize(before["up.weight"], plan.layers["up.weight"]))
    with pytest.raises(ValueError, match="down.weight"):
        plan.apply_({"up.weight": weights["up.weight"]})


def test_a_plan_as_a_file_and_for_other_tools(scores, tmp_path):
    plan = scores.plan("6.5bpw")
    plan.save(tmp_path / "plan.json")
    again = klens.read_plan(tmp_path / "plan.json")
    assert again.layers == plan.layers and again.bytes == plan.bytes
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == "klens-plan"
    usage = plan.export("modelopt", tmp_path / "quantize.py")
    assert "quantize" in usage and "up" in (tmp_path / "quantize.py").read_text()
    with pytest.raises(ValueError, match="mlx-lm cannot store int4-g16"):
        scores.plan("5bpw").export("mlx-lm", tmp_path / "mlx.json")
    with pytest.raises(ValueError, match="none of nncf"):
        plan.export("onnx", tmp_path / "x")


def test_numbers_that_json_has_none_for(two_layers):
    weights, forward = two_layers
    scores = klens.rank_layers(layers=weights, forward=forward, schemes="f32", metrics=["kl", "sqnr"])
    assert scores.score("up.weight", "f32") == 0 and scores.score("up.weight", "f32", "sqnr") == math.inf
