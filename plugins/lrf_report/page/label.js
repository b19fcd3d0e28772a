"use strict";
// Labelling: two answers without their names, in a random order, beside the documents.

function Label({ source }) {
  const [turn, setTurn] = useState(0);
  const [problem, setProblem] = useState(null);
  const loaded = useLoaded(() => source.question(), [turn]);
  const question = loaded?.value;
  const choose = (choice) => source.label(question.ticket, choice)
    .then(() => { setProblem(null); setTurn(turn + 1); scrollTo(0, 0); }, (error) => setProblem(error.message));
  useLayoutEffect(() => {
    const press = (event) => {
      const choice = { a: 0, b: 1, s: null }[event.key];
      if (choice !== undefined && question && !event.ctrlKey && !event.metaKey && !event.altKey) choose(choice);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
  if (!loaded) return html`<p role="status">${t("loading")}</p>`;
  if (loaded.error) return html`<${Problem} of=${loaded.error} />`;
  if (!question) return html`<h1>${t("label")}</h1><p>${t("all_labelled")}</p>`;
  return html`<h1>${t("label")}</h1><p class="quiet">${t("label_how")} ${whole(question.done)} ${t("done")}</p>
    ${problem && html`<${Problem} of=${problem} />`}
    <${Words} key=${question.ticket} text=${question.query} class="query" />
    <div class="beside" key=${`beside ${question.ticket}`}><${Documents} documents=${question.documents} used=${[]} chosen=${null} back=${null} />
      <div class="answers">${question.answers.map((text, i) => html`<article class="candidate" aria-label=${"AB"[i]}>
        <header><h2>${"AB"[i]}</h2><button onClick=${() => choose(i)}>${t("better")} (${"ab"[i]})</button></header>
        <div class="words" dir="auto">${text}</div></article>`)}
        <button onClick=${() => choose(null)}>${t("pass_over")} (s)</button></div></div>`;
}
