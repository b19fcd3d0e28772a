"use strict";
// What judges were asked about a sample and what they replied, word for word.

function Exchange({ source, of }) {
  const [open, setOpen] = useState(false);
  const loaded = useLoaded(async () => (open ? source.exchange(of.number) : null), [of.number, open]);
  const name = `${of.dimension} · ${of.kind}${of.attempt ? ` · ${t("again")} ${of.attempt}` : ""}${of.repeat ? ` · #${of.repeat + 1}` : ""}`;
  return html`<li><details onToggle=${(event) => setOpen(event.target.open)}><summary><${Name} of=${name} /> · ${number(of.seconds)} s · ${of.finish}</summary>
    ${loaded?.error && html`<${Problem} of=${loaded.error} />`}
    ${loaded?.value && html`<h4>${t("asked")}</h4><${Words} text=${loaded.value.prompt} class="quiet" />
      ${loaded.value.reasoning && html`<h4>${t("reasoning")}</h4><${Words} text=${loaded.value.reasoning} class="quiet" />`}
      <h4>${t("replied")}</h4><${Words} text=${loaded.value.reply} />`}</details></li>`;
}

function Exchanges({ source, id }) {
  const [open, setOpen] = useState(false);
  const loaded = useLoaded(async () => (open ? source.exchanges(id) : null), [id, open]);
  if (!source.server) return null;
  return html`<details class="exchanges" onToggle=${(event) => event.target.open && setOpen(true)}><summary>${t("exchanges")}</summary>
    ${loaded?.error && html`<${Problem} of=${loaded.error} />`}
    ${loaded?.value && html`<ul class="chips">${loaded.value.map((one) => html`<${Exchange} key=${one.number} source=${source} of=${one} />`)}</ul>`}
  </details>`;
}
