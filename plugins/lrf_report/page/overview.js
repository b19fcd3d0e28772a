"use strict";
// The run's figures: alarms first, then what ran, what came of it and what it cost.

function Overview({ of }) {
  const rho = of.correlations.find((pair) => pair.a === "reward" && pair.b === "length")?.rho ?? null;
  return html`<h1><${Name} of=${of.run.name} /></h1>
    <${Section} title=${t("alarms")}>${of.alarms.length || of.run.message || of.run.without_texts
      ? html`<ul class="alarms">${[of.run.message, of.run.without_texts, ...of.alarms].filter(Boolean).map((alarm) => html`<li><${Words} text=${alarm} /></li>`)}</ul>`
      : html`<p>${t("no_alarm")}</p>`}<//>
    <${Facts} of=${of} />
    ${of.unscored.length > 0 && html`<${Section} title=${t("unscored_why")}>
      <${Table} caption=${t("unscored_why")} head=${[t("dimension"), t("reason"), t("candidates"), "", t("help")]}
        rows=${of.unscored.map((row) => [row.dimension, row.reason, whole(row.candidates), row.sentence, row.help])} /><//>`}
    ${of.audit && html`<${Audit} of=${of.audit} />`}
    <${Section} title=${t("distributions")}><div class="charts">
      ${Object.entries(of.histograms).map(([name, one]) => {
        return html`<${Histogram} name=${labelled(name)} title=${labelled(name)} of=${one}
          sentence=${`${t("mean")} ${number(one.mean)}, ${whole(one.rated)} ${t("candidates")}`} />`;
      })}</div><//>
    <${Section} title=${t("by_length")}><div class="charts">
      <${Correlations} of=${of.correlations} /><${Scatter} of=${of.scatter} rho=${rho} /></div><//>
    <${Section} title=${t("ties")}><div class="charts">
      <${Histogram} name=${t("margin")} title=${t("margin")} of=${{ bins: of.margins }} sentence=${`${t("equal_pairs")}: ${whole(of.equal_pairs.equal)} / ${whole(of.equal_pairs.pairs)}. ${t("tied_best")}: ${whole(of.tied_best)}.`} /></div>
      ${Object.keys(of.left_out).length > 0 && html`<h3>${t("left_out")}</h3><${Table} caption=${t("left_out")} head=${[t("reason"), t("samples")]} numbers=${1}
        rows=${Object.entries(of.left_out).map(([reason, count]) => [reason, whole(count)])} />`}<//>
    <${Calls} of=${of.calls} money=${of.money} />
    <details><summary>${t("settings")}</summary><pre class="words" tabindex="0">${of.run.settings}</pre></details>`;
}

const share = (of) => (typeof of?.value === "number" ? `${number(of.value, 3)}${typeof of.low === "number" ? ` [${number(of.low, 3)}, ${number(of.high, 3)}]` : ""}` : "–");

function Audit({ of }) {
  const rows = Object.entries(of.judges).map(([name, one]) => [html`<${Name} of=${name} />`, share(one.balanced_accuracy), share(one.pairwise), whole(one.n)]);
  return html`<${Section} title=${t("audit")}>
    <${Table} caption=${t("audit")} numbers=${1} rows=${rows} head=${[t("judges"), t("balanced"), t("above"), t("statements")]} />
    <p class="quiet">${t("guessing")}</p>
    ${of.other_judges && html`<p class="warning">${t("other_judges")}</p>`}
    ${of.not_better_than.length > 0 && html`<p class="warning">${t("not_better")} ${of.not_better_than.join(", ")}</p>`}
    ${of.alarms.length > 0 && html`<p class="warning">${t("alarms")}: ${of.alarms.join(", ")}</p>`}<//>`;
}

function Facts({ of }) {
  const { run } = of;
  const ran = [
    [t("status"), run.status ?? "–"], [t("seconds"), whole(run.seconds)],
    ...run.judges.map((judge) => [`${t("judges")}: ${judge.name}`, `${judge.type ?? ""} ${judge.model ?? ""}`]),
    [t("version"), `lrf ${run.lrf ?? "–"}, Python ${run.python ?? "–"}`],
  ];
  const counts = Object.entries(of.counts).flatMap(([stage, figures]) => Object.entries(figures)
    .filter(([name]) => COUNTS.has(name)).map(([name, value]) => [stage, name.replaceAll("_", " "), whole(value)]));
  return html`<div class="two"><${Section} title=${t("what_ran")}><${Table} caption=${t("what_ran")} head=${[t("figure"), t("value")]}
      rows=${ran.map(([name, value]) => [html`<${Name} of=${name} />`, html`<${Name} of=${value} />`])} /><//>
    <${Section} title=${t("in_out")}><${Table} caption=${t("in_out")} head=${[t("stage"), t("figure"), t("value")]} rows=${counts} numbers=${2} /><//></div>`;
}

