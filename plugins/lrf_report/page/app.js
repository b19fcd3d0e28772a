"use strict";
// The page: its head with the ways to its parts, and the part that the address names.

function Load({ ids, id, candidate, name }) {
  const place = ids.indexOf(id);
  const [loaded, setLoaded] = useState(null);
  const sample = loaded?.place === place ? loaded.value : null;
  useEffect(() => {
    let gone = false;
    if (place >= 0) unpack(`block-${place}`).then((value) => gone || setLoaded({ place, value: spread(value) }));
    return () => { gone = true; };
  }, [place]);
  useEffect(() => {
    const press = (event) => {
      const way = { n: ids[place + 1], p: ids[place - 1] }[event.key];
      if (way !== undefined && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && !event.ctrlKey && !event.metaKey && !event.altKey) location.hash = link("sample", way);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [place]);
  if (place < 0) return html`<p>${t("none_match")} <${Name} of=${name} /></p>`;
  if (!sample) return html`<p role="status">${t("loading")}</p>`;
  const around = { previous: ids[place - 1], next: ids[place + 1], place: `${place + 1} / ${ids.length}` };
  return html`<${Sample} key=${`${place} ${candidate}`} of=${sample} wanted=${candidate} around=${around} />`;
}

function Page({ head, place, setLanguage, setTheme }) {
  const [part, first, second] = place;
  const { overview } = head;
  if (part === "sample" || !overview) {
    return html`<${Load} ids=${head.ids} id=${first ?? head.ids[0]} candidate=${second} name=${first} />`;
  }
  if (part === "samples") return html`<${Samples} of=${overview.samples} />`;
  if (part === "training") return html`<${Training} of=${overview.training} figures=${overview.counts.train} />`;
  if (part === "comparison" && overview.comparison) return html`<${Comparison} of=${overview.comparison} />`;
  return html`<${Overview} of=${overview} />`;
}

const THEMES = ["light dark", "light", "dark"];

function App({ head }) {
  const [place, setPlace] = useState(route);
  const [shown, setLanguage] = useState(language);
  const [theme, setTheme] = useState(0);
  language = shown;
  const main = useRef(null);
  useEffect(() => {
    const moved = () => { setPlace(route()); scrollTo(0, 0); main.current?.focus({ preventScroll: true }); };
    const press = (event) => {
      if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
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
  const ways = !overview ? [] : [
    ["", "overview"], ["samples", "samples"],
    ...(Object.keys(overview.training).length ? [["training", "training"]] : []),
    ...(overview.comparison ? [["comparison", "comparison"]] : []),
  ];
  const here = place[0] === "sample" ? "samples" : place[0];
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${t("skip")}</a>
    <header class="top"><strong><${Name} of=${head.name} /></strong>
      <nav aria-label="lrf">${head.home ? html`<a href=${`${head.home.split("/").map(encodeURIComponent).join("/")}#/samples`}>${t("home")}</a>`
        : ways.map(([way, key]) => html`<a href=${link(way)} aria-current=${here === way ? "page" : null}>${t(key)}</a>`)}</nav>
      <span class="controls"><button class="small" lang=${shown ? "en" : "zh"} onClick=${() => setLanguage(1 - shown)}>${t("language")}</button>
        <button class="small" onClick=${() => setTheme((theme + 1) % 3)} aria-label=${`${t("theme")}: ${["auto", "light", "dark"][theme]}`}>${["◐", "☀", "☾"][theme]}</button></span></header>
    <main id="main" ref=${main} tabindex="-1"><${Page} head=${head} place=${place} /></main>
    <footer class="quiet"><p>${t("keys")}</p></footer>`;
}

unpack("head").then((head) => libraries.render(html`<${App} head=${head} />`, document.getElementById("app")));
