"use strict";
// Labelling: answers without their names, in a random order, beside the documents; which of two is better, or a rating.

function Label({ source }) {
  const [turn, setTurn] = useState(0);
  const [problem, setProblem] = useState(null);
  const loaded = useLoaded(() => source.question(), [turn]);
  const question = loaded?.value;
  const choose = (choice) => source.label(question.ticket, choice)
    .then(() => { setProblem(null); setTurn(turn + 1); scrollTo(0, 0); }, (error) => setProblem(error.message));
  useLayoutEffect(() => {
    const press = (event) => {
      if (!question || event.ctrlKey || event.metaKey || event.altKey || TYPED.test(event.target.tagName)) return;
      const choice = question.choices[question.choices.findIndex((one) => keyOf(question, one) === event.key)];
      if (choice !== undefined || event.key === "s") choose(choice ?? null);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
  if (!loaded) return html`<p role="status">${t("loading")}</p>`;
  if (loaded.error) return html`<${Problem} of=${loaded.error} />`;
  if (!question) return html`<h1>${t("label")}</h1><p>${t("all_labelled")}</p>`;
  const rates = question.kind === "ratings";
  return html`<h1>${t("label")}</h1><p class="quiet">${t(rates ? "rate_how" : "label_how")} <span role="status">${whole(question.done)} ${t("done")}</span></p>
    ${problem && html`<${Problem} of=${problem} />`}
    <${Words} key=${question.ticket} text=${question.query} class="query" />
    <div class="beside" key=${`beside ${question.ticket}`}><${Documents} documents=${question.documents} used=${[]} chosen=${null} back=${null} />
      <div class=${rates ? "answers one" : "answers"}>${question.answers.map((text, i) => html`<article class="candidate" aria-label=${rates ? t("answer") : "AB"[i]}>
        <header><h2>${rates ? t("answer") : "AB"[i]}</h2>${!rates && html`<button onClick=${() => choose(i)}>${t("better")} <kbd>${keyOf(question, i)}</kbd></button>`}</header>
        ${rates && html`<div class="scale" role="group" aria-label=${t("rating")}><span class="quiet">${t("worst")}</span>
          ${question.choices.map((choice) => html`<button onClick=${() => choose(choice)}>${choice}</button>`)}<span class="quiet">${t("best")}</span></div>`}
        <div class="words" dir="auto">${text}</div></article>`)}
        <button onClick=${() => choose(null)}>${t("pass_over")} <kbd>s</kbd></button></div></div>`;
}

// The key of a choice: a and b for the two answers, the number itself for a rating.
const keyOf = (question, choice) => (question.kind === "ratings" ? String(choice) : "ab"[choice]);
