"use strict";
// The report's data: JSON, compressed, in base64, in elements that no browser executes.

async function unpack(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// A sample's facts with its spans as {document, start, end} again.
function spread(sample) {
  const span = (brief) => brief && { document: sample.documents[brief[0]]?.id, start: brief[1], end: brief[2] };
  const statement = (of) => {
    of.evidence = of.evidence.map(span);
    of.closest = span(of.closest);
    for (const quotation of of.quotations ?? []) quotation.span = span(quotation.span);
    if (of.first) statement(of.first);
  };
  for (const candidate of sample.candidates) {
    for (const judgement of Object.values(candidate.judgements)) (judgement.statements ?? []).forEach(statement);
  }
  return sample;
}

// From offsets in characters (code points, as Python counts) to offsets in the units of a JavaScript string.
function unitsOf(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (offset) => offset;
  const wide = []; // the offsets, in characters, of characters that take two units
  let characters = 0;
  for (let unit = 0; unit < text.length; unit += 1, characters += 1) {
    if (text.codePointAt(unit) > 0xffff) {
      wide.push(characters);
      unit += 1;
    }
  }
  return (offset) => {
    let [low, high] = [0, wide.length]; // the number of wide characters before the offset
    while (low < high) {
      const middle = (low + high) >> 1;
      if (wide[middle] < offset) low = middle + 1;
      else high = middle;
    }
    return offset + low;
  };
}

function characters(text) {
  return text.length - (text.match(/[\ud800-\udbff][\udc00-\udfff]/g) || []).length;
}

// The share of `length` that spans cover together.
function covered(spans, length) {
  let [sum, end] = [0, 0];
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    sum += Math.max(0, span.end - Math.max(end, span.start));
    end = Math.max(end, span.end);
  }
  return length ? sum / length : 0;
}

const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const whole = (value) => (typeof value === "number" ? value.toLocaleString(language ? "zh" : "en") : String(value ?? "–"));
const percent = (share) => `${Math.round(100 * share)}%`;

const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

function route() {
  try {
    return location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  } catch {
    return [""];
  }
}
