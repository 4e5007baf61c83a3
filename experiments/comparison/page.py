"""compare.html from the records: one file that needs nothing else, readable in light and dark."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments.comparison import plots, show
from experiments.comparison.style import STYLE

Record = Mapping[str, Any]


def render(records: Sequence[Record]) -> str:
    """The whole page."""
    head = show.of_kind(records, "comparison")[0]
    parts = [_header(records, head)]
    for which in show.TWIN_NAMES:
        if show.of_kind(records, "row", twin=which):
            parts.append(_matrix(records, which))
    parts += [_plots(records), _details(records), _definitions(records, head)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Multi-task against single-task: {escape(head['source'])}</title>"
        f"<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def table(
    heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], left: int = 1, name: str = ""
) -> str:
    """(class, cells) of each row; the first `left` columns are words. Cells are escaped."""
    top = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = ""
    for css, cells in rows:
        made = "".join(
            f"<td{'' if i < left else _NUMBER}>{escape(cell)}</td>" for i, cell in enumerate(cells)
        )
        body += f'<tr class="{css}">{made}</tr>\n' if css else f"<tr>{made}</tr>\n"
    return (
        f'<div class="wide"><table class="{name}"><thead><tr>{top}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )


_NUMBER = ' class="n"'


def _header(records: Sequence[Record], head: Record) -> str:
    seeds = head["seeds"]
    facts = {
        "data": f"{head['source']}, {head['train_rows']:,} training rows ({head['config']})",
        "data hash": head["data"],
        "split": f"{head['split']}, hash {head['data_split']}",
        "evaluated on": f"{head['rows']:,} rows of {head['users']:,} users",
        "tasks": ", ".join(f"{name} ({kind})" for name, kind in head["tasks"].items()),
        "combinations": ", ".join(map(show.combination, show.of_kind(records, "cost"))),
        "seeds": f"{len(seeds)} ({', '.join(map(str, seeds))})",
        "steps": f"{head['steps']:,} of {head['batch']:,} rows, for every model "
        f"({head['steps'] / head['steps_per_epoch']:.2f} passes over the training rows)",
        "trained models": f"{len(show.of_kind(records, 'run'))} on {head['device']}",
    }
    if head["beside"]:
        facts["auxiliary tasks"] = (
            f"{', '.join(head['beside'])}: in the multi-task models alone, not compared"
        )
    listed = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    told = "".join(f"<p>{line}</p>" for line in _findings(records, head))
    return (
        "<h1>Multi-task against single-task learning</h1>"
        f'<dl>{listed}</dl><section class="told">{told}</section>'
    )


def _findings(records: Sequence[Record], head: Record) -> list[str]:
    lines = []
    for which, name in show.TWIN_NAMES.items():
        rows = show.of_kind(records, "row", twin=which)
        if not rows:
            continue
        verdicts = [r["verdict"] for r in rows]
        better, worse = verdicts.count("better"), verdicts.count("worse")
        lines.append(
            f"Against single-task models of the <b>{name}</b>: of {len(rows)} pairs of task and "
            f"combination <b>{better}</b> significantly better, <b>{worse}</b> significantly worse "
            f"(negative transfer), {len(rows) - better - worse} not to be told apart."
        )
    if len(head["seeds"]) == 1:
        lines.append(
            "<b>One seed:</b> how much another seed would change is unknown. Intervals over seeds "
            'are undefined ("-"); significance speaks of users alone.'
        )
    for record in show.of_kind(records, "skipped"):
        lines.append(f"Task {escape(record['task'])} is left out: {escape(record['why'])}.")
    return lines


def _matrix(records: Sequence[Record], which: str) -> str:
    """A row for each combination, a column for each task; the twins' values lead."""
    rows = show.of_kind(records, "row", twin=which)
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    metrics = {r["task"]: (r["metric"], r["higher_is_better"]) for r in rows}
    heads = "".join(
        f"<th>{escape(t)}<small>{metrics[t][0]} {'↑' if metrics[t][1] else '↓'}</small></th>"
        for t in tasks
    )
    extra = "<th>Δm<small>%</small></th><th>step<small>ms (ratio)</small></th><th>parameters</th>"
    body = ""
    for trunks, twins in _twin_rows(records, which).items():
        cells = "".join(
            f'<td class="n">{show.value(twins[t]["value"])}'
            f"<small>{show.span(twins[t]['value_low'], twins[t]['value_high'], show.value)}</small>"
            "</td>"
            if t in twins
            else "<td></td>"
            for t in tasks
        )
        total = sum(t["parameters"] for t in twins.values())
        body += (
            f'<tr class="twins"><td>single-task{trunks}</td>{cells}<td></td><td></td>'
            f'<td class="n">{total:,}<small>all together</small></td></tr>\n'
        )
    for summary in show.of_kind(records, "summary", twin=which):
        mine = {r["task"]: r for r in rows if _same(r, summary)}
        cost = next(r for r in show.of_kind(records, "cost") if _same(r, summary))
        cells = "".join(_cell(mine[t]) for t in tasks)
        interval = show.span(summary["delta_m_low"], summary["delta_m_high"], show.percent)
        times = f"{show.milliseconds(cost['seconds_per_step'])} ({show.ratio(cost['ratio'])})"
        body += (
            f"<tr><td>{escape(show.combination(summary))}</td>{cells}"
            f'<td class="n">{show.percent(summary["delta_m"])}<small>{interval}</small></td>'
            f'<td class="n">{times}</td><td class="n">{cost["parameters"]:,}</td></tr>\n'
        )
    head = f"<tr><th>combination</th>{heads}{extra}</tr>"
    return (
        f"<h2>Against single-task models of the {show.TWIN_NAMES[which]}</h2>"
        f"<p>{_ABOUT[which]} Each cell: the mean over seeds, the difference to the single-task "
        "model and its 95 % interval over seeds (over users where there is one seed). Coloured, "
        "with ▲ or ▼: significantly better or worse after Holm's correction.</p>"
        f'<div class="wide"><table class="matrix"><thead>{head}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


_ABOUT = {
    "same_width": "Each task alone, in the same model: same towers, same trunk widths, one head.",
    "same_parameters": "Each task alone, its trunk scaled so that all single-task models have "
    "together about as many trunk and head parameters as the multi-task model.",
}


def _twin_rows(records: Sequence[Record], which: str) -> dict[str, dict[str, Record]]:
    """{"" or " (for trunk ..)": {task: twin}}: one line for each set of twins."""
    found: dict[str, dict[str, Record]] = {}
    for twin in show.of_kind(records, "twin", twin=which):
        widths = "x".join(map(str, twin["trunk_widths"]))
        trunks = ", ".join(map(escape, twin["for_trunks"]))
        name = f"<small>widths {widths}; for {trunks}</small>"
        found.setdefault(name, {})[twin["task"]] = twin
    return found


def _cell(row: Record) -> str:
    low, high = row["seeds_low"], row["seeds_high"]
    if low is None:
        low, high = row["users_low"], row["users_high"]
    mark = show.MARKS[row["verdict"]]
    told = (
        f"over users {show.span(row['users_low'], row['users_high'])}; "
        f"p (Holm) {show.probability(row['p_holm'])}"
    )
    return (
        f'<td class="n {row["verdict"]}" title="{escape(told)}">{show.value(row["value"])} {mark}'
        f"<small>{show.signed(row['difference'])}</small>"
        f"<small>{show.span(low, high)}</small></td>"
    )


def _same(one: Record, other: Record) -> bool:
    return (one["trunk"], one["balance"]) == (other["trunk"], other["balance"])


def _plots(records: Sequence[Record]) -> str:
    nothing = '<p class="nothing">{}</p>'
    unmeasured = (
        "Nothing was measured: these balancers look at losses alone, and no task gradients were "
        "taken."
    )
    some = "Nothing was measured for {}, which look at losses alone."
    telemetry = show.of_kind(records, "telemetry")
    blind = [show.combination(r) for r in telemetry if not r["cosine"]]
    note = f"<p>{escape(some.format(', '.join(blind)))}</p>" if blind else ""
    short = "Nothing was logged: the run has fewer steps than train.log_every."
    one = "There is one task, and nothing to trade."
    which = show.of_kind(records, "row")[0]["twin"] if show.of_kind(records, "row") else ""
    drawn = plots.trade_off(records, which) if which else ""
    cosines, conflicts = plots.cosines(records), plots.conflicts(records)
    return (
        "<h2>Trade-off</h2><p>Means over seeds with 95 % intervals; dashed, the single-task models "
        f"of the {show.TWIN_NAMES.get(which, '')}. Right and up is better.</p>"
        + (drawn or nothing.format(one))
        + "<h2>Task weights</h2><p>What each task's loss was multiplied by in the gradient of the "
        "shared parameters, mean over seeds.</p>"
        + (plots.weights(records) or nothing.format(short))
        + "<h2>Do gradients agree?</h2><p>Mean cosine between two tasks' gradients, over all "
        "logged steps and seeds. Negative: the tasks pull in opposite directions.</p>"
        + (cosines + note if cosines else nothing.format(unmeasured))
        + "<h2>Conflicts over the steps</h2>"
        + (conflicts + note if conflicts else nothing.format(unmeasured))
    )


def _details(records: Sequence[Record]) -> str:
    parts = []
    for which, name in show.TWIN_NAMES.items():
        rows = show.of_kind(records, "row", twin=which)
        if rows:
            made = [(r["verdict"], show.row_cells(r)) for r in rows]
            parts.append(
                f"<h3>Against the {name}</h3>" + table(show.ROW_HEADS, made, 3, f"rows {which}")
            )
    heads = ("run", "seed", "values", "ms a step", "parameters", "in trunk and heads", "in tables")
    runs = []
    for run in show.of_kind(records, "run"):
        values = ", ".join(f"{task} {show.value(v)}" for task, v in run["values"].items())
        runs.append(
            (
                "",
                (
                    run["run"],
                    str(run["seed"]),
                    values,
                    show.milliseconds(run["seconds_per_step"]),
                    f"{run['parameters']:,}",
                    f"{run['heads']:,}",
                    f"{run['tables']:,}",
                ),
            )
        )
    parts.append(
        f"<details><summary>All {len(runs)} runs</summary>{table(heads, runs, 3, 'runs')}</details>"
    )
    return "<h2>All numbers</h2>" + "".join(parts)


def _definitions(records: Sequence[Record], head: Record) -> str:
    matched = [
        f"{escape(trunk)}: widths {'x'.join(map(str, m['widths']))} of "
        f"{'x'.join(map(str, head['trunk_widths']))}, {m['found']:,} parameters in all "
        f"single-task trunks and heads, {m['wanted']:,} in the multi-task model's "
        f"({m['found'] / m['wanted']:.2f})"
        for trunk, m in head["matched"].items()
    ]
    counts = {w: len(show.of_kind(records, "row", twin=w)) for w in show.TWIN_NAMES}
    items = {
        "Same for all": "Steps, batch size, optimiser, schedule, the rows of every batch and "
        "their order (by seed), prepared data. Batch k of a single-task model holds the rows of "
        "batch k of the multi-task model of that seed, labelled for its task or not. The state "
        "after the last step is used; later rows are not looked at before that. No hyperparameter "
        "was tuned for either side.",
        "Same width": "The configuration with one task of weight 1, a shared_bottom trunk (with "
        "one task nothing is shared).",
        "Same number of parameters": "The same, with trunk widths times one factor. Counted are "
        "trunk and heads; towers and embedding tables are whole in every single-task model and "
        "left out of the count. "
        + (
            "; ".join(matched)
            or "Not made here: not asked for, or the trunk's widths change nothing"
        )
        + ".",
        "Over seeds": "Paired t: the difference of two models of one seed, its mean over seeds, "
        "Student's t with n - 1 degrees of freedom. It asks whether training again would show the "
        "same, for these users.",
        "Over users": f"Paired bootstrap, {head['replicates']:,} resamples of users with all their "
        "rows, the same for all models (of rows, where a source has no users). Inside each "
        "resample the metric's difference is averaged over seeds: no seed is picked, and "
        "averaged predictions would be an ensemble that nobody trained. Percentiles 2.5 and "
        "97.5; p is twice the smaller share of resamples on one side of 0. It asks whether other "
        "users would show the same, for these models.",
        "p (Holm)": "The larger of the two p (a difference counts only if neither seeds nor users "
        "explain it; of the one that is defined, where one is), corrected by Holm's step-down over "
        "all tasks and combinations against one kind of twin: "
        + ", ".join(f"{n} tests ({show.TWIN_NAMES[w]})" for w, n in counts.items() if n)
        + ". Significant: below .05.",
        "Negative transfer": "A task that is significantly worse in the multi-task model than "
        "alone (▼).",
        "Δm": "Maninis et al. (2019): mean over tasks of (-1)^l (M_m - M_b) / M_b in percent, M_m "
        "of the combination, M_b of the single-task model of that seed, l = 1 where lower is "
        "better; then mean and t interval over seeds. The standard definition is kept for AUC "
        "too, whose floor is .5 and not 0: a change from .75 to .76 counts 1.3 %, though it is 4 % "
        "of what lies above chance. Undefined where some M_b is not above 0.",
        "Step": "Milliseconds of a training step, data loading included: median of "
        f"the spans of {head['log_every']} steps, without the first one after a start (it "
        "compiles), mean over "
        f"seeds. In brackets: over {head['plain']} on the same trunk. Fair where nothing else ran "
        "on the machine.",
        "Parameters": "All that is trained, without embedding tables.",
    }
    listed = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in items.items())
    return f'<h2>Exact definitions</h2><dl class="definitions">{listed}</dl>'
