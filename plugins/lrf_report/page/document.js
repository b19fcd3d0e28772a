"use strict";
// The documents of a sample, with evidence marked: all of it underlined, that of the chosen statement highlighted.

const BLOCK = 4000; // units of text that are laid out at once; a block out of sight costs nothing

// Where blocks of the text begin: after a line's end where there is one, else anywhere but within a character.
function blocksOf(text) {
  const starts = [0];
  for (let at = 0; text.length - at > BLOCK;) {
    const line = text.lastIndexOf("\n", at + BLOCK) + 1;
    let next = line > at ? line : at + BLOCK;
    if (/[\udc00-\udfff]/.test(text[next])) next += 1;
    starts.push(next);
    at = next;
  }
  return starts;
}

// The text from `from` to `to` cut at the ends of spans; each piece with the kinds of the spans over it.
function pieces(spans, from, to) {
  const inside = spans.filter((span) => span.start < to && span.end > from);
  const cuts = new Set([from, to]);
  for (const span of inside) {
    cuts.add(Math.max(from, span.start));
    cuts.add(Math.min(to, span.end));
  }
  const sorted = [...cuts].sort((a, b) => a - b);
  return sorted.slice(0, -1).map((start, i) => {
    const kinds = new Set(inside.filter((span) => span.start <= start && span.end > start).map((span) => span.kind));
    return { start, end: sorted[i + 1], kinds };
  });
}

function Text({ text, spans, blocks }) {
  const ends = [...blocks.slice(1), text.length];
  return blocks.map((from, i) => html`<div class="block" key=${from}>${pieces(spans, from, ends[i]).map(({ start, end, kinds }) => {
    const part = text.slice(start, end);
    if (kinds.has("closest")) return html`<mark class="closest" tabindex="-1">${part}</mark>`;
    if (kinds.has("active")) return html`<mark class="active" tabindex="-1">${part}</mark>`;
    return kinds.has("evidence") ? html`<span class="used">${part}</span>` : part;
  })}</div>`);
}

function OneDocument({ document: { id, title, text }, alone, used, chosen }) {
  const units = useMemo(() => unitsOf(text), [text]);
  const blocks = useMemo(() => blocksOf(text), [text]);
  const spans = [...used.map((span) => ({ ...span, kind: "evidence" })), ...chosen]
    .filter((span) => span.document === id)
    .map((span) => ({ ...span, start: units(span.start), end: units(span.end) }));
  return html`<article class="document" data-document=${id}>
    ${!alone && html`<h3><${Name} of=${title ?? id} /></h3>`}
    <div class="words" dir="auto"><${Text} text=${text} spans=${spans} blocks=${blocks} /></div></article>`;
}

// `chosen` is {statement, evidence, target}: what the reader clicked on; `back` returns to it.
function Documents({ documents, used, chosen, back }) {
  const pane = useRef(null);
  const spans = !chosen ? [] : [
    ...chosen.evidence.map((span) => ({ ...span, kind: "active" })),
    ...(chosen.target ? [{ ...chosen.target, kind: "closest" }] : []),
  ];
  useLayoutEffect(() => {
    const mark = pane.current?.querySelector("mark.closest") ?? pane.current?.querySelector("mark.active");
    if (!chosen || !mark) return undefined;
    const show = () => {
      if (!mark.isConnected || !pane.current) return; // another sample is shown by now
      // in the pane alone, so that the statement stays where it is
      const [at, around] = [mark.getBoundingClientRect(), pane.current.getBoundingClientRect()];
      pane.current.scrollTop += at.top - around.top - pane.current.clientHeight / 3;
    };
    show();
    mark.focus({ preventScroll: true });
    const { top, bottom } = pane.current.getBoundingClientRect();
    if (bottom < 100 || top > innerHeight - 100) pane.current.scrollIntoView({ block: "start" });
    const again = requestAnimationFrame(() => { show(); requestAnimationFrame(show); }); // blocks nearby got their real height
    return () => cancelAnimationFrame(again);
  }, [chosen]);
  return html`<section class="pane" aria-label=${t("document")} ref=${pane} tabindex="0">
    <div class="pane-head"><h2>${t("document")}</h2>
      ${chosen && html`<button class="small" onClick=${back}>← ${t("back")}</button>`}</div>
    ${documents.length ? documents.map((one) => html`<${OneDocument} key=${one.id} document=${one} alone=${documents.length === 1} used=${used} chosen=${spans} />`)
      : html`<p class="quiet">${t("no_text")}</p>`}
  </section>`;
}

// What of the documents each part saw: the evidence that was retrieved, and the chunks that were read for notes.
function Seen({ documents, used, candidates }) {
  const notes = candidates.flatMap((one) => Object.values(one.judgements).flatMap((judgement) => judgement.notes ?? []));
  const distinct = [...new Map(notes.map((note) => [`${note.document}\n${note.start}`, note])).values()];
  const shares = candidates.flatMap((one) => Object.entries(one.judgements).flatMap(([name, judgement]) =>
    Object.entries(judgement.seen ?? {}).filter(([, share]) => share < 1).map(([what, share]) => `${one.id}: ${name}: ${percent(share)} ${what}`)));
  const lengths = documents.map((one) => characters(one.text));
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (!total) return null;
  const before = new Map(documents.map((one, i) => [one.id, lengths.slice(0, i).reduce((sum, length) => sum + length, 0)]));
  const placed = (spans) => spans.filter((span) => before.has(span.document))
    .map((span) => ({ start: before.get(span.document) + span.start, end: before.get(span.document) + span.end }));
  const found = distinct.filter((note) => note.text !== null);
  const bars = [
    [t("evidence"), placed(used), `${percent(covered(placed(used), total))} ${t("saw_evidence")}`],
    [t("notes"), placed(found), distinct.length ? `${found.length} / ${distinct.length} ${t("saw_notes")}` : null],
  ].filter(([, , sentence]) => sentence);
  return html`<div class="seen"><h3>${t("seen")}</h3>
    ${bars.map(([name, spans, sentence]) => html`<div class="seen-row"><span>${name}</span>
      <span class="seen-bar" role="img" aria-label=${`${name}: ${sentence}`}>${spans.map((span) => html`<span style=${{ left: `${100 * span.start / total}%`, width: `${Math.max(0.3, 100 * (span.end - span.start) / total)}%` }}></span>`)}</span>
      <span class="quiet">${sentence}</span></div>`)}
    ${shares.length > 0 && html`<p class="warning">${t("saw")}: ${shares.slice(0, 8).join("; ")}</p>`}</div>`;
}
