"use strict";
// Where the page's data comes from: the page itself, or the server that it came from. Both have the same functions.

function pageSource(head) {
  const index = head.overview?.samples ?? [];
  return {
    overview: async () => head.overview,
    samples: async (filter, order, limit) => {
      const wanted = filter.trim().toLowerCase();
      const rows = index.filter((row) => !wanted || `${row.id}\n${row.query}`.toLowerCase().includes(wanted)).sort(ORDERS[order]);
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
    overview: () => ask("overview"),
    samples: (filter, order, limit) => ask("samples", { filter: filter.trim(), order, limit }),
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

// The value of a promise as state: {value}, or {error}; null before. Made anew whenever `inputs` change, and again
// every `again` milliseconds as long as that is asked for.
function useLoaded(load, inputs, again = 0) {
  const [state, setState] = useState(null);
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify(inputs);
  useEffect(() => {
    let gone = false;
    let timer = 0;
    load().then((value) => ({ key, value }), (error) => ({ key, error: String(error.message ?? error) })).then((next) => {
      if (gone) return;
      setState(next);
      if (again && next.value && !next.value.complete) timer = setTimeout(() => setTurn((old) => old + 1), again);
    });
    return () => { gone = true; clearTimeout(timer); };
  }, [key, turn]);
  return state?.key === key ? state : null;
}

function Problem({ of }) {
  return html`<p class="warning" role="alert"><${Words} text=${of} /></p>`;
}
