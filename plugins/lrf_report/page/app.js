"use strict";
// The page: its head with the ways to its parts, and the part that the address names.

function Load({ source, id, candidate, scored }) {
  const loaded = useLoaded(() => source.sample(id), [id, scored]);
  const around = loaded?.value?.around;
  useLayoutEffect(() => {
    const press = (event) => {
      const way = around && { n: around.next, p: around.previous }[event.key];
      if (typeof way === "string" && !TYPED.test(event.target.tagName) && !event.ctrlKey && !event.metaKey && !event.altKey) location.hash = link("sample", way);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [around]);
  if (!loaded) return html`<p role="status">${t("loading")}</p>`;
  if (loaded.error) return html`<${Problem} of=${loaded.error} />`;
  if (!loaded.value) return html`<p>${t("none_match")} <${Name} of=${id} /></p>`;
  return html`<${Sample} key=${`${around.place} ${candidate}`} of=${loaded.value.sample} wanted=${candidate} around=${around} />
    <${Exchanges} source=${source} id=${loaded.value.sample.id} />`;
}

const TYPED = /^(INPUT|SELECT|TEXTAREA)$/;

// The parts that are made of the run's figures.
function Figures({ source, part, state }) {
  const [seen, setSeen] = useState(state); // the state of the run whose figures were asked for: not again before they came
  const loaded = useLoaded(() => source.overview(), [part, seen]);
  const late = loaded !== null && state !== seen;
  const latest = useRef(state);
  latest.current = state;
  useEffect(() => {
    if (!late) return undefined;
    const timer = setTimeout(() => setSeen(latest.current), 3000);
    return () => clearTimeout(timer);
  }, [late]);
  const before = useRef(null);
  if (loaded?.value) before.current = loaded.value;
  if (loaded?.error) return html`<${Problem} of=${loaded.error} />`;
  const overview = before.current;
  if (!overview) return html`<p role="status">${t("loading")}</p>`;
  if (part === "training") return html`<${Training} of=${overview.training} figures=${overview.counts.train} />`;
  if (part === "comparison" && overview.comparison) return html`<${Comparison} of=${overview.comparison} />`;
  return html`${overview.complete === false && html`<p class="quiet" role="status">${t("reading")}</p>`}<${Overview} of=${overview} />`;
}

function Page({ head, source, place }) {
  const state = useRunState(source);
  const [part, first, second] = place;
  if (part === "sample" || !(head.overview || head.server)) return html`<${Load} source=${source} id=${first} candidate=${second} scored=${state?.scored} />`;
  if (part === "samples") return html`<${Samples} source=${source} state=${state?.state} />`;
  if (part === "label" && head.labels) return html`<${Label} source=${source} />`;
  return html`<${Figures} source=${source} part=${part} state=${state?.state} />`;
}

const THEMES = ["light dark", "light", "dark"];

function App({ head, source }) {
  const [place, setPlace] = useState(route);
  const [shown, setLanguage] = useState(language);
  const [theme, setTheme] = useState(0);
  language = shown;
  const main = useRef(null);
  useLayoutEffect(() => {
    const moved = () => { setPlace(route()); scrollTo(0, 0); main.current?.focus({ preventScroll: true }); };
    const press = (event) => {
      if (event.key !== "/" || TYPED.test(event.target.tagName)) return;
      event.preventDefault();
      location.hash = link("samples");
      setTimeout(() => document.getElementById("filter")?.focus(), 50);
    };
    addEventListener("hashchange", moved);
    addEventListener("keydown", press);
    return () => { removeEventListener("hashchange", moved); removeEventListener("keydown", press); };
  }, []);
  useEffect(() => { document.documentElement.lang = shown ? "zh" : "en"; }, [shown]);
  useEffect(() => { document.documentElement.style.colorScheme = THEMES[theme]; }, [theme]);
  const { overview } = head;
  const ways = !overview && !head.server ? [] : [
    ["", "overview"], ["samples", "samples"],
    ...(head.server || Object.keys(overview.training).length ? [["training", "training"]] : []),
    ...(overview?.comparison ? [["comparison", "comparison"]] : []),
    ...(head.labels ? [["label", "label"]] : []),
  ];
  const here = place[0] === "sample" ? "samples" : place[0];
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${t("skip")}</a>
    <header class="top"><strong><${Name} of=${head.name} /></strong>
      <nav aria-label="lrf">${head.home ? html`<a href=${`${head.home.split("/").map(encodeURIComponent).join("/")}#/samples`}>${t("home")}</a>`
        : ways.map(([way, key]) => html`<a href=${link(way)} aria-current=${here === way ? "page" : null}>${t(key)}</a>`)}</nav>
      <span class="controls"><button class="small" lang=${shown ? "en" : "zh"} onClick=${() => setLanguage(1 - shown)}>${t("language")}</button>
        <button class="small" onClick=${() => setTheme((theme + 1) % 3)} aria-label=${`${t("theme")}: ${["auto", "light", "dark"][theme]}`}>${["◐", "☀", "☾"][theme]}</button></span></header>
    <main id="main" ref=${main} tabindex="-1"><${Page} head=${head} source=${source} place=${place} /></main>
    <footer class="quiet"><p>${t("keys")}</p></footer>`;
}

unpack("head").then((head) => {
  const source = head.server ? serverSource(head) : pageSource(head);
  libraries.render(html`<${App} head=${head} source=${source} />`, document.getElementById("app"));
});
