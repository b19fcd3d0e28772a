"use strict";
// One sample: its candidates ranked and side by side, with the reasons of their ratings, beside the documents.

const level = (support) => (support >= 0.99 ? "fully" : support <= 0.01 ? "unsupported" : "partly");
const SIGNS = { fully: "✓", partly: "≈", unsupported: "✗" };
const plain = ({ document, start, end }) => ({ document, start, end });

function Statement({ of, choose, chosen }) {
  const button = useRef(null);
  const how = level(of.support);
  const quotations = of.quotations ?? [];
  const quotes = (span) => quotations.some((one) => one.span && one.span.document === span.document && one.span.start < span.end && one.span.end > span.start);
  const go = (target) => choose({ statement: of, evidence: of.evidence, target, from: button.current });
  return html`<li class="statement ${how} ${chosen?.statement === of ? "chosen" : ""}">
    <button class="claim" ref=${button} disabled=${!of.evidence.length && !of.closest} onClick=${() => go(of.closest)} title=${t("go_evidence")}>
      <span class="verdict" aria-label=${t(how)}>${SIGNS[how]}</span><span class="claim-text" dir="auto">${clipped(of.text)}</span></button>
    <details><summary>${clipped(of.verdict, 60)}${of.attribution === "not_retrieved" ? ` · ${t("not_retrieved")}` : ""}</summary>
      ${of.analysis && html`<${Words} text=${of.analysis} class="quiet" />`}
      ${quotations.filter((one) => !one.span).map((one) => html`<p class="warning">${t("not_found")}: <bdi>${clipped(one.text)}</bdi></p>`)}
      ${of.first && html`<p>${t("first")}: ${clipped(of.first.verdict, 60)}</p>`}
      <${Votes} of=${of.votes} />
      <ul class="chips">${of.evidence.map((span, i) => html`<li><button class="small" onClick=${() => go(span)}>${t("evidence")} ${i + 1}: ${quotes(span) ? t("quoted") : quotations.length ? t("not_quoted") : `${whole(span.start)}–${whole(span.end)}`}</button></li>`)}</ul>
      ${!of.evidence.length && !of.closest && html`<p class="quiet">${t("no_evidence")}</p>`}
    </details></li>`;
}

const clipped = (text, most = SHORT) => {
  const value = String(text ?? "");
  return value.length > most ? `${value.slice(0, most).replace(/[\ud800-\udbff]$/, "")}…` : value;
};

function Votes({ of }) {
  if (!of?.length) return null;
  return html`<p class="quiet">${t("votes")}: ${of.map((vote) => `${clipped(vote.judge, 40)} #${vote.repeat + 1}: ${clipped(JSON.stringify(vote.value), 80)}`).join("; ")}</p>`;
}

function Unscored({ of }) {
  return html`<p class="warning"><strong>${of.reason}</strong>: ${clipped(of.detail)}</p>
    ${of.help && html`<p>${t("help")}: <span lang="en">${of.help}</span></p>`}`;
}

// The items of a rubric, the costliest first.
function Items({ of }) {
  const lost = (item) => (item.score === null ? Infinity : (item.weight < 0 ? item.score : 1 - item.score) * Math.abs(item.weight));
  const rows = [...of].sort((a, b) => lost(b) - lost(a)).map((item) => [
    html`<${Name} of=${item.item} />`, item.gate ? t("gate") : number(item.weight, 1),
    item.score === null ? `${t("unscored")}: ${item.reason}` : number(item.score)]);
  return html`<${Table} caption=${t("items")} head=${[t("items"), t("weight"), t("item_score")]} numbers=${1} rows=${rows} />`;
}

function Dimension({ name, of, choose, chosen }) {
  const statements = [...(of.statements ?? [])].sort((a, b) => a.support - b.support);
  const notes = (of.notes ?? []).filter((note) => note.text);
  return html`<section class="dimension" aria-label=${name}>
    <h4><${Name} of=${name} /> <span class="number">${of.unscored ? t("unscored") : number(of.rating)}</span>
      ${of.spread ? html`<span class="quiet"> ± ${number(of.spread)} ${t("spread")}</span>` : ""}</h4>
    ${of.unscored && html`<${Unscored} of=${of.unscored} />`}
    ${of.reply_mode === "rubric" && Array.isArray(of.extra?.items) && html`<${Items} of=${of.extra.items} />`}
    ${of.analysis && html`<${Words} text=${of.analysis} class="quiet" />`}
    <${Votes} of=${of.votes} />
    ${statements.length > 0 && html`<ul class="statements">${statements.map((one) => html`<${Statement} of=${one} choose=${choose} chosen=${chosen} />`)}</ul>`}
    ${notes.length > 0 && html`<details><summary>${t("notes")} (${notes.length})</summary><ul class="chips">${notes.map((note) =>
      html`<li><button class="small" onClick=${(event) => choose({ statement: note, evidence: [plain(note)], target: plain(note), from: event.currentTarget })}>${whole(note.start)}–${whole(note.end)}</button><${Words} text=${note.text} class="quiet" /></li>`)}</ul></details>`}
  </section>`;
}