const COUNTS = new Set(["rows", "samples", "bad_rows", "candidates", "drawn", "scored", "unscored", "faults", "asked_again", "pairs", "left_out", "steps"]);

const paid = (amounts) => Object.entries(amounts ?? {}).map(([currency, amount]) => `${number(amount, 4)} ${currency}`).join(", ") || "–";

function Calls({ of, money }) {
  const unpriced = Object.entries(money?.unpriced_calls ?? {}).map(([model, calls]) => `${model}: ${whole(calls)}`).join(", ");
  const rows = Object.entries(of.by_dimension).map(([name, one]) => [
    html`<${Name} of=${name} />`, whole(one.replies), whole(one.again), whole(one.cut_off), whole(one.prompt_tokens),
    one.prompt_tokens ? percent(one.cached_tokens / one.prompt_tokens) : "–", whole(one.completion_tokens), paid(money?.by_dimension?.[name]),
  ]);
  if (!rows.length) return null;
  const sum = (key) => of.over_time.reduce((total, part) => total + part[key], 0);
  return html`<${Section} title=${t("cost")}>
    <${Table} caption=${t("cost")} numbers=${1} rows=${rows} head=${[t("dimension"), t("replies"), t("again"), t("cut_off"), t("prompt"), t("cached"), t("written"), t("money")]} />
    <p>${t("money")}: ${paid(money?.spent)}${unpriced ? ` (${t("no_price")} ${unpriced})` : ""}</p>
    <div class="charts">
      <${Lines} title=${t("over_time")} of=${of.over_time} x="second" xLabel=${t("seconds")} lines=${[{ key: "in_flight", name: t("in_flight") }]} />
      <${Lines} title=${t("latency")} of=${of.over_time} gaps=${true} x="second" xLabel=${t("seconds")} lines=${[{ key: "median_s", name: "50%" }, { key: "p95_s", name: "95%" }]} />
      <${Lines} title=${t("troubles")} of=${of.over_time} x="second" xLabel=${t("seconds")} sentence=${`${t("again")}: ${whole(sum("again"))}; ${t("faults")}: ${whole(sum("unanswered"))}`}
        lines=${[{ key: "again", name: t("again") }, { key: "unanswered", name: t("faults") }]} /></div>
    ${of.unanswered.length > 0 && html`<h3>${t("faults")}</h3><${Table} caption=${t("faults")} numbers=${2} head=${[t("dimension"), t("reason"), t("calls")]}
      rows=${of.unanswered.map((row) => [row.dimension, row.reason, whole(row.calls)])} />`}<//>`;
}

const PAGE = 100;

function Samples({ source, state }) {
  const [filter, setFilter] = useState("");
  const [inTexts, setInTexts] = useState(false);
  const [order, setOrder] = useState("in_order");
  const [most, setMost] = useState(PAGE);
  const before = useRef({ rows: [], total: 0 });
  const loaded = useLoaded(() => source.samples(filter, order, most, inTexts), [filter, order, most, inTexts, state]);
  if (loaded?.value) before.current = loaded.value;
  const { rows, total, problem } = before.current; // the last answer stays until the next one is there
  return html`<h1>${t("samples")}</h1>
    <div class="filters"><label>${t("filter")} <input id="filter" type="search" value=${filter} onInput=${(event) => { setFilter(event.target.value); setMost(PAGE); }} /></label>
      ${source.searches && html`<label><input type="checkbox" checked=${inTexts} onChange=${() => setInTexts(!inTexts)} /> ${t("in_texts")}</label>`}
      <label>${t("sort")} <select onChange=${(event) => setOrder(event.target.value)}>${Object.keys(ORDERS).map((key) => html`<option value=${key} selected=${key === order}>${t(key)}</option>`)}</select></label>
      <span class="quiet" role="status">${whole(rows.length)} / ${whole(total)} ${t("shown")}${loaded?.value?.complete === false ? `; ${t("reading")}` : ""}</span></div>
    ${(loaded?.error ?? problem) && html`<${Problem} of=${loaded?.error ?? problem} />`}
    ${rows.length ? html`<${Table} caption=${t("samples")} head=${[t("samples"), t("question"), t("candidates"), t("highest"), t("lowest"), t("unscored")]}
      rows=${rows.map((row) => [
        html`<a href=${(row.page ? row.page.split("/").map(encodeURIComponent).join("/") : "") + link("sample", row.id)}><${Name} of=${row.id} /></a>`,
        html`<span dir="auto">${row.query}</span>`, whole(row.candidates), number(row.highest), number(row.lowest), row.unscored || ""])} />` : loaded && html`<p>${t("none_match")}</p>`}
    ${total > rows.length && html`<button onClick=${() => setMost(most + PAGE)}>${t("more")}</button>`}`;
}

