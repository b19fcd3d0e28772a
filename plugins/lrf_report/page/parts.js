"use strict";
// Small parts that several pages use. All text goes in as text: nothing of the data is markup.
const { html, useEffect, useLayoutEffect, useMemo, useRef, useState } = libraries;

const SHORT = 1200; // characters that are shown of a long text before a button shows the rest

// A text of the data: in its own direction, with its own line breaks, and of a long one the beginning.
function Words({ text, class: name = "" }) {
  const [all, setAll] = useState(false);
  const value = String(text ?? "");
  const long = value.length > SHORT * 1.3;
  const shown = long && !all ? `${value.slice(0, SHORT).replace(/[\ud800-\udbff]$/, "")} …` : value;
  const label = all ? t("less") : `${t("all_of_it")} (${whole(value.length)} ${t("characters")})`;
  return html`<div class="words ${name}" dir="auto">${shown}</div>
    ${long && html`<button class="small" onClick=${() => setAll(!all)}>${label}</button>`}`;
}

// A name or an id of the data, kept apart from the direction of what is around it.
function Name({ of }) {
  const value = String(of ?? "–");
  return html`<bdi class="name">${value.length > 120 ? `${value.slice(0, 120)}…` : value}</bdi>`;
}

function Table({ head, rows, caption, numbers = 99 }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    <table><caption class="hidden">${caption}</caption>
      <thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr>${row.map((cell, i) =>
        html`<td class=${i >= numbers ? "number" : typeof cell === "string" && cell.length > 24 ? "text" : ""} dir=${typeof cell === "string" ? "auto" : null}>${cell}</td>`)}</tr>`)}</tbody>
    </table></div>`;
}

function Section({ title, children, id }) {
  return html`<section id=${id} aria-label=${title}><h2>${title}</h2>${children}</section>`;
}

// A rating as a bar with its number.
function Meter({ name, value }) {
  const missing = value === null || value === undefined;
  return html`<div class="meter"><span class="meter-name"><${Name} of=${name} /></span>
    <span class="meter-track" aria-hidden="true"><span class="meter-fill" style=${{ width: `${missing ? 0 : Math.max(0, Math.min(100, 10 * value))}%` }}></span></span>
    <span class="number">${missing ? t("unscored") : number(value)}</span></div>`;
}
