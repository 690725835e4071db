import copy
import json
import logging
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy
import plain
import pytest

import klens

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
torch.set_num_threads(1)

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
TRUTH = Path(__file__).resolve().parent.parent / "data" / "truth-calibration.json"


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(torch.tanh(self.up(x)))


class Small(torch.nn.Module):
    """A model of nobody's library."""

    def __init__(self, tied=False, width=16, vocabulary=31):
        super().__init__()
        torch.manual_seed(5)
        self.embed = torch.nn.Embedding(vocabulary, width)
        self.blocks = torch.nn.ModuleList(Block(width) for _ in range(3))
        self.head = torch.nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def tokens(vocabulary=31, n=2, length=12):
    return torch.randint(0, vocabulary, (n, length), generator=torch.Generator().manual_seed(6))


def whole_kl(model, ids, name, scheme):
    """The plain loop: quantize one weight, run the whole model."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        weight = changed.get_parameter(name)
        weight.copy_(klens.quantize(weight, scheme))
        return plain.kl(model(ids).reshape(-1, 31).numpy(), changed(ids).reshape(-1, 31).numpy())


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_of_ones_own_in_stages(tied):
    model, ids = Small(tied), tokens()
    before = copy.deepcopy(model.state_dict())
    scores = klens.rank_layers(model, ids, schemes="int4-channel")
    assert scores.remarks == [] and scores.forwards < len(scores) + 1  # candidates go on in the middle
    for each in scores.candidates:
        assert each["metrics"]["kl"]["mean"] == pytest.approx(whole_kl(model, ids, each["layer"], "int4-channel"), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [each["note"] for each in scores.candidates if each["layer"] == "head.weight"] == [
        "shared with embed: the perturbation reaches all of its uses" if tied else ""
    ]


def test_the_methods_for_about_one_forward():
    model, ids = Small(), tokens(n=4)
    exact = klens.rank_layers(model, ids, schemes=["int3-channel", "int4-channel"])
    local = klens.rank_layers(model, ids, schemes=["int3-channel", "int4-channel"], method="local")
    assert {each["source"] for each in local.candidates} >= {"local"} and local.forwards < exact.forwards
    refined = klens.rank_layers(model, ids, schemes="int4-channel", method="refine", stop=klens.top(2))
    assert len(refined) == len(exact) // 2


def test_a_model_that_does_not_run_in_stages_falls_back(caplog):
    class Backwards(Small):
        def forward(self, ids):
            x = self.embed(ids)
            for block in reversed(self.blocks):
                x = block(x)
            return self.head(x)

    class Between(Small):
        def forward(self, ids):
            x = self.embed(ids)
            for block in self.blocks:
                x = 0.5 * block(x)
            return self.head(x)

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = torch.nn.Embedding(31, 16), torch.nn.Linear(16, 31)

        def forward(self, ids):
            return self.head(self.embed(ids))

    ids = tokens()
    for kind, words in ((Backwards, "one after the other"), (Between, "between the blocks"), (Flat, "no list of blocks")):
        model = kind()
        with caplog.at_level(logging.WARNING, "klens"):
            scores = klens.rank_layers(model, ids, schemes="int4-channel")
        assert words in scores.remarks[0] and "whole forward" in caplog.text
        for each in scores.candidates:
            assert each["metrics"]["kl"]["mean"] == pytest.approx(whole_kl(model, ids, each["layer"], "int4-channel"), rel=1e-5)
        with pytest.raises(ValueError, match="exact"):
            klens.rank_layers(model, ids, method="local")


def test_blocks_that_remember_run_whole():
    class Adds(Block):
        def forward(self, x, past):
            before = past[-1] if past else torch.zeros_like(x)
            past.append(x)
            return super().forward(x) + 0.1 * before

    class Remembers(Small):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(Adds(16) for _ in range(3))

        def forward(self, ids):
            x, past = self.embed(ids), []
            for block in self.blocks:
                x = block(x, past)
            return self.head(x)

    model, ids = Remembers(), tokens()
    scores = klens.rank_layers(model, ids, schemes="int4-channel")
    assert "when they run again" in scores.remarks[0]
    for each in scores.candidates:
        assert each["metrics"]["kl"]["mean"] == pytest.approx(whole_kl(model, ids, each["layer"], "int4-channel"), rel=1e-5)


def test_precisions_as_models_are_loaded():
    ids = tokens()
    for kind in (torch.float16, torch.bfloat16):
        model = Small().to(kind)
        before = copy.deepcopy(model.state_dict())
        scores = klens.rank_layers(model, ids, schemes="int4-channel")
        assert scores.remarks == [] and all(each["result"] == "measured" for each in scores.candidates)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_metrics_on_the_device_are_those_of_the_core():
    model, ids = Small(), tokens(n=3)
    metrics = ["kl", "reverse_kl", "js", "mse", "sqnr", "top1", "delta_ce"]
    for schemes in (["int2-channel", "int4-channel"], ["int8-channel"], ["fp16"]):
        core = klens.rank_layers(model, ids, schemes=schemes, metrics=metrics)
        device = klens.rank_layers(model, ids, schemes=schemes, metrics=metrics, on_device=True)
        assert device.remarks == core.remarks == []
        for a, b in zip(core.candidates, device.candidates):
            assert a["result"] == b["result"]
            for name in metrics:
                assert b["metrics"][name]["mean"] == pytest.approx(a["metrics"][name]["mean"], rel=1e-5, abs=1e-14)
    local = klens.rank_layers(model, ids, schemes="int4-channel", method="local", on_device=True)
    again = klens.rank_layers(model, ids, schemes="int4-channel", method="local")
    for a, b in zip(local.candidates, again.candidates):
        assert a["metrics"]["kl"]["mean"] == pytest.approx(b["metrics"]["kl"]["mean"], rel=1e-5)


def test_rows_on_the_device_keep_their_digits_down_to_a_billionth():
    from klens._device_metrics import _rows

    generator = torch.Generator().manual_seed(7)
    for distance in (1e-4, 1e-3, 1e-2, 0.1, 1, 10):
        x = 3 * torch.randn(9, 500, generator=generator)
        y = x + distance * torch.randn(9, 500, generator=generator)
        for name in ("kl", "reverse_kl", "js"):
            values, weights = _rows(name, x.double(), y.double(), None)
            assert float(values.sum() / weights.sum()) == pytest.approx(getattr(klens, name)(x, y), rel=1e-5)
    masked = torch.tensor([[0.0, -torch.inf, 1.0]])
    assert float(_rows("kl", masked.double(), masked.double(), None)[0]) == 0


def test_padding_on_the_right_does_not_count():
    class Masked(Small):
        def forward(self, input_ids, attention_mask=None):
            return super().forward(input_ids)

    model, ids = Masked(), tokens()
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    scores = klens.rank_layers(model, {"input_ids": ids, "attention_mask": mask}, schemes="int4-channel")
    assert scores.positions == 12 + 7
    with pytest.raises(ValueError, match="right"):
        klens.rank_layers(model, {"input_ids": ids, "attention_mask": mask.flip(1)})


def test_few_forwards_look_at_windows_of_the_text():
    class Watched(Small):
        seen = []

        def forward(self, input_ids, attention_mask=None):
            Watched.seen.append(input_ids)
            return super().forward(input_ids)

    model, ids = Watched(), tokens(n=3, length=600)
    mask = torch.ones_like(ids)
    mask[1, 250:] = 0  # of four windows of 150 the last two are padding alone
    scores = klens.rank_layers(model, {"input_ids": ids, "attention_mask": mask}, schemes="int4-channel", method="local")
    windows = {tuple(each[0].tolist()) for each in Watched.seen}
    possible = {tuple(ids[s, first : first + 150].tolist()): int(mask[s, first : first + 150].sum())
                for s in range(3) for first in range(0, 600, 150)}  # fmt: skip
    assert windows <= possible.keys() and all(possible[each] > 0 for each in windows)
    assert scores.positions == sum(possible[each] for each in windows) >= 2 * 1450 // 10


def test_a_forward_step_and_training_mode():
    model, ids = Small(), tokens(n=3)
    model.train()
    step = klens.rank_layers(model, [ids[:1], ids[1:2], ids[2:]], forward_step=lambda m, batch: m(batch), schemes="int4-channel")
    whole = klens.rank_layers(model, ids, schemes="int4-channel")
    assert model.training and all(module.training for module in model.modules())
    assert [each["metrics"]["kl"]["mean"] for each in step.candidates] == [e["metrics"]["kl"]["mean"] for e in whole.candidates]


def test_ctrl_c_returns_what_was_measured():
    model, ids, calls = Small(), tokens(n=4), []

    def step(m, batch):
        calls.append(None)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return m(batch)

    before = copy.deepcopy(model.state_dict())
    scores = klens.rank_layers(model, list(ids[:, None]), forward_step=step, schemes="int4-channel")
    assert not scores.complete and 0 < scores.candidates[0]["positions"] < 48
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_real_ctrl_c_returns_within_a_second(ctrl_c_interrupts):
    model, ids, sent = Small(), tokens(n=50), []
    before = copy.deepcopy(model.state_dict())

    def interrupt():
        sent.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    for method, stop in (("exact", None), ("local", None)):
        timer = threading.Timer(0.5, interrupt)
        timer.start()
        scores = klens.rank_layers(model, list(ids[:, None]), schemes=["int4-channel", "int8-channel"], method=method, stop=stop,
                                   local_batches=50, forward_step=lambda m, batch: time.sleep(0.02) or m(batch))  # fmt: skip
        assert time.monotonic() - sent[-1] < 1
        assert not scores.complete
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("on_device", [False, True])
def test_logits_that_are_no_numbers_are_named(on_device):
    class Breaks(Small):
        def forward(self, ids):
            logits = super().forward(ids)
            if not torch.equal(self.blocks[1].up.weight, kept) and torch.equal(ids, second):
                logits[0, 3, 2] = torch.nan
            return logits

    model, ids = Breaks(), tokens(n=3)
    kept, second = model.blocks[1].up.weight.detach().clone(), ids[1:2]
    scores = klens.rank_layers(model, ids, schemes="int4-channel", on_device=on_device)
    assert [each["layer"] for each in scores.candidates if each["result"] == "failed"] == ["blocks.1.up.weight"]
    assert len(scores.remarks) == 1
    for words in ("blocks.1.up.weight as int4-channel failed: batch 1", "position 3", "observed logit 2 of 31 is"):
        assert words in scores.remarks[0]
    assert torch.equal(model.blocks[1].up.weight, kept)


def test_tokens_outside_the_vocabulary_are_refused():
    model, ids = Small(), tokens()
    model.config = SimpleNamespace(vocab_size=31)
    for wrong, found in ((ids + 31, 61), (ids - 31, -30)):
        with pytest.raises(ValueError, match=f"id {found} is outside the vocabulary of 31"):
            klens.rank_layers(model, wrong)


def test_what_is_wrong_is_named():
    model, ids = Small(), tokens()
    double = Small().double()
    whole = Small()
    whole.head = torch.nn.Linear(16, 31)
    whole.head.weight = torch.nn.Parameter(torch.ones(31, 16, dtype=torch.int8), requires_grad=False)
    for arguments, kind, words in (
        ((double, ids), TypeError, "float64"),
        ((whole, ids), TypeError, "head.weight is quantized already.*int8"),
        ((model, "some text"), TypeError, "tokenizer"),
        ((model, ["some", "texts"]), TypeError, "tokenizer"),
        ((model, ids.float()), TypeError, "whole numbers"),
        ((model, ids[None]), ValueError, "length"),
        ((model, ids + 31), IndexError, "out of range"),
        ((model, None), TypeError, "tokens"),
        (("no model", ids), TypeError, "torch.nn.Module"),
        ((Small().to("meta"), ids), ValueError, "no data"),
    ):
        with pytest.raises(kind, match=words):
            klens.rank_layers(*arguments)
    with pytest.raises(ValueError, match="'\\*expert\\*' matches no layer.*blocks.0.up.weight"):
        klens.rank_layers(model, ids, layers="*expert*")
    with pytest.raises(ValueError, match="counted.*no position"):
        klens.rank_layers(model, ids, counted=torch.zeros_like(ids))
    with pytest.raises(ValueError, match="'embed' is no ModuleList"):
        klens.rank_layers(model, ids, blocks="embed")
    with pytest.raises(TypeError, match="dict.*forward_step"):
        klens.rank_layers(model, [ids], forward_step=lambda m, b: {"loss": m(b).mean()})
    with torch.no_grad():
        model.blocks[1].up.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="blocks.1.up.weight"):
        klens.rank_layers(model, ids)


def test_out_of_memory_says_what_helps():
    class Fails(Small):
        calls = 0

        def forward(self, ids):
            Fails.calls += 1
            if Fails.calls > 12:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(ids)

    model = Fails()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(klens.ScanError, match="CUDA out of memory.*smaller batch_size") as caught:
        klens.rank_layers(model, tokens(n=8), schemes="int4-channel")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_a_plan_is_applied_to_the_module_and_knows_what_holds_its_weights():
    model, ids = Small(), tokens()
    scores = klens.rank_layers(model, ids, schemes=["int4-channel", "int8-channel"])
    plan, before = scores.plan("6bpw"), copy.deepcopy(model.state_dict())
    with plan.applied(model):
        for name, weight in model.named_parameters():
            if name in plan.layers:
                assert torch.equal(weight, klens.quantize(before[name], plan.layers[name]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "f32" in scores.plan("250%").layers.values()
    plan.apply_(model)
    assert not torch.equal(model.head.weight, before["head.weight"])


@pytest.fixture(scope="module")
def hybrid():
    """The embedded model, and its calibration tokens [16, 256]."""
    transformers = pytest.importorskip("transformers")
    load_file = pytest.importorskip("safetensors.torch").load_file
    model = transformers.AutoModelForCausalLM.from_pretrained(DATA / "wikitext-hybrid-4m", dtype=torch.float32)
    return model, load_file(DATA / "wikitext2-calibration.safetensors")["input_ids"][: 16 * 256].reshape(16, 256)


def truth(sequences):
    """By layer and scheme: the KL over the first sequences, in float64."""
    known = json.loads(TRUTH.read_text())["layers"]
    return {(each["name"], each["scheme"]): numpy.mean(each["kl_per_sequence"][:sequences]) for each in known}


def test_the_embedded_hybrid_gets_the_scores_of_the_program(hybrid):
    model, ids = hybrid
    scores, known = klens.rank_layers(model, ids[:2], schemes="int4-channel-f32"), truth(2)
    assert scores.remarks == [] and len(scores) == 57
    ranked = [(each["metrics"]["kl"]["mean"], known[each["layer"], "int4-channel-f32"]) for each in scores.ranked()]
    for found, true in ranked:
        assert found == pytest.approx(true, rel=3e-3)
    for (_, worse), (_, better) in zip(ranked, ranked[1:]):
        assert worse > better * (1 - 6e-3)


@pytest.mark.parametrize(("method", "stop", "forwards"), [("local", None, 4.62), ("refine", klens.order(0.95), 6.77)])
def test_the_methods_of_few_forwards_are_those_of_the_program(hybrid, method, stop, forwards):
    """Forwards as `klens rank --method local --sequences 4 --length 256` counts them; it stages mixers and MLPs by themselves,
    which makes a stage half as long. Order and intervals are what tests/program/local_test.cpp asks of the program."""
    model, ids = hybrid
    scores = klens.rank_layers(model, ids[:4], schemes=["int4-channel-f32", "int8-channel-f32"], method=method, stop=stop)
    known = truth(4)
    assert scores.remarks == [] and len(scores) == 114
    assert scores.forwards < 1.4 * forwards
    for scheme in scores.schemes:
        ranked = scores.ranked(scheme)
        assert plain.kendall_tau(range(57, 0, -1), [known[each["layer"], scheme] for each in ranked]) > 0.9
    held = [each["metrics"]["kl"]["low"] <= known[each["layer"], each["scheme"]] <= each["metrics"]["kl"]["high"]
            for each in scores.candidates]  # fmt: skip
    assert sum(held) > 0.9 * 114
    heads = {each["scheme"]: each["metrics"]["kl"]["mean"] for each in scores.candidates if each["source"] == "exact"}
    if method == "local":  # on the same two windows the program says
        assert scores.positions == 256
        assert heads == {"int4-channel-f32": pytest.approx(0.015502, rel=3e-3), "int8-channel-f32": pytest.approx(6.3251e-5, rel=3e-3)}


@pytest.mark.parametrize("tied", [False, True])
def test_schemes_that_look_at_inputs_see_those_of_the_module(tied):
    model, ids = Small(tied), tokens()
    seen = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, arguments, name=name: seen.__setitem__(name, arguments[0].detach().reshape(-1, arguments[0].shape[-1])))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    with torch.no_grad():
        reference = model(ids)
    for hook in hooks:
        hook.remove()
    scores = klens.rank_layers(model, ids, schemes=["int4-g16-imp", "int4-g16-gptq"], layers=["*up*", "*head*"], batch_size=1)
    for scheme in ("int4-g16-imp", "int4-g16-gptq"):
        for name in ("blocks.0.up", "blocks.2.up"):
            changed = copy.deepcopy(model)
            with torch.no_grad():
                weight = changed.get_parameter(name + ".weight")
                weight.copy_(klens.quantize(weight, scheme, inputs=seen[name].numpy()))
                expected = plain.kl(reference.reshape(-1, 31).numpy(), changed(ids).reshape(-1, 31).numpy())
            assert scores.score(name + ".weight", scheme) == pytest.approx(expected, rel=1e-4)
    assert not any(module._forward_pre_hooks for module in model.modules())