const CURVES = [
  ["loss", ["loss", "ce"]], ["margin", ["margin"]], ["accuracy", ["accuracy"]], ["log p", ["chosen_logp", "rejected_logp"]],
  ["Δ log p", ["chosen_logp_delta"]], ["gradient norm", ["grad_norm"]], ["learning rate", ["learning_rate"]],
  ["GiB", ["memory_gib", "peak_memory_gib"]], ["tokens / s", ["tokens_per_second", "tokens_per_s"]],
];

// A figure with four digits that count, however small.
const small = (value) => (typeof value === "number" && !Number.isInteger(value) && Math.abs(value) < 1 ? value.toPrecision(4) : whole(value));

function Training({ of, figures }) {
  const last = Object.entries(figures ?? {});
  if (figures?.tokens && figures?.seconds) last.push(["tokens a second", Math.round(figures.tokens / figures.seconds)]);
  return html`<h1>${t("training")}</h1>${Object.entries(of).map(([trainer, steps]) => html`<${Section} title=${trainer}><div class="charts">
    ${CURVES.map(([title, keys]) => html`<${Lines} title=${title} of=${steps} x="step" xLabel=${t("step")} lines=${keys.map((key) => ({ key, name: key.replaceAll("_", " ") }))} />`)}</div><//>`)}
    ${last.length > 0 && html`<${Section} title=${t("outcome")}><${Table} caption=${t("outcome")} numbers=${1} head=${[t("figure"), t("value")]} rows=${last.map(([name, value]) => [name.replaceAll("_", " "), small(value)])} /><//>`}`;
}

function Comparison({ of }) {
  const changes = Object.entries(of.differences).map(([name, one]) => [html`<${Name} of=${labelled(name)} />`, signed(one.mean), number(one.mean_absolute), whole(one.candidates)]);
  const costs = ["calls", "tokens", "seconds"].map((key) => [t(key === "tokens" ? "written" : key) , whole(of.cost.other[key]), whole(of.cost.run[key])]);
  costs[1][0] = language ? "令牌" : "Tokens";
  return html`<h1>${t("against")} <${Name} of=${of.other} /></h1>
    <div class="two"><${Section} title=${t("changed")}>${of.settings.length ? html`<ul>${of.settings.map((line) => html`<li><code dir="auto">${clipped(line, 400)}</code></li>`)}</ul>` : html`<p>${t("same_settings")}</p>`}<//>
    <${Section} title=${t("reward")}>
      <p>${t("rank_correlation")}: ${number(of.rank_correlation)}. ${t("same_best")}: ${of.same_best === null ? "–" : percent(of.same_best)}.</p>
      <p>${t("pairs")}: ${whole(of.pairs.other)} → ${whole(of.pairs.run)}; ${whole(of.pairs.same)} ${t("same_pairs")}, ${whole(of.pairs.turned_round)} ${t("turned")}.</p>
      <${Table} caption=${t("reward")} numbers=${1} head=${[t("dimension"), t("mean_change"), t("mean_absolute"), t("candidates")]} rows=${changes} />
      <${Table} caption=${t("cost")} numbers=${1} head=${[t("cost"), t("before"), t("now")]} rows=${costs} /><//></div>
    <${Section} title=${t("moved")}><${Table} caption=${t("moved")} numbers=${9} head=${[t("samples"), t("question"), t("candidate"), t("before"), t("now"), "ρ"]}
      rows=${of.moved.map((row) => [html`<a href=${link("sample", row.id, row.candidate)}><${Name} of=${row.id} /></a>`, html`<span dir="auto">${row.query}</span>`, html`<${Name} of=${row.candidate} />`, number(row.before), number(row.reward), number(row.rho)])} /><//>`;
}

const signed = (value) => `${value > 0 ? "+" : ""}${number(value)}`;
