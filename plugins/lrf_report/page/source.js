"use strict";
// Where the page's data comes from: the page itself, or the server that it came from. Both have the same functions.

function pageSource(head) {
  const index = head.overview?.samples ?? [];
  const texts = []; // of each sample its documents and answers in small letters, once they were asked for
  const has = async (place, wanted) => {
    texts[place] ??= textsOf(await unpack(`block-${place}`));
    return texts[place].includes(wanted);
  };
  return {
    searches: index.length === head.ids.length, // else the texts are in other pages
    overview: async () => head.overview,
    state: async () => null,
    samples: async (filter, order, limit, inTexts) => {
      const wanted = filter.trim().toLowerCase();
      const matches = await Promise.all(index.map(async (row, place) => !wanted
        || `${row.id}\n${row.query}`.toLowerCase().includes(wanted) || (inTexts && await has(place, wanted))));
      const rows = index.filter((_, place) => matches[place]).sort(ORDERS[order]);
      return { rows: rows.slice(0, limit), total: rows.length, complete: true };
    },
    sample: async (id) => {
      const place = head.ids.indexOf(id ?? head.ids[0]);
      if (place < 0) return null;
      const around = { previous: head.ids[place - 1] ?? null, next: head.ids[place + 1] ?? null, place: place + 1, of: head.ids.length };
      return { sample: spread(await unpack(`block-${place}`)), around };
    },
  };
}

const textsOf = (sample) => [sample.reference ?? "", ...sample.documents.map((one) => one.text), ...sample.candidates.map((one) => one.text)]
  .join("\0").toLowerCase();

function serverSource(head) {
  const ask = async (what, asked = {}) => {
    const answer = await fetch(`api/${what}?${new URLSearchParams(asked)}`, { headers: { "X-LRF-Token": head.token } });
    if (answer.status === 404) return null;
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.error);
    return value;
  };
  return {
    server: true,
    searches: true,
    overview: () => ask("overview"),
    state: () => ask("state"),
    samples: (filter, order, limit, inTexts) => ask("samples", { filter: filter.trim(), order, limit, ...(inTexts && { texts: 1 }) }),
    sample: async (id) => {
      const found = await ask("sample", { id });
      return found && { sample: spread(found.sample), around: found.around };
    },
    exchanges: (sample) => ask("exchanges", { sample }),
    exchange: (number) => ask("exchange", { number }),
    question: () => ask("question"),
    label: async (ticket, choice) => {
      const headers = { "X-LRF-Token": head.token, "Content-Type": "application/json" };
      const answer = await fetch("api/label", { method: "POST", headers, body: JSON.stringify({ ticket, choice }) });
      if (!answer.ok) throw new Error((await answer.json()).error);
    },
  };
}

const ORDERS = {
  in_order: () => 0,
  by_margin: (a, b) => (b.highest - b.lowest) - (a.highest - a.lowest),
  by_lowest: (a, b) => (a.lowest ?? 99) - (b.lowest ?? 99),
  by_unscored: (a, b) => b.unscored - a.unscored,
};

// The value of a promise as state: {value}, or {error}; null before. Made anew whenever `inputs` change.
function useLoaded(load, inputs) {
  const [state, setState] = useState(null);
  const key = JSON.stringify(inputs);
  useEffect(() => {
    let gone = false;
    load().then((value) => ({ key, value }), (error) => ({ key, error: String(error.message ?? error) })).then((next) => {
      if (!gone) setState(next);
    });
    return () => { gone = true; };
  }, [key]);
  return state?.key === key ? state : null;
}

// How far the server has read the run: {complete, state, scored}, the last two being other texts whenever there is more
// to be seen and whenever the run was scored anew. Null for a page of its own.
function useRunState(source) {
  const [state, setState] = useState(null);
  useEffect(() => {
    if (!source.server) return undefined;
    let timer = 0;
    const ask = () => source.state().then(
      (next) => { setState(next); timer = setTimeout(ask, next.complete ? 5000 : 2000); }, () => { timer = setTimeout(ask, 5000); });
    ask();
    return () => clearTimeout(timer);
  }, [source]);
  return state;
}

function Problem({ of }) {
  return html`<p class="warning" role="alert"><${Words} text=${of} /></p>`;
}