const cost = (judgement) => (judgement.unscored ? -1 : judgement.rating);

function Candidate({ of, choose, chosen }) {
  const judgements = Object.entries(of.judgements).sort((a, b) => cost(a[1]) - cost(b[1]));
  return html`<article class="candidate" aria-label=${`${t("candidate")} ${clipped(of.id, 60)}`}>
    <header><h3><span class="rank">${of.rank ?? "–"}</span> <${Name} of=${of.id} /></h3><span class="big">${number(of.reward)}</span></header>
    ${of.source && html`<p class="quiet"><${Name} of=${of.source} /></p>`}
    ${Object.entries(of.ratings).map(([name, value]) => html`<${Meter} name=${name} value=${value} />`)}
    ${of.unscored && !Object.hasOwn(of.judgements, of.unscored.dimension) && html`<${Unscored} of=${of.unscored} />`}
    ${of.text ? html`<div class="answer"><${Words} text=${of.text} /></div>` : html`<p class="quiet">${t("no_text")}</p>`}
    ${judgements.map(([name, judgement]) => html`<${Dimension} name=${name} of=${judgement} choose=${choose} chosen=${chosen} />`)}
  </article>`;
}

function Picker({ of, shown, toggle }) {
  const names = Object.keys(of[0]?.ratings ?? {});
  const rows = of.map((one, i) => [
    html`<label><input type="checkbox" checked=${shown.has(i)} onChange=${() => toggle(i)} /> <span class="hidden">${t("show")}</span> ${one.rank ?? "–"}</label>`,
    html`<${Name} of=${one.id} />`, number(one.reward), ...names.map((name) => number(one.ratings[name])),
    one.unscored ? `${one.unscored.dimension}: ${one.unscored.reason}` : "",
  ]);
  return html`<${Table} caption=${t("candidates")} numbers=${2} rows=${rows}
    head=${[t("rank"), t("candidate"), t("reward"), ...names.map((name) => html`<${Name} of=${name} />`), ""]} />`;
}

// The candidates shown at first: the one that the address names, else the best and the worst.
function firstShown(candidates, wanted) {
  const named = candidates.findIndex((one) => one.id === wanted);
  if (named >= 0) return new Set([named]);
  const scored = candidates.map((one, i) => (one.rank === null ? -1 : i)).filter((i) => i >= 0);
  const last = scored.at(-1) ?? candidates.length - 1;
  return new Set(candidates.length ? [0, last] : []);
}

function Sample({ of, wanted, around }) {
  const [shown, setShown] = useState(() => firstShown(of.candidates, wanted));
  const [chosen, setChosen] = useState(null);
  const toggle = (i) => setShown((old) => new Set(old.has(i) ? [...old].filter((other) => other !== i) : [...old, i]));
  const visible = of.candidates.filter((_, i) => shown.has(i));
  const used = useMemo(() => visible.flatMap((one) => Object.values(one.judgements)
    .flatMap((judgement) => (judgement.statements ?? []).flatMap((statement) => statement.evidence))), [shown]);
  const back = () => {
    chosen?.from?.focus();
    chosen?.from?.scrollIntoView({ block: "center" });
    setChosen(null);
  };
  useLayoutEffect(() => {
    const press = (event) => event.key === "Escape" && chosen && back();
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
  return html`<div class="sample">
    <nav class="around" aria-label=${t("samples")}>
      ${around.previous === null ? "" : html`<a href=${link("sample", around.previous)}>← ${t("previous")}</a>`}
      <span class="quiet">${around.place} / ${around.of}</span>
      ${around.next === null ? "" : html`<a href=${link("sample", around.next)}>${t("next")} →</a>`}</nav>
    <h1><${Name} of=${of.id} /></h1>
    <${Words} text=${of.query} class="query" />
    ${of.reference && html`<details><summary>${t("reference")}</summary><${Words} text=${of.reference} /></details>`}
    <${Picker} of=${of.candidates} shown=${shown} toggle=${toggle} />
    <${Seen} documents=${of.documents} used=${used} candidates=${visible} />
    <p class="quiet">${t("legend")}</p>
    <div class="beside">
      <${Documents} documents=${of.documents} used=${used} chosen=${chosen} back=${back} />
      <div class="answers">${visible.map((one) => html`<${Candidate} key=${of.candidates.indexOf(one)} of=${one} choose=${setChosen} chosen=${chosen} />`)}</div>
    </div></div>`;
}
