"""The result of a scan."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from klens import _core
from klens._layers import layers_of_model
from klens._patterns import expression, group_expression, listed
from klens._plan import Plan


class Scores:
    """Every candidate, a layer under a scheme, with its scores. Prints as a table, worst first."""

    def __init__(
        self,
        core: Any,
        *,
        rank_by: str = "",
        length: int = 0,
        model: str = "",
        remarks: Sequence[str] = (),
        layers: Callable[[], list[Any]] = list,
    ) -> None:
        self._core, self._rank_by, self._length, self._model, self._layers = core, rank_by, length, model, layers
        self._json = json.loads(core.json(model, rank_by, length))
        self._rank_by = rank_by or self._json["metrics"][0]["name"]
        failed = [f"{each['layer']} as {each['scheme']} failed: {each['reason']}" for each in self.candidates if each["result"] == "failed"]  # fmt: skip
        self.remarks: list[str] = [*remarks, *self._json["remarks"], *self._json["skipped"], *failed]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """One dict a candidate, as in scores.json, in the order in which they were scanned."""
        return self._json["candidates"]

    @property
    def metrics(self) -> list[str]:
        return [each["name"] for each in self._json["metrics"]]

    @property
    def schemes(self) -> list[str]:
        return list(dict.fromkeys(each["scheme"] for each in self.candidates))

    @property
    def complete(self) -> bool:
        """False where the scan was stopped; what is here is valid as far as it goes."""
        return self._json["complete"]

    @property
    def forwards(self) -> float:
        """What the scan cost, in forwards of the untouched model over all tokens."""
        return self._json["cost"]["forwards"]

    @property
    def positions(self) -> int:
        """How many positions count."""
        return self._json["tokens"]["positions"]

    def __len__(self) -> int:
        return len(self.candidates)

    def score(self, layer: str, scheme: str, metric: str | None = None) -> float:
        """The mean of a metric for one candidate. Raises KeyError where there is none."""
        for each in self.candidates:
            if each["layer"] == layer and each["scheme"] == scheme:
                return _number(each["metrics"][metric or self._rank_by]["mean"])
        raise KeyError(f"{layer} as {scheme}")

    def ranked(self, scheme: str | None = None, metric: str | None = None) -> list[dict[str, Any]]:
        """The candidates of a scheme (of all), worst first; those whose damage is unknown come last."""
        name = metric or self._rank_by
        up = next((each["higher_is_worse"] for each in self._json["metrics"] if each["name"] == name), None)
        if up is None:
            raise ValueError(f"metric {name!r} was not measured; measured were {', '.join(self.metrics)}")

        def place(each: dict[str, Any]) -> tuple[bool, float]:
            mean = _number(each["metrics"][name]["mean"])
            unknown = each["result"] not in ("measured", "weights_unchanged") or math.isnan(mean)
            return unknown, 0.0 if unknown else -mean if up else mean

        return sorted((each for each in self.candidates if scheme in (None, each["scheme"])), key=place)

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict a candidate: layer, kind, scheme, bytes, result and each metric with its 95 % interval."""
        table = []
        for each in self.candidates:
            row = {name: each[name] for name in ("layer", "kind", "scheme", "bytes", "result", "positions", "source")}
            row["rows"], row["columns"] = each["shape"]
            row["weight_sqnr_db"] = _number(each["weight_sqnr_db"])
            for name, score in each["metrics"].items():
                row[name] = _number(score["mean"])
                row[f"{name}_low"], row[f"{name}_high"] = _number(score["low"]), _number(score["high"])
            table.append(row)
        return table

    def to_pandas(self) -> Any:
        """rows() as a pandas.DataFrame."""
        import pandas

        return pandas.DataFrame(self.rows())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes scores.json, whole or not at all; the program klens reads it too."""
        self._core.write(os.fspath(path), self._model, self._rank_by, self._length)

    def plot(self, scheme: str | None = None, metric: str | None = None, count: int = 30, ax: Any = None) -> Any:
        """The worst layers as bars with their 95 % intervals, on a log scale; gives matplotlib's axes."""
        import matplotlib.pyplot

        name, scheme = metric or self._rank_by, scheme or self.schemes[0]
        worst = self.ranked(scheme, name)[:count][::-1]
        means = [_number(each["metrics"][name]["mean"]) for each in worst]
        ends = [[abs(mean - _number(each["metrics"][name][end])) for each, mean in zip(worst, means)] for end in ("low", "high")]
        ax = ax or matplotlib.pyplot.subplots(figsize=(8, 1 + 0.22 * len(worst)))[1]
        known = not any(math.isnan(value) for side in ends for value in side)
        ax.barh([each["layer"] for each in worst], means, xerr=ends if known else None, color="#4878a8", ecolor="#666")
        if all(mean > 0 for mean in means):
            ax.set_xscale("log")
        unit = next(each["unit"] for each in self._json["metrics"] if each["name"] == name)
        ax.set(xlabel=f"{name} ({unit})", title=f"{scheme}: the worst {len(worst)} layers")
        return ax

    def plan(
        self,
        budget: str,
        *,
        metric: str | None = None,
        together: Iterable[str] | Iterable[Iterable[str]] = (),
        together_by_kind: bool = True,
        keep: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        pins: Mapping[str, str] | None = None,
        assume_harmless: str | Iterable[str] = (),
        model: Any = None,
    ) -> Plan:
        """The scheme for each layer that adds up to the least damage within a budget.

        budget     "4.5bpw" (bits a weight), "60%" (of fp16), "3MB", "2.5MiB" or bytes, for the layers that are planned
        together   patterns of layers that share a scheme within a block: ["*q_proj", "*k_proj", "*v_proj"], or several lists
        keep       layers that stay as they are; exclude: layers that take no part; pins: {pattern: scheme}
        assume_harmless   layers whose unknown damage counts as 0
        model      where the scores come from a file: the model, so that layers may also stay as they are

        Raises ValueError where nothing meets the budget, and says what is possible.
        """
        request = _core.PlanRequest()
        request.budget, request.metric, request.together_by_kind = str(budget), metric or self._rank_by, together_by_kind
        groups = [together] if isinstance(together, str) else list(together)
        if groups and all(isinstance(each, str) for each in groups):
            groups = [groups]
        request.together = [group_expression(listed(each)) for each in groups]
        request.keep = [expression(each) for each in listed(keep)]
        request.exclude = [expression(each) for each in listed(exclude)]
        request.assume_harmless = [expression(each) for each in listed(assume_harmless)]
        request.pins = [(expression(pattern), scheme) for pattern, scheme in (pins or {}).items()]
        layers = self._layers() if model is None else layers_of_model(model)
        scored = {each["layer"] for each in self.candidates}
        layers = [each for each in layers if each.name in scored]
        shapes = {each["layer"]: each["shape"] for each in self.candidates}
        return Plan(_core.plan(self._core, layers, request), shapes)

    def table(self, count: int | None = 20) -> str:
        """The ranking of each scheme as text, worst first."""
        lines = [self._summary()]
        for scheme in self.schemes:
            order = self.ranked(scheme)
            shown = order if count is None else order[:count]
            width = max(len(each["layer"]) for each in shown)
            lines += ["", f"{scheme}", f"  {'layer':<{width}}  " + "  ".join(f"{name:>22}" for name in self.metrics)]
            for each in shown:
                cells = "  ".join(f"{_cell(each, name):>22}" for name in self.metrics)
                lines.append(f"  {each['layer']:<{width}}  {cells}")
            if len(shown) < len(order):
                lines.append(f"  ... and {len(order) - len(shown)} more")
        return "\n".join(lines)

    def _summary(self) -> str:
        text = f"{len(self)} candidates over {self.positions} positions for {self.forwards:.3g} forwards"
        return text if self.complete else text + " (stopped early)"

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(self._summary())}</p>"]
        for scheme in self.schemes:
            head = "".join(f"<th>{html.escape(name)}</th>" for name in ("layer", *self.metrics))
            rows = "".join(
                "<tr><td style='text-align:left'>" + html.escape(each["layer"]) + "</td>"
                + "".join(f"<td>{html.escape(_cell(each, name))}</td>" for name in self.metrics) + "</tr>"
                for each in self.ranked(scheme)
            )  # fmt: skip
            parts.append(f"<details open><summary>{html.escape(scheme)}</summary><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>")
        parts += [f"<p>{html.escape(remark)}</p>" for remark in self.remarks]
        return "\n".join(parts)


def _number(value: Any) -> float:
    """A number of scores.json, where null is NaN and infinities are text."""
    return math.nan if value is None else float(value)


def _cell(candidate: dict[str, Any], metric: str) -> str:
    if candidate["result"] not in ("measured", "weights_unchanged"):
        return candidate["result"].replace("_", " ")
    score = candidate["metrics"][metric]
    mean, low, high = (_number(score[end]) for end in ("mean", "low", "high"))
    if math.isnan(low) or math.isnan(high):
        return f"{mean:.3g}"
    return f"{mean:.3g} ({low:.2g}..{high:.2g})"


def read_scores(path: str | os.PathLike[str]) -> Scores:
    """Reads a scores.json, of klens.Scores.save or of the program klens. Raises OSError."""
    return Scores(_core.Scores.read(os.fspath(path)))
