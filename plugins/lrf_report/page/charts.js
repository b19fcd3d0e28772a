"use strict";
// Charts, each with a sentence that says what is to be seen and with its numbers as a table.

// The name of a score: the reward, the length of the answer, or a dimension's rating.
function labelled(name) {
  return name === "reward" ? t("reward") : name === "length" ? t("length") : name.replace("rating: ", "");
}

function Chart({ title, sentence, draw, head, rows, legend = [] }) {
  const place = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measure = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    measure.observe(place.current);
    return () => measure.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (!width) return;
    const svg = libraries.plot({ width, height: 200, marginBottom: 36, style: { background: "none", fontSize: "12px" }, ...draw() });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title}. ${sentence}`);
    for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
    for (const part of svg.querySelectorAll("g")) part.setAttribute("aria-hidden", "true");
    place.current.replaceChildren(svg);
  });
  return html`<figure><h3>${title}</h3>
    ${legend.length > 0 && html`<div class="legend" aria-hidden="true">${legend.map((name, i) => html`<span style=${{ "--swatch": COLOURS[i] }}>${name}</span>`)}</div>`}<div class="chart" ref=${place}></div>
    <figcaption>${sentence}</figcaption>
    <details><summary>${t("as_table")}</summary><${Table} head=${head} rows=${rows} caption=${title} numbers=${1} /></details>
  </figure>`;
}

function Histogram({ name, title, of, sentence }) {
  const width = 10 / of.bins.length;
  const bars = of.bins.map((count, i) => ({ x1: i * width, x2: (i + 1) * width, count }));
  return html`<${Chart} title=${title ?? name} sentence=${sentence}
    draw=${() => ({
      height: 140, x: { domain: [0, 10], label: null }, y: { label: null, grid: true, ticks: counts(Math.max(1, ...of.bins)), tickFormat: String },
      marks: [libraries.rectY(bars, { x1: "x1", x2: "x2", y: "count", fill: "var(--accent)", insetLeft: 1 }), libraries.ruleY([0])],
    })}
    head=${[name, t("candidates")]}
    rows=${bars.filter((bar) => bar.count).map((bar) => [`${bar.x1}–${bar.x2}`, whole(bar.count)])} />`;
}

// Ticks of an axis of counts: whole numbers, four steps at most.
function counts(most) {
  const step = Math.max(1, Math.ceil(most / 4));
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

function Correlations({ of }) {
  const label = labelled;
  const cells = of.filter((pair) => pair.rho !== null)
    .flatMap((pair) => [{ a: label(pair.a), b: label(pair.b), rho: pair.rho }, { a: label(pair.b), b: label(pair.a), rho: pair.rho }]);
  const names = [...new Set(of.flatMap((pair) => [label(pair.a), label(pair.b)]))];
  const strongest = [...of].filter((pair) => pair.rho !== null).sort((a, b) => Math.abs(b.rho) - Math.abs(a.rho))[0];
  if (!strongest) return null;
  return html`<${Chart} title=${t("correlations")}
    sentence=${`${t("correlation")}: ${label(strongest.a)} / ${label(strongest.b)} ${number(strongest.rho)}`}
    draw=${() => ({
      height: 40 * names.length + 40, marginLeft: 110, marginBottom: 80,
      x: { domain: names, label: null, tickRotate: -35 }, y: { domain: names, label: null },
      marks: [
        libraries.cell(cells, { x: "a", y: "b", fill: "var(--accent)", fillOpacity: (cell) => Math.abs(cell.rho) * 0.5, inset: 1 }),
        libraries.text(cells, { x: "a", y: "b", text: (cell) => number(cell.rho), fill: "currentColor" }),
      ],
    })}
    head=${["", "", "ρ"]} rows=${of.map((pair) => [label(pair.a), label(pair.b), number(pair.rho)])} />`;
}

function Scatter({ of, rho }) {
  const rows = of.map(([length, reward, sample, candidate]) => ({ length, reward, sample, candidate }));
  return html`<${Chart} title=${t("by_length")} sentence=${`${t("correlation")}: ${number(rho)}`}
    draw=${() => ({
      x: { label: t("characters"), grid: true }, y: { domain: [0, 10], label: t("reward"), grid: true },
      marks: [libraries.dot(rows, { x: "length", y: "reward", r: 2.5, fill: "var(--accent)", fillOpacity: 0.55 })],
    })}
    head=${[t("samples"), t("candidate"), t("characters"), t("reward")]}
    rows=${rows.slice(0, 200).map((row) => [row.sample, row.candidate, whole(row.length), number(row.reward)])} />`;
}

const brief = (value) => (value && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(0) : String(value));

const COLOURS = ["var(--accent)", "var(--second)", "var(--third)"];

// One or several lines over steps or seconds; each of `lines` is {key, name}. With `gaps` a line ends where it has no number.
function Lines({ title, of, x, xLabel, lines, sentence, gaps = false }) {
  const known = lines.filter((line) => of.some((row) => typeof row[line.key] === "number"));
  if (!known.length) return null;
  const points = known.flatMap((line) => of.filter((row) => gaps || typeof row[line.key] === "number")
    .map((row) => ({ x: row[x], y: row[line.key] ?? NaN, line: line.name })));
  const last = known.map((line) => {
    const row = of.findLast((candidate) => typeof candidate[line.key] === "number");
    return `${line.name} ${row[line.key].toPrecision(4)}`;
  }).join(", ");
  return html`<${Chart} title=${title} sentence=${sentence ?? last}
    legend=${known.length > 1 ? known.map((line) => line.name) : []}
    draw=${() => ({
      marginLeft: 52, x: { label: xLabel }, y: { label: null, grid: true, nice: true, ticks: 5, tickFormat: brief },
      color: { domain: known.map((line) => line.name), range: COLOURS },
      marks: [
        libraries.lineY(points, { x: "x", y: "y", stroke: "line", strokeWidth: 1.8 }),
        libraries.dot(points.length > 60 && !gaps ? [] : points, { x: "x", y: "y", fill: "line", r: 2.5 }),
      ],
    })}
    head=${[xLabel, ...known.map((line) => line.name)]}
    rows=${of.map((row) => [whole(row[x]), ...known.map((line) => (typeof row[line.key] === "number" ? row[line.key].toPrecision(4) : "–"))])} />`;
}
